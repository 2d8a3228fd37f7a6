-- What pages count, made when trials come in: over ten million trials each would take seconds to count again.
-- `number` is the order in which bundles were summarised. Those of a run lie together, so that a reader skips the rest.
CREATE TABLE bundle_numbers (
    sha256 VARCHAR PRIMARY KEY,
    number BIGINT NOT NULL
);
CREATE TABLE attempt_counts (
    number BIGINT NOT NULL,
    condition VARCHAR NOT NULL,
    attempts INTEGER,                   -- NULL where nothing was guessed
    solved BOOLEAN,
    failed BOOLEAN NOT NULL,            -- the trial has an error
    trials BIGINT NOT NULL
);
CREATE TABLE problem_results (
    number BIGINT NOT NULL,
    condition VARCHAR NOT NULL,
    problem_id VARCHAR NOT NULL,
    truth VARCHAR,
    attempts DOUBLE NOT NULL,           -- median over the seeds
    relevance DOUBLE,                   -- of what retrieval brought back
    tokens DOUBLE                       -- mean of in and out
);

CREATE OR REPLACE VIEW phase_trials AS
SELECT u.run_id, u.phase, sum(a.trials)::BIGINT AS trials,
       coalesce(sum(a.trials) FILTER (a.failed), 0)::BIGINT AS failed
FROM units u JOIN bundles b USING (unit_id) JOIN bundle_numbers s USING (sha256) JOIN attempt_counts a USING (number)
WHERE b.replicate = 0 GROUP BY ALL;
