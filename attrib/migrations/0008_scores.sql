-- What every training question contributed, by method, and arms that are trained to check it.

-- What an arm's questions were scored with; asked for with other settings, scores are made anew.
CREATE TABLE attributions (
    arm_id       VARCHAR NOT NULL,
    method       VARCHAR NOT NULL,
    params       JSON NOT NULL,
    projection_r DOUBLE,           -- of visits: correlation of projected scores with exact ones; NULL where nothing is projected
    seconds      DOUBLE NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE visit_scores (
    arm_id       VARCHAR NOT NULL,
    method       VARCHAR NOT NULL,
    visit        BIGINT NOT NULL,
    question_id  VARCHAR NOT NULL,
    evaluated_on VARCHAR NOT NULL, -- held-out | held-out:relation=…
    score        DOUBLE NOT NULL
);

CREATE TABLE question_scores (
    arm_id       VARCHAR NOT NULL,
    method       VARCHAR NOT NULL,
    question_id  VARCHAR NOT NULL,
    evaluated_on VARCHAR NOT NULL,
    score        DOUBLE NOT NULL   -- sum over visits; 0 for a question that took no part
);

CREATE TABLE pair_scores (
    arm_id      VARCHAR NOT NULL,
    method      VARCHAR NOT NULL,
    question_id VARCHAR NOT NULL,
    held_out_id VARCHAR NOT NULL,
    score       DOUBLE NOT NULL
);

-- Arms that check scores: not part of what the experiment compares, so not among its `arm_roles`.
CREATE TABLE retrainings (
    experiment_id VARCHAR NOT NULL,
    arm_id        VARCHAR NOT NULL,
    role          VARCHAR NOT NULL, -- random-subset | keep | remove
    method        VARCHAR NOT NULL, -- that ranked the questions; random for random-subset
    fraction      DOUBLE NOT NULL,  -- of the training questions
    seed          BIGINT NOT NULL
);

-- How well scores foretell what retraining gives: linear datamodel scores over the arms of role random-subset.
CREATE TABLE validations (
    experiment_id VARCHAR NOT NULL,
    method        VARCHAR NOT NULL,
    measure       VARCHAR NOT NULL, -- gain | log-probability | log-probability-by-question
    value         DOUBLE,           -- NULL: all predictions or all measurements are equal
    low           DOUBLE,
    high          DOUBLE,
    subsets       INTEGER NOT NULL,
    questions     INTEGER NOT NULL  -- held-out ones behind a measurement
);

-- Training with only, or without, the questions that a method scores highest.
CREATE TABLE curves (
    experiment_id VARCHAR NOT NULL,
    role          VARCHAR NOT NULL, -- keep | remove
    method        VARCHAR NOT NULL,
    fraction      DOUBLE NOT NULL,  -- of the training questions that is kept or removed
    statistic     VARCHAR NOT NULL, -- gain | difference_random: less the gain with as many random questions
    value         DOUBLE NOT NULL,
    low           DOUBLE NOT NULL,
    high          DOUBLE NOT NULL,
    seeds         INTEGER NOT NULL,
    questions     INTEGER NOT NULL
);
