-- Results of one unit from several hosts (replicate, audit), compared trial by trial when they come in.
-- A row for each pair of bundles, condition and problem; experiments.protocol.agreement has the rule.
CREATE TABLE comparisons (
    unit_id VARCHAR NOT NULL,
    first_sha256 VARCHAR NOT NULL,      -- of the bundle that came first
    second_sha256 VARCHAR NOT NULL,
    condition VARCHAR NOT NULL,
    problem_id VARCHAR NOT NULL,
    trials BIGINT NOT NULL,             -- equal + within_tolerance + near_ties + differing
    equal BIGINT NOT NULL,
    within_tolerance BIGINT NOT NULL,
    near_ties BIGINT NOT NULL,
    differing BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,           -- of the first trial that differs, else of the first trial
    difference VARCHAR                  -- the first place where that trial differs
);

-- By phase and pair of hosts, each with its first result of a unit; one host twice: a repeat in another process.
-- The interval is Wilson's, 95 %, of the number of trials that counts when trials of one problem depend on each other:
-- trials / design effect, the variance of the share over problems against that of independent trials. Without spread, the
-- number of problems.
CREATE VIEW host_agreement AS
WITH placed AS (
    SELECT sha256, unit_id, host, row_number() OVER (PARTITION BY unit_id, host ORDER BY replicate) AS nth FROM bundles
),
each AS (
    SELECT u.run_id, u.phase, least(a.host, b.host) AS host, greatest(a.host, b.host) AS other, c.problem_id,
           list(DISTINCT c.unit_id) AS unit_ids, sum(c.trials) AS trials, sum(c.equal) AS equal,
           sum(c.within_tolerance) AS within_tolerance, sum(c.near_ties) AS near_ties, sum(c.differing) AS differing
    FROM comparisons c JOIN units u USING (unit_id) JOIN placed a ON a.sha256 = c.first_sha256
    JOIN placed b ON b.sha256 = c.second_sha256
    WHERE a.host = b.host OR (a.nth = 1 AND b.nth = 1) GROUP BY ALL
),
summed AS (
    SELECT run_id, phase, host, other, len(list_distinct(flatten(list(unit_ids)))) AS units, count(*) AS problems,
           sum(trials)::BIGINT AS trials, sum(equal)::BIGINT AS equal, sum(within_tolerance)::BIGINT AS within_tolerance,
           sum(near_ties)::BIGINT AS near_ties, sum(differing)::BIGINT AS differing, sum(differing) / sum(trials) AS share,
           sum(differing * differing) AS dd, sum(differing * trials) AS dt, sum(trials * trials) AS tt
    FROM each GROUP BY ALL HAVING sum(trials) > 0
),
spread AS (
    SELECT *, problems / greatest(problems - 1, 1) * (dd - 2 * share * dt + share * share * tt) / (trials * trials) AS variance
    FROM summed
),
counted AS (
    SELECT *, CASE WHEN variance > 0 THEN greatest(1, least(trials, share * (1 - share) / variance)) ELSE problems END AS n
    FROM spread
)
SELECT run_id, phase, host, other, units, problems, trials, equal, within_tolerance, near_ties, differing, share,
       greatest(0, (share + 1.9208 / n - 1.96 * sqrt(share * (1 - share) / n + 0.9604 / (n * n))) / (1 + 3.8416 / n)) AS low,
       least(1, (share + 1.9208 / n + 1.96 * sqrt(share * (1 - share) / n + 0.9604 / (n * n))) / (1 + 3.8416 / n)) AS high
FROM counted;

-- What each host computed of a phase, repeats of units included; of `units`, its result counts in `counted`.
CREATE OR REPLACE VIEW phase_hosts AS
SELECT u.run_id, u.phase, b.host, count(DISTINCT b.unit_id) AS units,
       count(DISTINCT b.unit_id) FILTER (WHERE b.replicate = 0) AS counted,
       min(b.received_at) AS first_at, max(b.received_at) AS last_at
FROM units u JOIN bundles b USING (unit_id) GROUP BY ALL;
