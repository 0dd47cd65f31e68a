-- One study. Identities are content hashes (see docs/store.md). One writer at a time is guaranteed by the lock file,
-- so the large tables carry no index: they are loaded with an anti-join instead.

CREATE TABLE imports (
    dataset     VARCHAR PRIMARY KEY,
    path        VARCHAR NOT NULL,
    file_hash   VARCHAR NOT NULL,
    rows        BIGINT NOT NULL,
    dropped     JSON NOT NULL,          -- [{"row": …, "reason": …}]
    imported_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE questions (
    question_id VARCHAR PRIMARY KEY,
    dataset     VARCHAR NOT NULL,
    split       VARCHAR NOT NULL CHECK (split IN ('train', 'held-out')),
    text        VARCHAR NOT NULL,
    answers     VARCHAR[] NOT NULL,
    answer_type VARCHAR NOT NULL CHECK (answer_type IN ('name', 'code', 'number')),
    subject     VARCHAR,
    relation    VARCHAR,
    fact_id     VARCHAR NOT NULL,
    popularity  BIGINT,
    flags       VARCHAR[] NOT NULL,
    answers_hash VARCHAR NOT NULL       -- a verdict holds for these accepted answers only
);

CREATE TABLE sample_sets (
    sample_set_id VARCHAR PRIMARY KEY,
    model         VARCHAR NOT NULL,     -- as the user named it
    engine        VARCHAR NOT NULL,
    prompt        VARCHAR NOT NULL,
    params        JSON NOT NULL,        -- everything that changes the distribution, weight hash included
    seed          BIGINT NOT NULL,
    reproducible  BOOLEAN NOT NULL DEFAULT true, -- is a rollout a function of seed, question and index alone?
    command       VARCHAR NOT NULL DEFAULT 'attrib sample', -- continues it; takes --n
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    used_at       TIMESTAMPTZ NOT NULL DEFAULT now() -- the newest is what commands take by default
);

-- The questions a sample set was asked to answer, written before the first rollout: what an
-- interrupted run still owes is known without asking again.
CREATE TABLE selections (
    sample_set_id VARCHAR NOT NULL,
    question_id   VARCHAR NOT NULL
);

CREATE TABLE rollouts (
    sample_set_id VARCHAR NOT NULL,
    question_id   VARCHAR NOT NULL,
    rollout       INTEGER NOT NULL,     -- index 0, 1, 2, …: any prefix is a fair sample
    text          VARCHAR NOT NULL,
    token_ids     INTEGER[] NOT NULL,   -- end-of-sequence token included
    tokens        INTEGER NOT NULL,
    logprob       DOUBLE,               -- of the drawn tokens, under the model at temperature 1
    finish_reason VARCHAR NOT NULL CHECK (finish_reason IN ('stop', 'length', 'error'))
);

CREATE TABLE verdicts (
    question_id  VARCHAR NOT NULL,
    answers_hash VARCHAR NOT NULL,
    text         VARCHAR NOT NULL,
    truncated    BOOLEAN NOT NULL,
    grader       VARCHAR NOT NULL,      -- fingerprint: name, version and the relations' answer universes
    verdict      VARCHAR NOT NULL CHECK (verdict IN ('correct', 'incorrect', 'ungraded', 'failed')),
    detail       VARCHAR NOT NULL
);

CREATE TABLE bucketings (
    bucketing_id  VARCHAR PRIMARY KEY,
    sample_set_id VARCHAR NOT NULL,
    grader        VARCHAR NOT NULL,
    k             INTEGER NOT NULL,
    cuts          JSON NOT NULL,        -- {"rarely": 0.0625, "sometimes": 0.5}, fractions of k
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    used_at       TIMESTAMPTZ NOT NULL DEFAULT now() -- the newest is what commands take by default
);

CREATE TABLE buckets (
    bucketing_id VARCHAR NOT NULL,
    question_id  VARCHAR NOT NULL,
    n            INTEGER NOT NULL,
    correct      INTEGER NOT NULL,
    bucket       VARCHAR NOT NULL,      -- never-correct | rarely-correct | sometimes-correct | mostly-correct | always-correct
    p_low        DOUBLE NOT NULL,       -- exact 95 % interval of the question's success probability
    p_high       DOUBLE NOT NULL
);

-- A training run is known by what it was trained on and how; which experiment asked for it, and in which role, is a
-- separate matter, so that one run can serve several roles (with two buckets, "only A" is "all but B").
CREATE TABLE training_runs (
    arm_id       VARCHAR PRIMARY KEY,
    method       VARCHAR NOT NULL,      -- base | grpo
    seed         BIGINT NOT NULL,
    params       JSON NOT NULL,
    questions    INTEGER NOT NULL,      -- number of distinct training questions
    status       VARCHAR NOT NULL CHECK (status IN ('running', 'done', 'exhausted', 'failed')),
    detail       VARCHAR NOT NULL DEFAULT '',
    updates      INTEGER NOT NULL DEFAULT 0,
    rollouts     BIGINT NOT NULL DEFAULT 0,
    wall_seconds DOUBLE NOT NULL DEFAULT 0,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE experiments (
    experiment_id VARCHAR PRIMARY KEY,
    bucketing_id  VARCHAR NOT NULL,
    params        JSON NOT NULL,        -- settings shared by the arms
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    used_at       TIMESTAMPTZ NOT NULL DEFAULT now() -- the newest is what commands take by default
);

CREATE TABLE arm_roles (
    experiment_id VARCHAR NOT NULL,
    arm_id        VARCHAR NOT NULL,
    subset        VARCHAR NOT NULL,     -- bucket name; 'full' for the full arm, 'none' for the base
    role          VARCHAR NOT NULL,     -- base | full | only | all-but
    PRIMARY KEY (experiment_id, arm_id, subset, role)
);

CREATE VIEW arms AS
SELECT run.arm_id, place.experiment_id, experiment.bucketing_id, run.method, place.subset, place.role, run.seed,
       run.params, run.questions, run.status, run.detail, run.updates, run.rollouts, run.wall_seconds
FROM training_runs AS run
JOIN arm_roles AS place USING (arm_id)
JOIN experiments AS experiment USING (experiment_id);

CREATE TABLE updates (
    arm_id             VARCHAR NOT NULL,
    step               INTEGER NOT NULL, -- 1 for the first optimiser step
    loss               DOUBLE NOT NULL,
    rollouts           INTEGER NOT NULL, -- drawn for this update, uninformative groups included
    informative_groups INTEGER NOT NULL,
    gradient_tokens    INTEGER NOT NULL,
    gradient_norm      DOUBLE NOT NULL,
    seconds            DOUBLE NOT NULL
);

CREATE TABLE visits (
    arm_id          VARCHAR NOT NULL,
    step            INTEGER NOT NULL,
    question_id     VARCHAR NOT NULL,
    rollouts        INTEGER NOT NULL,
    correct         INTEGER NOT NULL,
    informative     BOOLEAN NOT NULL,   -- holds both a right and a wrong rollout
    gradient_weight DOUBLE NOT NULL     -- sum over rollouts of |advantage| x loss weight; 0 if it took no part
);

CREATE TABLE evaluations (
    arm_id      VARCHAR NOT NULL,
    step        INTEGER NOT NULL,
    question_id VARCHAR NOT NULL,
    decoding    VARCHAR NOT NULL,       -- greedy
    rollout     INTEGER NOT NULL,
    text        VARCHAR NOT NULL,
    verdict     VARCHAR NOT NULL CHECK (verdict IN ('correct', 'incorrect', 'ungraded', 'failed')),
    detail      VARCHAR NOT NULL,
    eval_grader VARCHAR NOT NULL
);

CREATE TABLE effects (
    experiment_id VARCHAR NOT NULL,
    subset        VARCHAR NOT NULL,
    role          VARCHAR NOT NULL,
    statistic     VARCHAR NOT NULL,     -- accuracy | gain | share | mcnemar_p
    value         DOUBLE,               -- NULL: undefined
    low           DOUBLE,
    high          DOUBLE,
    seeds         INTEGER NOT NULL,
    questions     INTEGER NOT NULL,
    PRIMARY KEY (experiment_id, subset, role, statistic)
);
