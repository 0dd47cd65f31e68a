-- What every visit drew: distinct graded rollouts and how often each came. A run is repeated from these for scores.
CREATE TABLE visit_rollouts (
    arm_id    VARCHAR NOT NULL,
    visit     BIGINT NOT NULL,
    text      VARCHAR NOT NULL,
    token_ids INTEGER[] NOT NULL,
    correct   BOOLEAN NOT NULL,
    draws     INTEGER NOT NULL
);
