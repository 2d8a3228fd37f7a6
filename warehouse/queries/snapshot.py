"""Query the published snapshot, which is opened read-only once for each publication.

The collector replaces snapshot.duckdb by an atomic rename, so a reader never waits for the writer's lock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb

from common.environment import no_such_home, upgrade_command
from common.errors import LabError
from experiments.contract import NextStep as NextStep
from experiments.protocol.leakage_gate import MARK as LEAKY
from experiments.registry import PHASES
from warehouse.database.agreement import RunAgreement, of_phase, read_agreement
from warehouse.database.connection import unreadable
from warehouse.database.statements import rows_of
from warehouse.paths import Paths

PHASE_ORDER: tuple[str, ...] = tuple(PHASES)
ALL_HOSTS = "all hosts"  # cannot be a host's name, which has no blanks
METRIC = "metric, condition, value, low, high, n, failed, method, timing"  # columns
SCHEMA = 12  # newest migration whose tables these queries know
Row = dict[str, Any]
READ_ERRORS = (duckdb.Error, OSError)  # raised by a query if the file is missing or damaged


class Identity(NamedTuple):
    """Inode, time of change and size of a snapshot, which differ in every publication."""

    inode: int
    changed_ns: int
    size_bytes: int


class Progress(NamedTuple):
    """Number of units with a counted bundle, and of those that the phase has asked for so far."""

    done: int
    asked: int


# DuckDB shares one open database for each path in a process: of two queries at once, one could read the replaced file. One at
# a time, each reads the present file.
_ONE_AT_A_TIME = threading.Lock()
# Path and identity of a file -> connection. Opening takes 15 ms, more than most queries (measured).
connections: dict[tuple[Path, Identity | None], duckdb.DuckDBPyConnection] = {}


@dataclass(frozen=True)
class State:
    """State of the snapshot: `detail` says what is wrong, `mend` is the command that helps."""

    kind: Literal["ready", "missing", "schema", "unreadable"]
    detail: str = ""
    mend: str = ""


@dataclass(frozen=True)
class PhaseText:
    """A phase's texts in a plan; the defaults are for old plans without them.

    Attributes:
        blocking: anything but PASS stops the chain.
        answers: in the order of a trial's log-probabilities; empty where an answer is not chosen from a list.
    """

    title: str = ""
    question: str = ""
    blocking: bool = True
    answers: tuple[str, ...] = ()


def identity(path: Path | None = None) -> Identity | None:
    """Return the identity of the snapshot; None if there is none."""
    try:
        found = (path or Paths.local().snapshot).stat()
    except (OSError, LabError):
        return None
    return Identity(found.st_ino, found.st_mtime_ns, found.st_size)


def state() -> State:
    """Return whether there is a snapshot that this version can read."""
    try:
        path = Paths.local().snapshot
    except LabError as error:
        return State("unreadable", error.what, error.mend)
    if not path.is_file():
        detail = no_such_home()
        return State("missing", detail, "unset LAB_HOME" if detail else "make demo")
    try:
        number = query("SELECT coalesce(max(number), 0) AS number FROM schema_migrations")[0]["number"]
    except duckdb.CatalogException:
        number = 0
    except READ_ERRORS as error:
        return State("unreadable", f"{path} cannot be read: {str(error).splitlines()[0][:200]}", "lab collect")
    if number == SCHEMA:
        return State("ready")
    # Collecting migrates and publishes the warehouse; a newer schema needs newer code.
    mend = "lab collect" if number < SCHEMA else upgrade_command()
    return State("schema", f"the snapshot has schema {number}, this version knows {SCHEMA}", mend)


@contextmanager
def reporting_damage() -> Iterator[None]:
    """Turn an error of a damaged snapshot in the block into one that says what to do.

    Raises:
        LabError: it is damaged.
        OSError: it cannot be read now.
    """
    try:
        yield
    except duckdb.Error as error:
        raise unreadable(Paths.local().snapshot, error, "lab collect") from error


def runs() -> list[Row]:
    """Return all runs, the latest first, and after them the specifications of others; `arguments_given` is a dictionary."""
    rows = query(
        "SELECT run_id, plan_id, scale, domain, model, epoch(started_at) AS started_at, epoch(finished_at) AS finished_at, "
        "host, code_commit, dirty, arguments_given FROM runs "
        "ORDER BY (arguments_given ->> 'specification_of') IS NOT NULL, runs.started_at DESC, run_id"
    )
    for row in rows:
        row["arguments_given"] = json.loads(row["arguments_given"])
    return rows


def phase_texts(run_id: str | None = None) -> dict[str, PhaseText]:
    """Return what the plan of a run, or the latest plan, says of each phase; every phase is there."""
    found = query(
        "SELECT (p.content ->> 'phases') AS phases FROM plans p LEFT JOIN runs r USING (plan_id) "
        "WHERE ($run_id IS NULL OR r.run_id = $run_id) AND (p.content ->> 'phases') IS NOT NULL "
        "ORDER BY p.created_at DESC LIMIT 1",
        {"run_id": run_id},
    )
    known = json.loads(found[0]["phases"]) if found else {}
    return {
        name: PhaseText(own["title"], own["question"], own["blocking"], tuple(own["answers"]))
        if (own := known.get(name))
        else PhaseText()
        for name in PHASE_ORDER
    }


def chain(run_id: str) -> list[Row]:
    """Return the verdicts of a run in the order of the phases: gate_history with trials, failed, hosts and seconds.

    `next_steps` is a list of NextStep, `findings` a dictionary, `hosts` a list of names in order, `actual_s` None until it is
    known, `leaky` True if the phase went on although its data leaked, `differs` a sentence about hosts that differ, or "".
    """
    rows = query(
        "SELECT phase, status, reason, main_metric, main_condition, value, low, high, n, threshold, "
        "epoch(decided_at) AS decided_at, overridden_by, why, next_steps, findings FROM gate_history WHERE run_id = ?",
        [run_id],
    )
    trials = {r["phase"]: r for r in query("SELECT phase, trials, failed FROM phase_trials WHERE run_id = ?", [run_id])}
    seconds = {r["phase"]: r for r in query("SELECT phase, actual_s FROM predictions WHERE run_id = ?", [run_id])}
    hosts, compared = phase_hosts(run_id), agreement(run_id)
    for row in rows:
        row["differs"] = of_phase(compared.of(row["phase"]))
        row["next_steps"] = [NextStep.from_json(step) for step in json.loads(row["next_steps"])]
        row["findings"] = json.loads(row["findings"])
        row["trials"] = trials.get(row["phase"], {}).get("trials", 0)
        row["failed"] = trials.get(row["phase"], {}).get("failed", 0)
        row["hosts"] = hosts.get(row["phase"], [])
        row["leaky"] = row["reason"].startswith(LEAKY)
        row["actual_s"] = seconds.get(row["phase"], {}).get("actual_s")
    return _in_order(rows)


def agreement(run_id: str) -> RunAgreement:
    """Return how far the hosts of a run agree, trial by trial, and what each of them did."""
    return read_agreement(query, run_id)


def phase_hosts(run_id: str) -> dict[str, list[str]]:
    """Return phase -> hosts with results of it, repeats of units included."""
    found: dict[str, list[str]] = {}
    for row in query("SELECT phase, host FROM phase_hosts WHERE run_id = ? ORDER BY host", [run_id]):
        found.setdefault(row["phase"], []).append(row["host"])
    return found


def latest_results(run_id: str) -> dict[str, datetime]:
    """Return phase -> time at which its newest bundle came in."""
    sql = "SELECT phase, epoch(max(last_at)) AS last_at FROM phase_hosts WHERE run_id = ? GROUP BY phase"
    return {r["phase"]: r["last_at"] for r in query(sql, [run_id])}


def measured_phases(run_id: str) -> list[str]:
    """Return the phases that have metrics, in order."""
    rows = query("SELECT DISTINCT phase FROM metrics WHERE run_id = ?", [run_id])
    return [r["phase"] for r in _in_order(rows)]


def host_comparison(run_id: str, phase: str) -> list[Row]:
    """Return each host's metrics of a phase, in the phase's order; `value` None is undefined, and `method` says why."""
    sql = f"SELECT phase, host, tier, {METRIC} FROM host_comparison WHERE run_id = ? AND phase = ? ORDER BY position, host"  # noqa: S608
    return query(sql, [run_id, phase])


def phase_metrics(run_id: str, phase: str) -> list[Row]:
    """Return the metrics over all hosts, on which the verdict rests, in the phase's order; `host` is ALL_HOSTS."""
    columns = f"phase, ? AS host, NULL AS tier, {METRIC}"
    sql = f"SELECT {columns} FROM phase_metrics WHERE run_id = ? AND phase = ? ORDER BY position"  # noqa: S608 - fixed words
    return query(sql, [ALL_HOSTS, run_id, phase])


