-- How long evaluated responses are, and how probable right ones are in whatever words.

ALTER TABLE evaluations ADD COLUMN tokens INTEGER; -- drawn, the end token included; NULL where it was not noted
ALTER TABLE masses ADD COLUMN mass_found DOUBLE;   -- mass_low with the phrasings; NULL where there were no samples

-- Distinct right responses of the base to held-out questions: the phrasings that count in masses.mass_found.
CREATE TABLE phrasings (
    arm_id      VARCHAR NOT NULL,   -- of the base that said it
    question_id VARCHAR NOT NULL,
    token_ids   INTEGER[] NOT NULL, -- as drawn, to the end of the response
    times       INTEGER NOT NULL    -- how many of its samples said it
);
