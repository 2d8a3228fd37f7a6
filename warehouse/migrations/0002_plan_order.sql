-- A plan says something about trials only if it was there before them; results of an earlier plan may serve a later one.
-- Both times are the coordinator's own, so no other machine's clock decides.
CREATE VIEW plan_order AS
SELECT r.run_id, r.plan_id, p.created_at, count(*) AS units,
       count(*) FILTER (WHERE b.received_at < p.created_at) AS units_before
FROM runs r JOIN plans p USING (plan_id) JOIN units u USING (run_id) JOIN bundles b USING (unit_id)
WHERE b.replicate = 0 GROUP BY ALL;