def progress(run_id: str) -> dict[str, Progress]:
    """Return the progress of each phase that was started."""
    rows = query(
        "SELECT u.phase, count(DISTINCT b.unit_id) AS done, count(DISTINCT u.unit_id) AS asked FROM units u "
        "LEFT JOIN bundles b ON b.unit_id = u.unit_id AND b.replicate = 0 WHERE u.run_id = ? GROUP BY u.phase",
        [run_id],
    )
    return {r["phase"]: Progress(r["done"], r["asked"]) for r in rows}


def hosts() -> list[Row]:
    """Return all known hosts, in the order in which they were first seen, so that a new one is the last."""
    return query("SELECT host, tier, python FROM hosts ORDER BY first_seen, host")


def audits(run_id: str) -> list[Row]:
    """Return how far hosts agree on units that were run a second time: a row for each pair, over all audits of the run.

    `host` computed the result that counts, `other` computed it again (the same name: in another process). `units` is agreeing +
    deviating_units + without_result; `deviations` lists {"phase", "unit_id", "deviation"} of those that do not agree.
    """
    pairs = query(
        "SELECT host, other, count(*)::BIGINT AS audits, sum(units)::BIGINT AS units, sum(agreeing)::BIGINT AS agreeing, "
        "sum(deviating_units)::BIGINT AS deviating_units, sum(without_result)::BIGINT AS without_result, "
        "sum(trials)::BIGINT AS trials, sum(deviating_trials)::BIGINT AS deviating_trials, "
        "max(largest_difference) AS largest_difference, max(tolerance) AS tolerance, epoch(max(last_at)) AS last_at "
        "FROM audit_agreement WHERE run_id = ? GROUP BY host, other ORDER BY host, other",
        [run_id],
    )
    wanted = "FROM audits WHERE run_id = ? AND deviating IS DISTINCT FROM 0 ORDER BY audited_at, phase, unit_id"
    found = query(f"SELECT host, other, phase, unit_id, deviation {wanted}", [run_id])
    for pair in pairs:
        mine = [r for r in found if (r["host"], r["other"]) == (pair["host"], pair["other"])]
        pair["deviations"] = [{k: r[k] for k in ("phase", "unit_id", "deviation")} for r in mine]
    return pairs


