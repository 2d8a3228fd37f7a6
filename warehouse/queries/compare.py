"""Compare two runs: the differences of their plans and of each metric, with an interval."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from warehouse.queries.snapshot import PHASE_ORDER, Row, query

LEVEL = 0.95
PAIRED = f"paired by problem, t {LEVEL:.0%}"
APART = f"not paired; from both intervals, Zou and Donner 2008, {LEVEL:.0%}"
MOST_CHARACTERS = 300  # of a value in a plan
RECORDED = ("plan_id", "scale", "domain", "model", "host", "code_commit", "dirty")  # of a run, beside its versions
# Numbers of one problem under one condition, as SQL over problem_results p.
MEASURES = {
    "attempts": "p.attempts",
    "right at first": "p.first_right",
    "tokens": "p.tokens",
    "relevance": "p.relevance",
}


class Bounds(NamedTuple):
    """An interval; None if it is not known."""

    low: float | None
    high: float | None


class PlanDifference(NamedTuple):
    """Values that differ (rows of key and values, in the order of the runs), and the number of those that are equal."""

    rows: list[Row]
    equal: int


def paired(first: str, second: str) -> list[Row]:
    """Return mean differences second - first over the problems that both runs solved, in the order of phases and conditions.

    Each row: phase, condition, measure, n (problems), first, second (means), value (difference), low, high (paired t test),
    method, and `shared`: how many of the n problems have the same bundle in both runs.
    """
    columns = ", ".join(f'avg({sql}) AS "{name}"' for name, sql in MEASURES.items())
    numbers = ", ".join(
        f'count(b."{m}" - a."{m}") AS "{m} n", avg(a."{m}") FILTER (b."{m}" IS NOT NULL) AS "{m} first", '
        f'avg(b."{m}") FILTER (a."{m}" IS NOT NULL) AS "{m} second", avg(b."{m}" - a."{m}") AS "{m} value", '
        f'stddev_samp(b."{m}" - a."{m}") AS "{m} sd"'
        for m in MEASURES
    )
    rows = query(
        f"""
        WITH solved AS MATERIALIZED ( -- or it is counted twice, for a and for b
            SELECT u.run_id, u.phase, p.condition, p.problem_id, min(p.number) AS number, {columns}
            FROM units u JOIN bundles b USING (unit_id) JOIN bundle_numbers s USING (sha256) JOIN problem_results p USING (number)
            WHERE b.replicate = 0 AND u.run_id IN (?, ?) GROUP BY ALL
        )
        SELECT a.phase, a.condition, count(*) FILTER (a.number = b.number) AS shared, {numbers}
        FROM solved a JOIN solved b USING (phase, condition, problem_id) WHERE a.run_id = ? AND b.run_id = ?
        GROUP BY a.phase, a.condition ORDER BY list_position(?, a.phase), a.condition
        """,  # noqa: S608 - only the fixed words above are put in
        [first, second, first, second, list(PHASE_ORDER)],
    )
    return [_measured(r, m) for r in rows for m in MEASURES if r[f"{m} n"]]


def _measured(row: Row, measure: str) -> Row:
    of = {"phase": row["phase"], "condition": row["condition"], "measure": measure, "shared": row["shared"]}
    numbers = {name: row[f"{measure} {name}"] for name in ("n", "first", "second", "value")}
    half = _half_width(numbers["n"], row[f"{measure} sd"])
    if half is None:
        bounds = {"low": None, "high": None, "method": "paired by problem, one pair has no interval"}
    else:
        bounds = {"low": numbers["value"] - half, "high": numbers["value"] + half, "method": PAIRED}
    return {**of, **numbers, **bounds}


def _half_width(n: int, sd: float | None) -> float | None:
    """Return half of the paired t interval of a mean difference; None with fewer than two pairs."""
    if n < 2 or sd is None:
        return None
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * sd / math.sqrt(n)


def metrics(first: str, second: str) -> list[Row]:
    """Return every metric that both runs have, over all hosts, in the order of the first run.

    Each row: phase, metric, condition, first, second, value (second - first), low, high, first_n, second_n, method,
    timing. `low` and `high` are None if one of the two has no interval.
    """
    rows = query(
        "SELECT a.phase, a.metric, a.condition, a.value AS first, b.value AS second, a.low AS a_low, a.high AS a_high, "
        "b.low AS b_low, b.high AS b_high, a.n AS first_n, b.n AS second_n, a.timing "
        "FROM phase_metrics a JOIN phase_metrics b USING (phase, metric, condition) "
        "WHERE a.run_id = ? AND b.run_id = ? AND a.value IS NOT NULL AND b.value IS NOT NULL "
        "ORDER BY list_position(?, a.phase), a.position",
        [first, second, list(PHASE_ORDER)],
    )
    for row in rows:
        bounds = [row.pop(k) for k in ("a_low", "a_high", "b_low", "b_high")]
        row["value"] = row["second"] - row["first"]
        row["low"], row["high"] = mover(row["first"], row["second"], *bounds)
        row["method"] = APART if row["low"] is not None else "not paired; one of the two has no interval"
    return rows


def mover(
    a: float, b: float, a_low: float | None, a_high: float | None, b_low: float | None, b_high: float | None
) -> Bounds:
    """Return the interval of b - a from two independent intervals (MOVER: Zou and Donner 2008, Stat Med 27:1693)."""
    if a_low is None or a_high is None or b_low is None or b_high is None:
        return Bounds(None, None)
    value = b - a
    return Bounds(value - math.hypot(b - b_low, a_high - a), value + math.hypot(b_high - b, a - a_low))


def plans(*run_ids: str) -> PlanDifference:
    """Compare the plans and records of two or more runs."""
    columns = f"run_id, {', '.join(RECORDED)}, versions, arguments_given, content"
    sql = f"SELECT {columns} FROM runs LEFT JOIN plans USING (plan_id) WHERE list_contains(?, run_id)"  # noqa: S608 - fixed words
    found = {row["run_id"]: _flat(row) for row in query(sql, [list(run_ids)])}
    flat = [found.get(run_id, {}) for run_id in run_ids]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = [{"key": k, "values": [one.get(k, "not there") for one in flat]} for k in keys]
    differ = [row for row in rows if len(set(row["values"])) > 1]
    return PlanDifference(differ, len(keys) - len(differ))


def differing_metrics(*run_ids: str) -> list[Row]:
    """Return the metrics that all of the runs have and that are not equal in all, in the order of the phases.

    Each row: phase, metric, condition, values (in the order of the runs), timing.
    """
    rows = query(
        "SELECT phase, metric, condition, any_value(timing) AS timing, list([run_id, value::VARCHAR]) AS found "
        "FROM phase_metrics WHERE list_contains($runs, run_id) AND value IS NOT NULL GROUP BY phase, metric, condition "
        "HAVING count(DISTINCT run_id) = len($runs) AND count(DISTINCT value) > 1 "
        "ORDER BY list_position($phases, phase), min(position)",
        {"runs": list(run_ids), "phases": list(PHASE_ORDER)},
    )
    for row in rows:
        values = dict(row.pop("found"))
        row["values"] = [float(values[run_id]) for run_id in run_ids]
    return rows


def _flat(row: Row) -> dict[str, str]:
    """Return every value of a run's record and plan as short text, by its path."""
    whole: Row = {k: row[k] for k in RECORDED}
    whole["versions"] = json.loads(row["versions"])
    whole["arguments given"] = json.loads(row["arguments_given"])
    plan = json.loads(row["content"]) if row["content"] else {}
    found: dict[str, str] = {}
    _walk(whole | {"plan": {k: v for k, v in plan.items() if k not in whole and k != "phases"}}, "", found)
    return found


def _walk(value: Any, path: str, found: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key in value:
            _walk(value[key], f"{path}.{key}" if path else str(key), found)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found[path] = text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
