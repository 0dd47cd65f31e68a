-- Which scores were held against retraining: a hash of the scored arms and of what each was scored with. Rows about
-- scores that were made anew since, or about other arms, are told apart by it.
ALTER TABLE validations ADD COLUMN scores_id VARCHAR;
ALTER TABLE curves ADD COLUMN scores_id VARCHAR;
