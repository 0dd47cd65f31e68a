-- Data sets from files, and why questions are taken for one fact.

ALTER TABLE imports ADD COLUMN preset VARCHAR; -- how the files are laid out

-- One link less than a fact has questions; together they join all of them.
CREATE TABLE fact_links (
    question_id VARCHAR NOT NULL, -- was there before, or came first
    other_id    VARCHAR NOT NULL,
    rule        VARCHAR NOT NULL  -- same-question | same-entities
);
