-- Never-correct questions of which the accepted answers, rather than the model, may be at fault.

CREATE TABLE suspects (
    bucketing_id VARCHAR NOT NULL,
    question_id  VARCHAR NOT NULL,
    reason       VARCHAR NOT NULL, -- dominant-answer | near-miss | too-long
    detail       VARCHAR NOT NULL
);
