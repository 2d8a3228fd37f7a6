"""Run by test_warehouse_crash: forks writers, collectors and migrators from a process that has its imports done.

Commands, one a line: `start ROLE HOME` answers with the child's pid, `wait PID` with its exit code (-9 when killed). Each child
says in a file, by one byte, which stage it is in, so that it can be killed there.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - pyarrow looks for it at its first table, half a second in each child otherwise

from common.errors import LabError
from experiments.contract import Attachment, Trial, Unit
from warehouse.database import connection, record_files
from warehouse.database.connection import migrations, schema_version, writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest import collector
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

TRIALS = 5
UNITS = 400  # of each writer that are planned
PAUSE_S = 0.05
STAGES = {"spool": b"s", "delivery": b"d", "ingest": b"i", "snapshot": b"p", "records": b"r", "migrate": b"m"}


def unit_id_of(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()[:32]


def unit_of(label: str) -> Unit:
    return Unit(unit_id_of(label), "p1", 1, {}, {}, {})


def content_of(label: str) -> bytes:
    return label.encode() * 1000


def trials_of(label: str) -> list[Trial]:
    return [Trial(f"{label}-{j}", "none", attempts=j + 1, details={"text": "x" * 500}) for j in range(TRIALS)]


def staged(paths: Paths, role: str, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with its stage reported while it runs."""

    def run(*args: Any, **values: Any) -> Any:
        _tell(paths, role, STAGES[stage])
        try:
            return function(*args, **values)
        finally:
            _tell(paths, role, b"-")

    return run


def _tell(paths: Paths, role: str, stage: bytes) -> None:
    handle = os.open(paths.home / f"stage.{role}", os.O_WRONLY | os.O_CREAT)
    os.pwrite(handle, stage, 0)
    os.close(handle)


def write(paths: Paths, role: str) -> None:
    """Write the units role-0, role-1, ... that have no bundle, note each in a journal, deliver now and then."""
    store, now = Store.configured(paths), datetime.now(UTC)
    spool = staged(paths, role, "spool", write_bundle)
    deliver = staged(paths, role, "delivery", store.deliver)
    i = 0
    while not (paths.home / "stop").exists():
        label = f"{role}-{i}"
        if i < UNITS and not store.has_bundle(unit_id_of(label)):
            content = content_of(label)
            files = [Attachment("a.bin", hashlib.sha256(content).hexdigest(), content)]
            spool(
                paths.spool,
                unit_of(label),
                trials_of(label),
                files,
                host="pi-4",
                attempt=1,
                started_at=now,
                finished_at=now,
                provenance={"identity": {}},
            )
            with (paths.home / f"{role}.journal").open("a") as journal:
                journal.write(f"{i}\n")
            time.sleep(PAUSE_S)
        if i % 3 == 0:
            deliver(paths.spool)
        i = i + 1 if i < UNITS else 0
        if i == 0:
            time.sleep(PAUSE_S)


def gather(paths: Paths, role: str) -> None:
    """Collect until stopped; nothing here is bad, so anything in quarantine is a fault."""
    collector.insert_bundles = staged(paths, role, "ingest", collector.insert_bundles)
    connection.publish_snapshot = staged(paths, role, "snapshot", connection.publish_snapshot)
    record_files.save = staged(paths, role, "records", record_files.save)
    while not (paths.home / "stop").exists():
        try:
            taken = collect(paths, Store.configured(paths))
        except LabError as error:
            if "is held by" not in error.what:
                raise
            continue  # the other collector had a backlog of more than 30 s, as on a crowded machine
        if taken.quarantined:
            raise AssertionError(taken)
        time.sleep(PAUSE_S)


def migrate(paths: Paths, role: str) -> None:
    """Make one new warehouse after the other, after a look at the one that the last death left."""
    connection.migrate = staged(paths, role, "migrate", connection.migrate)
    folder = paths.home / "migrating"
    folder.mkdir(exist_ok=True)
    i = max((int(p.name) for p in folder.iterdir()), default=0)
    while not (paths.home / "stop").exists():
        with writing(Paths(folder / str(i)), publish=True) as con:
            assert schema_version(con) == len(migrations())
            assert con.execute("SELECT count(*) FROM schema_migrations").fetchone() == (len(migrations()),)
        i += 1


def child(paths: Paths, role: str) -> None:
    kinds = {"writer": write, "collector": gather, "migrator": migrate}
    try:
        kinds[role.split("-")[0]](paths, role)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    for line in sys.stdin:
        command, *values = line.split()
        if command == "start":
            pid = os.fork()
            if pid == 0:
                child(Paths(Path(values[1])), values[0])
            print(pid, flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(int(values[0]), 0)[1]), flush=True)


if __name__ == "__main__":
    main()
