-- Arms with several seeds, budgets and baselines.

-- How far an arm had come when it was evaluated: `fraction` of its budget, and what that took. Arms are compared at the
-- largest planned fraction that all of them reached. The base has one milestone at fraction 0.
CREATE TABLE milestones (
    arm_id             VARCHAR NOT NULL,
    fraction           DOUBLE NOT NULL,
    step               INTEGER NOT NULL,  -- updates until then
    visits             BIGINT NOT NULL,
    rollouts           BIGINT NOT NULL,
    informative_groups BIGINT NOT NULL,   -- that a gradient was taken from
    gradient_tokens    BIGINT NOT NULL,   -- distinct tokens that carried it
    seconds            DOUBLE NOT NULL
);

ALTER TABLE visits ADD COLUMN visit BIGINT;        -- 0 for the first visit of the run
ALTER TABLE evaluations ADD COLUMN logprob DOUBLE; -- of a sampled response, under the arm's model

-- Where probability lies before and after an arm, by teacher forcing.
CREATE TABLE masses (
    arm_id      VARCHAR NOT NULL,
    question_id VARCHAR NOT NULL,
    greedy_rank INTEGER NOT NULL,  -- worst rank among the tokens of the best accepted answer; 1: greedy decoding gives it
    logprob     DOUBLE NOT NULL,   -- of the best accepted answer, its end included
    mass_low    DOUBLE NOT NULL,   -- probability of all accepted answers in their plain form: a lower bound
    entropy     DOUBLE             -- of the response, in nats, estimated from the sampled ones; NULL without samples
);

DROP TABLE effects;
CREATE TABLE effects (
    experiment_id VARCHAR NOT NULL,
    subset        VARCHAR NOT NULL,
    role          VARCHAR NOT NULL,
    statistic     VARCHAR NOT NULL,     -- see docs/store.md
    evaluated_on  VARCHAR NOT NULL,     -- held-out | train:BUCKET | the name of another data set
    fraction      DOUBLE NOT NULL,      -- of the budget
    value         DOUBLE,               -- NULL: undefined
    low           DOUBLE,
    high          DOUBLE,
    seeds         INTEGER NOT NULL,
    questions     INTEGER NOT NULL,
    detail        VARCHAR NOT NULL DEFAULT '' -- why it is undefined
);

-- Accuracy of every arm and seed wherever it was evaluated.
CREATE VIEW accuracies AS
SELECT arm_id, milestone.fraction, evaluation.step, question.dataset, question.split, decoding,
       count(DISTINCT question_id) AS questions,
       count(*) FILTER (verdict IN ('correct', 'incorrect')) AS graded,
       count(*) FILTER (verdict = 'correct') AS correct
FROM evaluations AS evaluation
JOIN questions AS question USING (question_id)
LEFT JOIN milestones AS milestone USING (arm_id, step)
GROUP BY ALL;

-- When each question of an arm first got a right rollout.
CREATE VIEW first_rewards AS
SELECT arm_id, question_id, count(*) AS visits, count(*) FILTER (correct > 0) AS rewarded_visits,
       count(*) FILTER (informative) AS informative_visits,
       min(step) FILTER (correct > 0) AS first_rewarded_step,
       min(visit) FILTER (correct > 0) AS first_rewarded_visit
FROM visits GROUP BY arm_id, question_id;
