"""Compute metrics and verdicts again from the trials in the warehouse, and compare them with the stored ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection as Connection
from pydantic import ValidationError

from common.environment import ALL_HOSTS
from common.errors import LabError
from experiments.contract import Json, Metric, Metrics, PhaseConfig
from experiments.data import universe
from experiments.domains import fetch_data
from experiments.protocol import leakage_gate
from experiments.protocol.code_version import code_version
from experiments.registry import PHASES, get_phase
from experiments.solving.candidates import models_in
from warehouse.database import records
from warehouse.database.metrics import measure
from warehouse.maintenance.verify import Check, Verified

RELATIVE = 1e-9  # another processor or library may round the last bits differently
NUMBERS = ("value", "low", "high")
OTHERS = ("n", "failed", "method", "timing")


@dataclass(frozen=True)
class Decided:
    """A phase of a run that has a verdict."""

    run_id: str
    phase: str
    plan: Json
    arrivals: int | None  # number of the last bundle that was there when it was decided; None: not known

    def __str__(self) -> str:
        return f"{self.run_id} {self.phase}"


def check_decided(con: Connection, get_file: Callable[[str], bytes], done: Verified, phase: str | None = None) -> None:
    """Compute every decided phase again, or only `phase`, from the results that were there when it was decided.

    A difference is a fault, but only a note if the analysis code is not the plan's: with that code it may not differ.
    `get_file` returns the user's data by its SHA-256.
    """
    rows = con.execute(
        "SELECT v.run_id, v.phase, p.content, v.arrivals FROM verdicts v JOIN runs r USING (run_id) JOIN plans p USING (plan_id) "
        "WHERE ? IS NULL OR v.phase = ? ORDER BY v.decided_at, v.run_id, v.phase",
        [phase, phase],
    ).fetchall()
    for run_id, name, content, arrivals in rows:
        one = Decided(run_id, name, json.loads(content), arrivals)
        if name not in PHASES:
            done.add("metrics", f"{one}: this version has no such phase", str(one), fault=False)
            continue
        try:
            _check(con, get_file, done, one)
        except (LabError, ValidationError, KeyError) as error:
            why = " ".join(str(error).split())[:300]
            done.add("metrics", f"{one}: cannot be computed again here: {why}", str(one), fault=False)


def _check(con: Connection, get_file: Callable[[str], bytes], done: Verified, one: Decided) -> None:
    config: PhaseConfig = get_phase(one.phase).Config(**one.plan["configs"][one.phase])
    fetch_data(config.domain, get_file)
    if (version := universe(config).version) not in one.plan["data_version"]:
        raise LabError(
            f"the data are {version} here, {', '.join(one.plan['data_version'])} in the plan",
            "check it with the code that made the plan",
        )
    findings = records.findings_of(con, one.run_id, before=one.phase)
    found = measure(con, one.run_id, one.phase, config, findings, until=one.arrivals)
    stored = _stored(con, one)
    wrong: list[tuple[Check, str]] = [("metrics", text) for text in _differences(found, stored)]
    wrong += [("verdicts", text) for text in _verdict(con, one, config, found[ALL_HOSTS])]
    wrong += [("verdicts", text) for text in _of_hosts(con, one, config, found)]
    done.counts["metrics"] = done.counts.get("metrics", 0) + sum(len(m.values) for m in found.values())
    done.counts["verdicts"] = done.counts.get("verdicts", 0) + 1
    now = code_version(one.phase, config.domain, analysis=True, models=models_in(config))
    then = one.plan.get("code_versions", {}).get(one.phase)
    if wrong and now != then:
        what = f"{len(wrong)} numbers differ, first {wrong[0][1]}; the analysis code is {now}, {then} in the plan"
        done.add("metrics", f"{one}: {what}", str(one), fault=False)
        return
    for check, text in wrong:
        done.add(check, f"{one}: {text}", str(one))


def _stored(con: Connection, one: Decided) -> dict[str, dict[tuple[str, str], Metric]]:
    columns = "host, metric, value, low, high, n, failed, condition, method, timing"
    sql = f"SELECT {columns} FROM metrics WHERE run_id = ? AND phase = ? ORDER BY host, position"  # noqa: S608 - fixed words
    found: dict[str, dict[tuple[str, str], Metric]] = {}
    for host, *fields in con.execute(sql, [one.run_id, one.phase]).fetchall():
        metric = Metric(*fields)
        found.setdefault(host, {})[metric.metric, metric.condition] = metric
    return found


def _differences(found: Mapping[str, Metrics], stored: Mapping[str, Mapping[tuple[str, str], Metric]]) -> list[str]:
    wrong = []
    for host in sorted(found.keys() | stored.keys()):
        now = {(m.metric, m.condition): m for m in found[host].values} if host in found else {}
        then = stored.get(host, {})
        for key in sorted(now.keys() | then.keys()):
            name = " ".join([*(k for k in key if k), "" if host == ALL_HOSTS else f"on {host}"]).strip()
            if key not in now or key not in then:
                wrong.append(f"{name} is {'stored but not computed' if key in then else 'computed but not stored'}")
                continue
            differ = [f for f in NUMBERS if not _same(getattr(now[key], f), getattr(then[key], f))]
            differ += [f for f in OTHERS if getattr(now[key], f) != getattr(then[key], f)]
            wrong += [f"{name}: {f} {getattr(now[key], f)}, stored {getattr(then[key], f)}" for f in differ]
    return wrong


def _verdict(con: Connection, one: Decided, config: PhaseConfig, overall: Metrics) -> list[str]:
    """List the differences of the stored verdict; next steps depend on the user's command line and are left out."""
    verdict, stored = leakage_gate.decided(one.phase, config, overall), records.verdict_of(con, one.run_id, one.phase)
    if stored is None:
        return ["the verdict is missing"]
    pairs: list[tuple[str, Any, Any]] = [
        ("status", verdict.status.value, stored.status.value),
        ("reason", verdict.reason, stored.reason),
        ("findings", verdict.findings, stored.findings),
        ("main metric", (verdict.main.metric, verdict.main.condition), (stored.main.metric, stored.main.condition)),
        ("n", verdict.main.n, stored.main.n),
    ]
    wrong = [f"{name} {str(now)[:120]}, stored {str(then)[:120]}" for name, now, then in pairs if now != then]
    numbers = [(f, getattr(verdict.main, f), getattr(stored.main, f)) for f in NUMBERS]
    numbers.append(("threshold", verdict.threshold, stored.threshold))
    return wrong + [f"{name} {now}, stored {then}" for name, now, then in numbers if not _same(now, then)]


def _of_hosts(con: Connection, one: Decided, config: PhaseConfig, found: Mapping[str, Metrics]) -> list[str]:
    """List the differences of what the gate says of single hosts; runs before schema 12 stored nothing of it."""
    sql = "SELECT host, status, reason FROM host_verdicts WHERE run_id = ? AND phase = ? ORDER BY host"
    wrong = []
    for host, status, reason in con.execute(sql, [one.run_id, one.phase]).fetchall():
        if host not in found:
            wrong.append(f"the verdict of {host} is stored, and it has no result")
            continue
        now = leakage_gate.decided(one.phase, config, found[host])
        pairs = (("status", now.status.value, status), ("reason", now.reason, reason))
        wrong += [f"{name} of {host} {new[:120]}, stored {old[:120]}" for name, new, old in pairs if new != old]
    return wrong


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-12)
