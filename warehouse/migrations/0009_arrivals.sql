-- What was there before what is told by numbers, not by clocks, which are set and may be wrong by a day.
-- bundles.arrival counts the bundles as they came in. `arrivals` elsewhere is the number of the last bundle that was there;
-- NULL where that is not known, since the row came from another warehouse.
DROP INDEX bundles_by_unit;
ALTER TABLE bundles ADD COLUMN arrival BIGINT;
UPDATE bundles SET arrival = numbered.n FROM (
  SELECT sha256, row_number() OVER (ORDER BY n.number NULLS LAST, b.received_at, b.replicate, sha256) AS n
  FROM bundles b LEFT JOIN bundle_numbers n USING (sha256)
) numbered WHERE numbered.sha256 = bundles.sha256;
-- Under a new name: DuckDB 1.5 aborts where an empty index is dropped and made again under its name in one transaction.
CREATE INDEX bundles_of_unit ON bundles (unit_id);
ALTER TABLE plans ADD COLUMN arrivals BIGINT;
UPDATE plans SET arrivals = (SELECT coalesce(max(arrival), 0) FROM bundles WHERE received_at < plans.created_at);
ALTER TABLE verdicts ADD COLUMN arrivals BIGINT;
UPDATE verdicts SET arrivals = (SELECT coalesce(max(arrival), 0) FROM bundles WHERE received_at <= verdicts.decided_at);
ALTER TABLE assignments ADD COLUMN arrivals BIGINT;
UPDATE assignments SET arrivals = (SELECT coalesce(max(arrival), 0) FROM bundles WHERE received_at < assignments.assigned_at);
ALTER TABLE verifications ADD COLUMN arrivals BIGINT;
UPDATE verifications SET arrivals = (SELECT coalesce(max(arrival), 0) FROM bundles WHERE received_at <= verifications.verified_at);

-- Bundles that somebody took out. They are refused when they come again, and their units are computed again.
CREATE TABLE rejections (
    sha256 VARCHAR PRIMARY KEY,
    unit_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    host VARCHAR NOT NULL,              -- that computed it
    arrival BIGINT NOT NULL,            -- the number that it had
    why VARCHAR NOT NULL,
    rejected_by VARCHAR NOT NULL,       -- the host on which it was rejected
    rejected_at TIMESTAMPTZ NOT NULL
);

CREATE OR REPLACE VIEW plan_order AS
SELECT r.run_id, r.plan_id, p.created_at, count(*) AS units, count(*) FILTER (WHERE b.arrival <= p.arrivals) AS units_before
FROM runs r JOIN plans p USING (plan_id) JOIN units u USING (run_id) JOIN bundles b USING (unit_id)
WHERE b.replicate = 0 GROUP BY ALL;

CREATE OR REPLACE VIEW verification_history AS
SELECT v.verified_at, v.host, v.phase, v.deep, v.faults, v.notes, v.counts, v.findings,
       (SELECT count(*) FROM bundles b WHERE b.arrival > v.arrivals) AS bundles_since
FROM verifications v;