def provenance(run_id: str) -> Row | None:
    """Return the origin of a run's numbers: run, plan (parsed), versions, arguments, hosts with tier and units."""
    found = query(
        "SELECT r.run_id, r.plan_id, p.sha256 AS plan_sha256, p.content, epoch(p.created_at) AS planned_at, r.scale, "
        "r.domain, r.model, r.host, r.code_commit, r.dirty, r.versions, r.arguments_given, r.arguments_defaulted, "
        "epoch(r.started_at) AS started_at, epoch(r.finished_at) AS finished_at, "
        "coalesce(o.units, 0) AS units, coalesce(o.units_before, 0) AS units_before "
        "FROM runs r LEFT JOIN plans p USING (plan_id) LEFT JOIN plan_order o USING (run_id) WHERE r.run_id = ?",
        [run_id],
    )
    if not found:
        return None
    row = found[0]
    for name in ("content", "versions", "arguments_given", "arguments_defaulted"):
        row[name] = json.loads(row[name]) if row[name] else {}
    row["hosts"] = query(
        "SELECT p.host, h.tier, h.python, sum(p.units)::BIGINT AS units FROM phase_hosts p LEFT JOIN hosts h USING (host) "
        "WHERE p.run_id = ? GROUP BY ALL ORDER BY p.host",
        [run_id],
    )
    return row


def _in_order(rows: list[Row]) -> list[Row]:
    """Return the rows of known phases, by phase; the order within a phase stays."""
    known = [r for r in rows if r["phase"] in PHASE_ORDER]
    return sorted(known, key=lambda r: PHASE_ORDER.index(r["phase"]))


def query(sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
    """Run a query and return its rows as dictionaries; parameters are ? or $name.

    Columns that end in _at are aware datetimes in UTC (SQL gives them as epoch seconds).
    """
    with _ONE_AT_A_TIME:
        try:
            rows = rows_of(_connection(), sql, values)
        except duckdb.Error:  # a connection may not recover from a damaged file
            _close()
            raise
    for row in rows:
        for name, value in row.items():
            if name.endswith("_at") and value is not None:
                row[name] = datetime.fromtimestamp(value, UTC)
    return rows


def _connection() -> duckdb.DuckDBPyConnection:
    """Return the connection to the present snapshot; the caller holds the lock."""
    path = Paths.local().snapshot
    now = (path, identity(path))
    if now not in connections:
        _close()  # first, or DuckDB would return the replaced file
        connections[now] = duckdb.connect(str(path), read_only=True)
    return connections[now]


def _close() -> None:
    while connections:
        connections.popitem()[1].close()
