-- Attempts by choice are the exact expectation over all orders of guessing, and so is the chance of the first guess.
ALTER TABLE trials ALTER attempts TYPE DOUBLE;
ALTER TABLE trials ADD COLUMN first_right DOUBLE;  -- probability that the first guess is right
UPDATE trials SET first_right = CASE WHEN attempts = 1 THEN 1 ELSE 0 END WHERE attempts IS NOT NULL;
ALTER TABLE attempt_counts ADD COLUMN first_right DOUBLE;  -- sum over the trials; `attempts` is rounded
UPDATE attempt_counts SET first_right = CASE WHEN attempts = 1 THEN trials ELSE 0 END WHERE attempts IS NOT NULL;
ALTER TABLE problem_results ADD COLUMN first_right DOUBLE;  -- mean over the trials
UPDATE problem_results SET first_right = CASE WHEN attempts <= 1 THEN 1 ELSE 0 END;
CREATE OR REPLACE VIEW counted_trials AS
SELECT trials.* FROM trials JOIN bundles ON bundles.sha256 = trials.bundle_sha256 WHERE bundles.replicate = 0;
