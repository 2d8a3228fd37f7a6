-- What lab verify found each time, so that pages can say when the warehouse was last proved, and how thoroughly.
CREATE TABLE verifications (
    verified_at TIMESTAMPTZ NOT NULL,
    host VARCHAR NOT NULL,
    phase VARCHAR,                      -- NULL: all of it
    deep BOOLEAN NOT NULL,
    counts JSON NOT NULL,
    faults INTEGER NOT NULL,
    notes INTEGER NOT NULL,
    findings JSON NOT NULL              -- the first of them, faults before notes
);

CREATE VIEW verification_history AS
SELECT v.verified_at, v.host, v.phase, v.deep, v.faults, v.notes, v.counts, v.findings,
       (SELECT count(*) FROM bundles b WHERE b.received_at > v.verified_at) AS bundles_since
FROM verifications v;
