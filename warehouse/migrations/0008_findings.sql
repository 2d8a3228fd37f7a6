-- What a phase hands to later ones is called its findings. Stored values stay as they are: an earlier protocol's are still read.
DROP VIEW gate_history;
ALTER TABLE verdicts RENAME COLUMN carried TO findings;
CREATE VIEW gate_history AS
SELECT v.run_id, r.plan_id, r.scale, r.domain, r.model, v.phase, v.status, v.reason, v.main_metric, v.main_condition,
       v.value, v.low, v.high, v.n, v.threshold, v.decided_at, v.overridden_by, v.why, v.next_steps, v.findings
FROM verdicts v JOIN runs r USING (run_id);
