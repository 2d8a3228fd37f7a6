-- Units that were run a second time to see whether they give what they gave. Both bundles stay; only the first counts.
CREATE TABLE audits (
    audit_id VARCHAR NOT NULL,          -- one call of lab audit
    run_id VARCHAR NOT NULL,
    unit_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    host VARCHAR NOT NULL,              -- that computed the bundle which counts
    other VARCHAR NOT NULL,             -- that computed it again; the same name is another process of that host
    bundle_sha256 VARCHAR NOT NULL,
    again_sha256 VARCHAR,               -- NULL: there was no second result
    trials INTEGER NOT NULL,            -- of the bundle which counts
    deviating INTEGER,                  -- of these, how many differ; NULL without a second result
    deviation VARCHAR,                  -- where the first of them differs, or why there is no second result
    largest_difference DOUBLE,          -- of any two numbers that are compared by tolerance
    tolerance DOUBLE NOT NULL,
    seed BIGINT NOT NULL,               -- that drew the sample
    fraction DOUBLE NOT NULL,
    audited_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (audit_id, unit_id)
);

CREATE VIEW audit_agreement AS
SELECT audit_id, run_id, host, other, count(*) AS units, count(*) FILTER (deviating = 0) AS agreeing,
       count(*) FILTER (deviating > 0) AS deviating_units, count(*) FILTER (deviating IS NULL) AS without_result,
       sum(trials)::BIGINT AS trials, sum(coalesce(deviating, 0))::BIGINT AS deviating_trials,
       max(largest_difference) AS largest_difference, max(tolerance) AS tolerance, max(audited_at) AS last_at
FROM audits GROUP BY ALL;
