-- What a gate says of one host's results alone, for hosts that have a result of every unit of the phase (mode replicate).
-- The chain goes by `verdicts`; this says whether a conclusion depends on the machine.
CREATE TABLE host_verdicts (
    run_id VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    findings JSON NOT NULL,
    PRIMARY KEY (run_id, phase, host)
);
