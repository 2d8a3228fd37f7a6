"""Evidence for and against a run's numbers: leaks, unplanned metrics, how results came in, verifications."""

from __future__ import annotations

import json

from warehouse.queries.snapshot import PHASE_ORDER, Row, query

# A metric without its prefix "leak_" -> column.
LEAKS = {"exact_pairs": "exact", "normalised_pairs": "normalised", "near_pairs": "near", "named": "named"}
EXPLORATORY = "exploratory"  # begins the method of metrics that are not in the plan (experiments.protocol.leakage_gate)


def leakage(run_id: str) -> list[Row]:
    """Return for each phase: exact, normalised, near (pairs), named (texts; None: not searched), compared, allowed."""
    counts = ", ".join(f"max(value) FILTER (metric = 'leak_{m}')::BIGINT AS \"{name}\"" for m, name in LEAKS.items())
    return query(
        f"""
        SELECT m.phase, {counts}, max(n) FILTER (metric = 'leak_exact_pairs') AS compared, any_value(a.allowed) AS allowed
        FROM phase_metrics m LEFT JOIN (
            SELECT phase, max(spec -> 'config' ->> 'allow_leakage') AS allowed FROM units WHERE run_id = ? GROUP BY phase
        ) a USING (phase)
        WHERE m.run_id = ? AND starts_with(metric, 'leak_') GROUP BY m.phase ORDER BY list_position(?, m.phase)
        """,  # noqa: S608 - only the fixed words above are put in
        [run_id, run_id, list(PHASE_ORDER)],
    )


def exploratory(run_id: str) -> list[Row]:
    """Return the metrics over all hosts that are not in the plan, with the number of their conditions."""
    return query(
        "SELECT phase, metric, count(*) AS conditions FROM phase_metrics WHERE run_id = ? AND contains(method, ?) "
        "GROUP BY phase, metric ORDER BY list_position(?, phase), min(position)",
        [run_id, EXPLORATORY, list(PHASE_ORDER)],
    )


def results(run_id: str) -> Row:
    """Return how a run's results came in.

    units, with_result, given_up, repeats, retried (units of decided phases that were sent more often than results came), trials, failed,
    size_bytes, first_at, last_at, files (attachments, as text), quarantined (bundles of any run).
    """
    row = query(
        """
        WITH mine AS (SELECT unit_id FROM units WHERE run_id = $1),
        came AS (SELECT b.* FROM bundles b JOIN mine USING (unit_id)),
        sent AS (SELECT a.unit_id, count(*) AS times FROM assignments a JOIN verdicts v USING (run_id, phase)
                 WHERE a.run_id = $1 GROUP BY a.unit_id)
        SELECT (SELECT count(*) FROM mine) AS units,
               (SELECT count(*) FROM given_up WHERE run_id = $1) AS given_up,
               count(*) FILTER (replicate = 0) AS with_result, count(*) FILTER (replicate > 0) AS repeats,
               (SELECT count(*) FROM mine JOIN sent USING (unit_id)
                WHERE sent.times > (SELECT count(*) FROM came WHERE came.unit_id = mine.unit_id)) AS retried,
               coalesce(sum(size_bytes), 0)::BIGINT AS size_bytes,
               epoch(min(received_at)) AS first_at, epoch(max(received_at)) AS last_at,
               (SELECT count(*) FROM quarantine) AS quarantined
        FROM came
        """,
        [run_id],
    )[0]
    counts = "coalesce(sum(trials), 0)::BIGINT AS trials, coalesce(sum(failed), 0)::BIGINT AS failed"
    counted = query(f"SELECT {counts} FROM phase_trials WHERE run_id = ?", [run_id])[0]  # noqa: S608 - fixed words
    sql = "SELECT f.name, f.sha256 FROM files f JOIN units u USING (unit_id) WHERE u.run_id = ? ORDER BY 1"
    files = query(sql, [run_id])
    return row | counted | {"files": ", ".join(f"{f['name']} {f['sha256'][:12]}" for f in files) or "none"}


def verified(most: int = 20) -> list[Row]:
    """Return the latest rows of verification_history, the latest first.

    `phase` is None if all was verified; `deep` is true if metrics and verdicts were computed again; `faults` and `notes` are
    numbers, `findings` lists the first of them ({"fault", "check", "about", "what"}), `counts` is a dictionary.
    """
    rows = query(
        "SELECT epoch(verified_at) AS verified_at, host, phase, deep, faults, notes, counts, findings, bundles_since "
        "FROM verification_history v ORDER BY v.verified_at DESC LIMIT ?",
        [most],
    )
    for row in rows:
        row["counts"], row["findings"] = json.loads(row["counts"]), json.loads(row["findings"])
    return rows
