-- Where units were sent to be computed, so that it can be said of one without a result who was to compute it.
CREATE TABLE assignments (
    run_id VARCHAR NOT NULL,
    unit_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    place VARCHAR NOT NULL,             -- a work pool
    host VARCHAR,                       -- that it was meant for; NULL: any of the pool
    attempt INTEGER NOT NULL,
    assigned_at TIMESTAMPTZ NOT NULL
);
