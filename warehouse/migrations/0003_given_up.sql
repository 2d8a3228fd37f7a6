-- Units that no machine could compute in this pipeline. A result that arrives later counts in their place, and the next
-- pipeline tries them again.
CREATE TABLE given_up (
    run_id VARCHAR NOT NULL,
    unit_id VARCHAR NOT NULL,
    why VARCHAR NOT NULL,
    given_up_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (run_id, unit_id)
);
