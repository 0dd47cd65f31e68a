-- Which command made or continued something, with which versions and on which machine. One row for each combination,
-- so that work that went on elsewhere, or with other flags, shows.
CREATE TABLE provenance (
    made_id        VARCHAR NOT NULL, -- id of a sample set, bucketing, experiment or training run
    command        VARCHAR NOT NULL,
    environment_id VARCHAR NOT NULL, -- content hash of `environment`
    environment    JSON NOT NULL,    -- what `attrib env` shows
    began_at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
