-- The warehouse in DESIGN's words. Times are UTC; JSON columns hold canonical JSON.
CREATE TABLE plans (
    plan_id VARCHAR PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL,
    content JSON NOT NULL,
    sha256 VARCHAR NOT NULL
);
CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,
    plan_id VARCHAR NOT NULL,
    scale VARCHAR NOT NULL,
    domain VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    host VARCHAR NOT NULL,
    code_commit VARCHAR NOT NULL,
    dirty BOOLEAN NOT NULL,
    versions JSON NOT NULL,
    arguments_given JSON NOT NULL,
    arguments_defaulted JSON NOT NULL
);
CREATE TABLE hosts (
    host VARCHAR PRIMARY KEY,
    tier VARCHAR NOT NULL,
    first_seen TIMESTAMPTZ NOT NULL,
    last_seen TIMESTAMPTZ NOT NULL,
    report JSON NOT NULL,
    python VARCHAR NOT NULL,
    versions JSON NOT NULL
);
CREATE TABLE units (
    run_id VARCHAR NOT NULL,
    unit_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,          -- order in which units() gave it, over all rounds of the phase
    spec JSON NOT NULL,                 -- the whole Unit
    depends_on JSON NOT NULL,
    PRIMARY KEY (run_id, unit_id)
);
CREATE TABLE bundles (
    sha256 VARCHAR PRIMARY KEY,
    unit_id VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    replicate INTEGER NOT NULL,         -- 0 is the bundle that counts for its unit; later ones are kept beside it
    received_at TIMESTAMPTZ NOT NULL,
    size_bytes BIGINT NOT NULL,
    schema_version INTEGER NOT NULL,
    transport VARCHAR NOT NULL,
    manifest JSON NOT NULL
);
CREATE TABLE trials (
    bundle_sha256 VARCHAR NOT NULL,
    unit_id VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    ordinal INTEGER NOT NULL,           -- order within the bundle
    problem_id VARCHAR NOT NULL,
    condition VARCHAR NOT NULL,
    seed INTEGER,
    attempts INTEGER,
    solved BOOLEAN,
    answer VARCHAR,
    truth VARCHAR,
    tokens_in INTEGER,
    tokens_out INTEGER,
    latency_s DOUBLE,
    error VARCHAR,
    details JSON
);
CREATE TABLE files (
    sha256 VARCHAR PRIMARY KEY,
    unit_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    size_bytes BIGINT NOT NULL
);
CREATE TABLE metrics (
    run_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    host VARCHAR NOT NULL,              -- a host, or 'all'
    position INTEGER NOT NULL,
    metric VARCHAR NOT NULL,
    condition VARCHAR NOT NULL,
    value DOUBLE,
    low DOUBLE,
    high DOUBLE,
    n INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    method VARCHAR NOT NULL,
    timing BOOLEAN NOT NULL,
    PRIMARY KEY (run_id, phase, host, metric, condition)
);
CREATE TABLE verdicts (
    run_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    carried JSON NOT NULL,
    next_steps JSON NOT NULL,
    main_metric VARCHAR NOT NULL,
    main_condition VARCHAR NOT NULL,
    value DOUBLE,
    low DOUBLE,
    high DOUBLE,
    n INTEGER NOT NULL,
    threshold DOUBLE,
    decided_at TIMESTAMPTZ NOT NULL,
    overridden_by VARCHAR,
    why VARCHAR,
    PRIMARY KEY (run_id, phase)
);
CREATE TABLE quarantine (
    name VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    size_bytes BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE predictions (
    run_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    predicted_s DOUBLE NOT NULL,
    actual_s DOUBLE,
    PRIMARY KEY (run_id, phase)
);
CREATE INDEX bundles_by_unit ON bundles (unit_id);

CREATE VIEW counted_trials AS
SELECT trials.* FROM trials JOIN bundles ON bundles.sha256 = trials.bundle_sha256 WHERE bundles.replicate = 0;

CREATE VIEW phase_metrics AS
SELECT m.run_id, r.scale, r.domain, r.model, m.phase, m.metric, m.condition, m.value, m.low, m.high, m.n, m.failed,
       m.method, m.timing, m.position
FROM metrics m JOIN runs r USING (run_id) WHERE m.host = 'all';

CREATE VIEW host_comparison AS
SELECT m.run_id, r.scale, r.domain, r.model, m.phase, m.host, h.tier, m.metric, m.condition, m.value, m.low, m.high,
       m.n, m.failed, m.method, m.timing, m.position
FROM metrics m JOIN runs r USING (run_id) LEFT JOIN hosts h ON h.host = m.host WHERE m.host <> 'all';

CREATE VIEW gate_history AS
SELECT v.run_id, r.plan_id, r.scale, r.domain, r.model, v.phase, v.status, v.reason, v.main_metric, v.main_condition,
       v.value, v.low, v.high, v.n, v.threshold, v.decided_at, v.overridden_by, v.why, v.next_steps, v.carried
FROM verdicts v JOIN runs r USING (run_id);

CREATE VIEW phase_hosts AS
SELECT u.run_id, u.phase, b.host, count(DISTINCT b.unit_id) AS units, min(b.received_at) AS first_at,
       max(b.received_at) AS last_at
FROM units u JOIN bundles b USING (unit_id) WHERE b.replicate = 0 GROUP BY ALL;

CREATE VIEW phase_trials AS
SELECT u.run_id, u.phase, count(*) AS trials, count(t.error) AS failed
FROM units u JOIN counted_trials t USING (unit_id) GROUP BY ALL;
