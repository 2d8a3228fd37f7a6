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
    settings: dict[str, Row] = {run_id: {}} | {
        row["run_id"]: dict(differs.settings)
        for row in rows
        if row is not own and (differs := difference(phase, configs, json.loads(row["configs"] or "{}")))
    }
    effects = _effects(phase, metric, condition)
    unknown = {"metric": metric, "condition": condition, "value": None, "low": None, "high": None, "n": 0}
    concluded = conclusion(own["status"], json.loads(own["findings"]))
    found = []
    for row in (r for r in rows if r["run_id"] in settings):
        said = conclusion(row["status"], json.loads(row["findings"]))
        of = {
            "run_id": row["run_id"],
            "settings": settings[row["run_id"]],
            "conclusion": said,
            "same": said == concluded,
        }
        found.append({**of, **effects.get(row["run_id"], unknown)})
    last = float("inf")
    return sorted(found, key=lambda r: (bool(r["settings"]), last if r["value"] is None else r["value"], r["run_id"]))


def _effects(phase: str, metric: str, condition: str) -> dict[str, Row]:
    """Return one metric of every run that has it, by run."""
    rows = query(
        "SELECT run_id, metric, condition, value, low, high, n FROM phase_metrics "
        "WHERE phase = ? AND metric = ? AND condition = ?",
        [phase, metric, condition],
    )
    return {row.pop("run_id"): row for row in rows}


def by_host(run_id: str, phase: str) -> list[Row]:
    """Return what the gate says of each host's results alone, for hosts that have all of them: host, conclusion."""
    sql = "SELECT host, status, findings FROM host_verdicts WHERE run_id = ? AND phase = ? ORDER BY host"
    rows = query(sql, [run_id, phase])
    return [{"host": r["host"], "conclusion": conclusion(r["status"], json.loads(r["findings"]))} for r in rows]
