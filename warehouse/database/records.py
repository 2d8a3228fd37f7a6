"""Plans, runs, units, metrics and verdicts in the warehouse. Every function takes a connection from `writing`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import sha256_of
from common.environment import ALL_HOSTS
from common.errors import LabError
from experiments.contract import Json, Metric, Metrics, NextStep, Result, Status, Trial, Unit, Verdict
from experiments.findings import Earlier
from experiments.registry import PHASES, read_findings
from warehouse.database.agreement import agreement_of, of_phase
from warehouse.database.arrivals import last_arrival
from warehouse.database.statements import column_of, insert, number_of, rows_of, transaction
from warehouse.delivery.bundles import FIELDS

# Of trials, those of the bundles in a list. By their row ids, or the details of every trial would be unpacked to look at it:
# 2 million trials, 100,000 of them asked for, take half the time (measured, DuckDB 1.5); more the more there are.
OF_BUNDLES = "rowid IN (SELECT rowid FROM trials WHERE bundle_sha256 IN (SELECT unnest(?::VARCHAR[])))"


@dataclass(frozen=True)
class RunRecord:
    """A run as it is stored: its plan, the host that planned it, and the code and values that it was planned with."""

    run_id: str
    plan_id: str
    scale: str
    domain: str
    model: str
    host: str
    code_commit: str
    dirty: bool
    versions: Mapping[str, str]
    arguments_given: Json
    arguments_defaulted: Json


class GivenUp(NamedTuple):
    """A unit that is not attempted any more, and why."""

    unit: Unit
    why: str


class Arguments(NamedTuple):
    """Values that the user set for a run."""

    run_id: str
    given: Json


@dataclass(frozen=True)
class Assignment:
    """Units that were sent to a work pool together, and the host that they are meant for; None: any host of the pool."""

    units: Sequence[Unit]
    pool: str
    host: str | None
    attempt: int


def save_plan(con: Connection, plan_id: str, content: Json) -> None:
    """Store a plan before its first trial; a plan never changes, another content is another plan."""
    row = {"plan_id": plan_id, "created_at": datetime.now(UTC), "content": content, "sha256": sha256_of(content)}
    insert(con, "plans", [{**row, "arrivals": last_arrival(con)}], "DO NOTHING")


def save_run(con: Connection, run: RunRecord) -> None:
    """Store where a run came from; starting it again changes nothing."""
    insert(con, "runs", [{**vars(run), "started_at": datetime.now(UTC)}], "DO NOTHING")


def has_run(con: Connection, run_id: str) -> bool:
    """Return True if the run is stored."""
    return con.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchone() is not None


def forget_run(con: Connection, run_id: str, plan_id: str) -> None:
    """Delete a run that could not start, and its plan if no other run has it; trials stay."""
    with transaction(con):
        for table in ("units", "metrics", "verdicts", "host_verdicts", "predictions", "given_up", "runs"):
            con.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])  # noqa: S608 - only fixed words are put in
        con.execute("DELETE FROM plans WHERE plan_id = ? AND plan_id NOT IN (SELECT plan_id FROM runs)", [plan_id])


def finish_run(con: Connection, run_id: str) -> None:
    """Store the time at which the last phase was decided, unless it is stored already."""
    con.execute("UPDATE runs SET finished_at = ? WHERE run_id = ? AND finished_at IS NULL", [datetime.now(UTC), run_id])


def save_units(con: Connection, run_id: str, phase: str, units: Sequence[Unit]) -> None:
    """Store units in the order in which the phase asked for them; known ones stay as they are."""
    start = number_of(con, "SELECT max(position) + 1 FROM units WHERE run_id = ? AND phase = ?", [run_id, phase])
    rows = []
    for position, u in enumerate(units, start):
        of_unit = {"unit_id": u.unit_id, "round": u.round, "spec": u.to_json(), "depends_on": list(u.depends_on)}
        rows.append({"run_id": run_id, "phase": phase, "position": position, **of_unit})
    insert(con, "units", rows, "DO NOTHING")


def units_of(con: Connection, run_id: str, phase: str) -> list[Unit]:
    """Return all units that the phase asked for in this run, in that order."""
    specs = column_of(con, "SELECT spec FROM units WHERE run_id = ? AND phase = ? ORDER BY position", [run_id, phase])
    return [Unit.from_json(json.loads(spec)) for spec in specs]


def done_units(con: Connection, unit_ids: Sequence[str], host: str | None = None) -> set[str]:
    """Return the ids of those units that have a result, of any run; with `host`, a result of that host."""
    sql = "SELECT unit_id FROM bundles WHERE (host = ? OR ? IS NULL) AND unit_id IN (SELECT unnest(?::VARCHAR[]))"
    return set(column_of(con, sql, [host, host, list(unit_ids)]))


def give_up_units(con: Connection, run_id: str, unit_ids: Sequence[str], why: str) -> None:
    """Store that these units are not attempted any more in this pipeline."""
    at = datetime.now(UTC)
    rows = [{"run_id": run_id, "unit_id": unit_id, "why": why, "given_up_at": at} for unit_id in unit_ids]
    insert(con, "given_up", rows, "DO UPDATE SET why = excluded.why")


def try_again(con: Connection, run_id: str) -> None:
    """Forget which units were given up, so that a pipeline that is started again asks for them once more."""
    con.execute("DELETE FROM given_up WHERE run_id = ?", [run_id])


def given_up_of(con: Connection, run_id: str, phase: str, until: int | None = None) -> list[GivenUp]:
    """Return the phase's units that were given up and have no result, in the order asked.

    Args:
        until: leave out results with a higher number of arrival.
    """
    rows = con.execute(
        "SELECT u.spec, g.why FROM given_up g JOIN units u USING (run_id, unit_id) WHERE g.run_id = ? AND u.phase = ? "
        "AND g.unit_id NOT IN (SELECT unit_id FROM bundles WHERE arrival <= ? OR ? IS NULL) ORDER BY u.position",
        [run_id, phase, until, until],
    ).fetchall()
    return [GivenUp(Unit.from_json(json.loads(spec)), why) for spec, why in rows]


def trials_of(
    con: Connection, run_id: str, phase: str, host: str | None = None, until: int | None = None
) -> list[Result]:
    """Return the units that have results, with their trials, in the order asked.

    Each with the bundle that counts, or with the first one of `host`.

    Args:
        until: leave out results with a higher number of arrival.
    """
    chosen = con.execute(
        """
        SELECT u.spec, arg_min(b.sha256, b.replicate) FROM units u JOIN bundles b USING (unit_id)
        WHERE u.run_id = ? AND u.phase = ? AND (b.host = ? OR ? IS NULL) AND (b.arrival <= ? OR ? IS NULL)
        GROUP BY u.position, u.spec ORDER BY u.position
        """,
        [run_id, phase, host, host, until, until],
    ).fetchall()
    found = trials_in(con, [sha256 for _, sha256 in chosen])
    return [Result(Unit.from_json(json.loads(spec)), found[sha256]) for spec, sha256 in chosen]


def trials_in(con: Connection, bundles: Sequence[str]) -> dict[str, list[Trial]]:
    """Return the trials of each bundle, SHA-256 -> trials in the order in which the unit gave them."""
    columns = f"bundle_sha256, {', '.join(FIELDS)}, details"
    sql = f"SELECT {columns} FROM trials WHERE {OF_BUNDLES} ORDER BY bundle_sha256, ordinal"  # noqa: S608 - only fixed words
    rows = con.execute(sql, [list(bundles)]).fetchall()
    found: dict[str, list[Trial]] = {sha256: [] for sha256 in bundles}
    for sha256, *fields, details in rows:
        found[sha256].append(Trial(**dict(zip(FIELDS, fields, strict=True)), details=json.loads(details)))
    return found


def hosts_of(con: Connection, run_id: str, phase: str, until: int | None = None) -> list[str]:
    """Return the hosts that have bundles of this phase (with `until`, up to that number of arrival), by name."""
    wanted = "u.run_id = ? AND u.phase = ? AND (b.arrival <= ? OR ? IS NULL)"
    sql = f"SELECT DISTINCT b.host FROM units u JOIN bundles b USING (unit_id) WHERE {wanted} ORDER BY 1"  # noqa: S608
    return column_of(con, sql, [run_id, phase, until, until])


def save_metrics(con: Connection, run_id: str, phase: str, host: str, metrics: Metrics) -> None:
    """Replace all metrics of this phase and host, in one transaction."""
    of = {"run_id": run_id, "phase": phase, "host": host}
    rows = [{**of, "position": i, **vars(m)} for i, m in enumerate(metrics.values)]
    with transaction(con):
        con.execute("DELETE FROM metrics WHERE run_id = ? AND phase = ? AND host = ?", [run_id, phase, host])
        insert(con, "metrics", rows)


def save_verdict(
    con: Connection, run_id: str, phase: str, verdict: Verdict, overridden_by: str | None = None, why: str | None = None
) -> None:
    """Store what the gate decided. An override once given stays when the same is decided again without one.

    Raises:
        LabError: the override gives no reason.
    """
    if why is not None and not why.strip():
        raise LabError(f"an override of {phase} gives no reason: {why!r}", 'lab pipeline --override "why"')
    m = verdict.main
    row: Json = {"status": verdict.status.value, "reason": verdict.reason, "threshold": verdict.threshold}
    row |= {"main_metric": m.metric, "main_condition": m.condition, "decided_at": datetime.now(UTC)}
    row["arrivals"] = last_arrival(con)
    row |= {name: getattr(m, name) for name in ("value", "low", "high", "n")}
    row["findings"] = verdict.findings.model_dump(mode="json") if verdict.findings else {}
    row["next_steps"] = [step.to_json() for step in verdict.next_steps]
    changes = [f"{name} = excluded.{name}" for name in row]
    override = {"overridden_by": overridden_by, "why": why}
    changes += [f"{name} = coalesce(excluded.{name}, verdicts.{name})" for name in override]
    row |= {"run_id": run_id, "phase": phase, **override}
    insert(con, "verdicts", [row], f"(run_id, phase) DO UPDATE SET {', '.join(changes)}")


def save_host_verdicts(con: Connection, run_id: str, phase: str, verdicts: Mapping[str, Verdict]) -> None:
    """Replace what the gate says of the results of single hosts, by host: those that have all of them."""
    of = {"run_id": run_id, "phase": phase}
    rows = []
    for host, verdict in verdicts.items():
        row: Json = {**of, "host": host, "status": verdict.status.value, "reason": verdict.reason}
        row["findings"] = verdict.findings.model_dump(mode="json") if verdict.findings else {}
        rows.append(row)
    with transaction(con):
        con.execute("DELETE FROM host_verdicts WHERE run_id = ? AND phase = ?", [run_id, phase])
        insert(con, "host_verdicts", rows)


def verdict_of(con: Connection, run_id: str, phase: str) -> Verdict | None:
    """Return the stored verdict, or None. `chain_of` has its override."""
    row = con.execute(
        "SELECT v.status, v.reason, v.findings, v.next_steps, v.main_metric, v.main_condition, v.value, v.low, v.high, v.n, "
        "v.threshold, coalesce(m.failed, 0), coalesce(m.method, ''), coalesce(m.timing, false) FROM verdicts v "
        "LEFT JOIN metrics m ON m.run_id = v.run_id AND m.phase = v.phase AND m.host = ? "
        "AND m.metric = v.main_metric AND m.condition = v.main_condition WHERE v.run_id = ? AND v.phase = ?",
        [ALL_HOSTS, run_id, phase],
    ).fetchone()
    if row is None:
        return None
    status, reason, findings, steps, metric, condition, value, low, high, n, threshold, failed, method, timing = row
    main = Metric(metric, value, low, high, n, failed, condition, method, timing)
    next_steps = tuple(NextStep.from_json(step) for step in json.loads(steps))
    return Verdict(Status(status), reason, read_findings(phase, json.loads(findings)), main, threshold, next_steps)


class EarlierTest(NamedTuple):
    """A verdict that rests on a number, with the configuration of its phase."""

    run_id: str
    status: str
    config: Json


def tests_of(con: Connection, phase: str) -> list[EarlierTest]:
    """Return all verdicts of a phase that rest on a number, the earliest first."""
    rows = con.execute(
        "SELECT v.run_id, v.status, p.content FROM verdicts v JOIN runs r USING (run_id) JOIN plans p USING (plan_id) "
        "WHERE v.phase = ? AND v.value IS NOT NULL ORDER BY v.decided_at, v.run_id",
        [phase],
    ).fetchall()
    return [EarlierTest(run_id, status, json.loads(content)["configs"][phase]) for run_id, status, content in rows]


def findings_of(con: Connection, run_id: str, before: str | None = None) -> Earlier:
    """Return the findings of all phases of the run, or of those before one of them.

    Raises:
        LabError: what is stored are not that phase's findings.
    """
    rows = dict(con.execute("SELECT phase, findings FROM verdicts WHERE run_id = ?", [run_id]).fetchall())
    phases = list(PHASES)[: list(PHASES).index(before) if before else None]
    found = (read_findings(phase, json.loads(rows[phase])) for phase in phases if phase in rows)
    return Earlier(tuple(f for f in found if f is not None))


def stands_under(con: Connection, run_id: str) -> str:
    """Return the run's plan in words, and whether it was stored before the trials, as a pre-registration has to be."""
    row = con.execute("SELECT plan_id, units, units_before FROM plan_order WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        return "a plan without results"
    plan_id, units, before = row
    if not before:
        return f"plan {plan_id}, stored before the first trial"
    return f"plan {plan_id}, stored when {before} of its {units} units had results of an earlier plan already"


def metrics_of(con: Connection, run_id: str) -> list[dict[str, Any]]:
    """Return the run's metrics over all hosts as rows of phase_metrics, in order."""
    columns = "phase, metric, condition, value, low, high, n, failed, method, timing"
    sql = f"SELECT {columns} FROM phase_metrics WHERE run_id = ? ORDER BY phase, position"  # noqa: S608 - fixed words
    return rows_of(con, sql, [run_id])


def chain_of(con: Connection, run_id: str) -> list[dict[str, Any]]:
    """Return the run's verdicts as rows of gate_history, in the order of the phases.

    `differs` is a sentence about hosts that gave other answers to the same trials, "" where none did.
    """
    rows = rows_of(con, "SELECT * FROM gate_history WHERE run_id = ?", [run_id])
    compared = agreement_of(con, run_id)
    for row in rows:
        row["differs"] = of_phase(compared.of(row["phase"]))
    return sorted(rows, key=lambda r: list(PHASES).index(r["phase"]))


def assign(con: Connection, run_id: str, assignments: Sequence[Assignment]) -> None:
    """Store which units were sent to which work pool."""
    now = {"assigned_at": datetime.now(UTC), "arrivals": last_arrival(con)}
    rows = []
    for one in assignments:
        sent = {"run_id": run_id, "place": one.pool, "host": one.host, "attempt": one.attempt, **now}
        rows += [{"unit_id": unit.unit_id, "phase": unit.phase, **sent} for unit in one.units]
    insert(con, "assignments", rows)


def examples_of(con: Connection, phase: str, but: str) -> dict[str, Unit]:
    """Return one unit of the phase for each other run that has a result of it, the latest run first."""
    rows = con.execute(
        """
        SELECT u.run_id, arg_min(u.spec, u.position) FROM units u JOIN runs r USING (run_id) JOIN bundles b USING (unit_id)
        WHERE u.phase = ? AND u.run_id <> ? GROUP BY u.run_id, r.started_at ORDER BY r.started_at DESC, u.run_id
        """,
        [phase, but],
    ).fetchall()
    return {run_id: Unit.from_json(json.loads(spec)) for run_id, spec in rows}


def last_arguments(con: Connection, phase: str) -> Arguments | None:
    """Return what the user set for the run in which the phase was worked on last; None when there is none."""
    row = con.execute(
        """
        SELECT r.run_id, r.arguments_given FROM runs r JOIN units u USING (run_id) LEFT JOIN bundles b USING (unit_id)
        WHERE u.phase = ? AND (r.arguments_given ->> 'specification_of') IS NULL
        GROUP BY r.run_id, r.arguments_given, r.started_at
        ORDER BY greatest(max(b.received_at), r.started_at) DESC LIMIT 1
        """,
        [phase],
    ).fetchone()
    return None if row is None else Arguments(str(row[0]), json.loads(row[1]))


def forget_units(con: Connection, run_id: str, phase: str) -> None:
    """Delete the units that a phase asked for in a run that is not to begin; trials stay."""
    con.execute("DELETE FROM units WHERE run_id = ? AND phase = ?", [run_id, phase])
