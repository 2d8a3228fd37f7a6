"""Queries about the robustness of a verdict: the specifications of its study that have one, and the hosts' own results."""

from __future__ import annotations

import json

from experiments.protocol.specifications import conclusion, difference
from warehouse.queries.snapshot import Row, query


def specifications(run_id: str, phase: str) -> list[Row]:
    """Return the run's verdict on a phase and those of its specifications, its own first, then by the effect.

    Each row: run_id, settings (dict: what differs; {} for the run itself), conclusion, same (whether it is the run's own), and
    the effect that the run's verdict rests on, as the specification has it: metric, condition, value, low, high, n. Empty where
    the phase is not decided.
    """
    rows = query(
        "SELECT v.run_id, v.status, v.findings, v.main_metric, v.main_condition, (p.content -> 'configs') AS configs "
        "FROM verdicts v JOIN runs r USING (run_id) JOIN plans p USING (plan_id) WHERE v.phase = ? ORDER BY v.run_id",
        [phase],
    )
    own = next((r for r in rows if r["run_id"] == run_id), None)
    if own is None:
        return []
    # A p has no direction; the difference that it belongs to has.
    metric = "mean_difference" if own["main_metric"] == "adjusted_p" else own["main_metric"]
    condition, configs = own["main_condition"], json.loads(own["configs"] or "{}")
    concluded = conclusion(own["status"], json.loads(own["findings"]))
    found = []
    for row in rows:
        differs = None if row is own else difference(phase, configs, json.loads(row["configs"] or "{}"))
        if differs is None and row is not own:
            continue
        said = conclusion(row["status"], json.loads(row["findings"]))
        settings = dict(differs.settings) if differs else {}
        of = {"run_id": row["run_id"], "settings": settings, "conclusion": said, "same": said == concluded}
        found.append({**of, **_effect(row["run_id"], phase, metric, condition)})
    unknown = float("inf")
    return sorted(
        found, key=lambda r: (bool(r["settings"]), unknown if r["value"] is None else r["value"], r["run_id"])
    )


def _effect(run_id: str, phase: str, metric: str, condition: str) -> Row:
    """Return the metric of a run; without a value where it has none."""
    known = query(
        "SELECT metric, condition, value, low, high, n FROM phase_metrics "
        "WHERE run_id = ? AND phase = ? AND metric = ? AND condition = ?",
        [run_id, phase, metric, condition],
    )
    return (
        known[0]
        if known
        else dict.fromkeys(("value", "low", "high")) | {"metric": metric, "condition": condition, "n": 0}
    )


def by_host(run_id: str, phase: str) -> list[Row]:
    """Return what the gate says of each host's results alone, for hosts that have all of them: host, conclusion."""
    sql = "SELECT host, status, findings FROM host_verdicts WHERE run_id = ? AND phase = ? ORDER BY host"
    rows = query(sql, [run_id, phase])
    return [{"host": r["host"], "conclusion": conclusion(r["status"], json.loads(r["findings"]))} for r in rows]
