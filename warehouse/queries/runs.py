"""All runs side by side: what was decided, and on which hosts."""

from __future__ import annotations

from warehouse.queries.snapshot import Row, query


def verdicts() -> dict[str, dict[str, Row]]:
    """Return the verdicts by run and phase: status, main_metric, main_condition, value."""
    found: dict[str, dict[str, Row]] = {}
    for row in query("SELECT run_id, phase, status, main_metric, main_condition, value FROM gate_history"):
        found.setdefault(row["run_id"], {})[row["phase"]] = row
    return found


def hosts() -> dict[str, list[str]]:
    """Return the hosts that computed a result of each run, by name."""
    rows = query("SELECT run_id, list_sort(list(DISTINCT host)) AS hosts FROM phase_hosts GROUP BY run_id")
    return {row["run_id"]: row["hosts"] for row in rows}
