"""Reading the published snapshot, and nothing else: every query opens it read-only, asks and closes.

The collector replaces snapshot.duckdb by an atomic rename, so a reader never meets the writer's lock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb

from experiments.environment import lab_home
from experiments.errors import LabError
from experiments.registry import PHASES

PHASE_ORDER: tuple[str, ...] = tuple(PHASES)
SCHEMA = 1  # newest migration whose tables these queries know
Row = dict[str, Any]
Identity = tuple[int, int, int]

# DuckDB shares one open database per path within a process: a query that overlapped another could see the file that
# was replaced meanwhile. One at a time, each opens the file that is there now.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class State:
    """Whether the snapshot can be shown. `detail` is what is wrong, `mend` the command that helps, where one does."""

    kind: Literal["ready", "missing", "schema", "unreadable"]
    detail: str = ""
    mend: str = ""


def snapshot_path() -> Path:
    """Where the published snapshot lies; LabError when LAB_HOME is no absolute path."""
    return lab_home() / "snapshot.duckdb"


def identity(path: Path | None = None) -> Identity | None:
    """(inode, mtime in ns, size in bytes) of the snapshot, which changes with every publication; None when there is none."""
    try:
        found = (path or snapshot_path()).stat()
    except (OSError, LabError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def state() -> State:
    """Whether there is a snapshot, of a schema that this code knows."""
    try:
        path = snapshot_path()
    except LabError as error:
        return State("unreadable", error.what, error.mend)
    if not path.is_file():
        return State("missing", str(path))
    try:
        rows = _query("SELECT max(number) AS number FROM schema_migrations")
    except duckdb.CatalogException:
        return State("schema", f"the snapshot has no schema number, this version knows {SCHEMA}")
    except (duckdb.Error, OSError) as error:
        return State("unreadable", f"{path} cannot be read: {str(error).splitlines()[0][:200]}")
    number = rows[0]["number"]
    if number != SCHEMA:
        return State("schema", f"the snapshot has schema {number}, this version knows {SCHEMA}")
    return State("ready")


def runs() -> list[Row]:
    """All runs, the latest first."""
    return _query(
        "SELECT run_id, plan_id, scale, domain, model, epoch(started_at) AS started_at, epoch(finished_at) AS finished_at, "
        "host, code_commit, dirty FROM runs ORDER BY runs.started_at DESC, run_id"
    )


def chain(run_id: str) -> list[Row]:
    """The verdicts of a run in the order of the phases: gate_history with trials, failed, hosts and seconds.

    `next_steps` is a list, `carried` a dictionary, `hosts` a list of names in order, `actual_s` None until it is known.
    """
    rows = _query(
        "SELECT phase, status, reason, main_metric, main_condition, value, low, high, n, threshold, "
        "epoch(decided_at) AS decided_at, overridden_by, why, next_steps, carried FROM gate_history WHERE run_id = ?",
        [run_id],
    )
    trials = {
        r["phase"]: r for r in _query("SELECT phase, trials, failed FROM phase_trials WHERE run_id = ?", [run_id])
    }
    seconds = {r["phase"]: r for r in _query("SELECT phase, actual_s FROM predictions WHERE run_id = ?", [run_id])}
    hosts = phase_hosts(run_id)
    for row in rows:
        row["next_steps"], row["carried"] = json.loads(row["next_steps"]), json.loads(row["carried"])
        row["trials"] = trials.get(row["phase"], {}).get("trials", 0)
        row["failed"] = trials.get(row["phase"], {}).get("failed", 0)
        row["hosts"] = hosts.get(row["phase"], [])
        row["actual_s"] = seconds.get(row["phase"], {}).get("actual_s")
    return _in_order(rows)


def phase_hosts(run_id: str) -> dict[str, list[str]]:
    """Hosts whose bundles count, for each phase that has any."""
    found: dict[str, list[str]] = {}
    for row in _query("SELECT phase, host FROM phase_hosts WHERE run_id = ? ORDER BY host", [run_id]):
        found.setdefault(row["phase"], []).append(row["host"])
    return found


def metrics(run_id: str) -> list[Row]:
    """The rows of host_comparison, by phase, metric, condition and host; `value` None means undefined."""
    rows = _query(
        "SELECT phase, host, tier, metric, condition, value, low, high, n, failed, method, timing, position "
        "FROM host_comparison WHERE run_id = ? ORDER BY position, host",
        [run_id],
    )
    return _in_order(rows)


def progress(run_id: str) -> dict[str, tuple[int, int]]:
    """(units with a counted bundle, units asked for so far) of each phase that was started."""
    rows = _query(
        "SELECT u.phase, count(DISTINCT b.unit_id) AS done, count(DISTINCT u.unit_id) AS asked FROM units u "
        "LEFT JOIN bundles b ON b.unit_id = u.unit_id AND b.replicate = 0 WHERE u.run_id = ? GROUP BY u.phase",
        [run_id],
    )
    return {r["phase"]: (r["done"], r["asked"]) for r in rows}


def hosts() -> list[Row]:
    """All hosts known, in the order in which they were first seen, so that a new one changes no other's place."""
    return _query("SELECT host, tier, python FROM hosts ORDER BY first_seen, host")


def provenance(run_id: str) -> Row | None:
    """Where a run's numbers come from: run, plan (content parsed), versions, arguments, hosts with tier and units."""
    found = _query(
        "SELECT r.run_id, r.plan_id, p.sha256 AS plan_sha256, p.content, epoch(p.created_at) AS planned_at, r.scale, "
        "r.domain, r.model, r.host, r.code_commit, r.dirty, r.versions, r.arguments_given, r.arguments_defaulted, "
        "epoch(r.started_at) AS started_at, epoch(r.finished_at) AS finished_at "
        "FROM runs r LEFT JOIN plans p USING (plan_id) WHERE r.run_id = ?",
        [run_id],
    )
    if not found:
        return None
    row = found[0]
    for name in ("content", "versions", "arguments_given", "arguments_defaulted"):
        row[name] = json.loads(row[name]) if row[name] else {}
    row["hosts"] = _query(
        "SELECT p.host, h.tier, h.python, sum(p.units)::BIGINT AS units FROM phase_hosts p LEFT JOIN hosts h USING (host) "
        "WHERE p.run_id = ? GROUP BY ALL ORDER BY p.host",
        [run_id],
    )
    return row


def _in_order(rows: list[Row]) -> list[Row]:
    """Rows of phases that are known, by phase; the order within a phase stays."""
    known = [r for r in rows if r["phase"] in PHASE_ORDER]
    return sorted(known, key=lambda r: PHASE_ORDER.index(r["phase"]))


def _query(sql: str, values: Sequence[Any] = ()) -> list[Row]:
    """Rows as dictionaries; columns that end in _at are aware datetimes in UTC (SQL gives them as epoch seconds)."""
    with _ONE_AT_A_TIME, duckdb.connect(str(snapshot_path()), read_only=True) as con:
        cursor = con.execute(sql, list(values))
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        for name in names:
            if name.endswith("_at") and row[name] is not None:
                row[name] = datetime.fromtimestamp(row[name], UTC)
    return rows
