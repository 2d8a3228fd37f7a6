"""Forks writers, collectors and other roles from a process that has its imports done; `killing.Forks` starts it.

Commands, one a line: `start ROLE HOME` answers with the child's pid, `wait PID` with its exit code (-9 when killed). Each child
says in a file, by one byte, which stage it is in, so that it can be killed there.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - pyarrow looks for it at its first table, half a second in each child otherwise

from benchmarks.chaos.work import WRITERS, decide, labels_of, put_bundle, unit_id_of
from common.errors import LabError
from warehouse.database import connection, record_files
from warehouse.database.connection import migrations, schema_version, writing
from warehouse.delivery.results_store import Store
from warehouse.ingest import collector
from warehouse.ingest.collector import collect
from warehouse.maintenance import backup, rebuild
from warehouse.paths import Paths

PAUSE_S = 0.1
STAGES = {
    "spool": b"s",
    "delivery": b"d",
    "ingest": b"i",
    "snapshot": b"p",
    "records": b"r",
    "migrate": b"m",
    "verdict": b"v",
    "backup": b"b",
    "rebuild": b"u",
}
KEEP = 3  # backups of a home
WRITTEN = ".json"  # after a backup's name: a file with the journals as they were before it began
# What a role may meet when another was killed, or is at work, and what passes.
PASSES = ("is held by", "is missing, but its", "was removed while", "is being written")


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
    handle = os.open(paths.home / f"stage.{role}", os.O_WRONLY | os.O_CREAT, 0o600)
    os.pwrite(handle, stage, 0)
    os.close(handle)


def _until_stopped(paths: Paths, step: Callable[[], Any]) -> None:
    """Repeat a step until the home is told to stop; other errors than those in PASSES end the role."""
    while not (paths.home / "stop").exists():
        try:
            step()
        except LabError as error:
            if not any(text in error.what for text in PASSES):
                raise
        time.sleep(PAUSE_S)


def write(paths: Paths, role: str) -> None:
    """Write the units role-0, role-1, ... that have no bundle, note each in a journal, deliver now and then."""
    store, labels = Store.configured(paths), labels_of(role)
    spool = staged(paths, role, "spool", put_bundle)
    deliver = staged(paths, role, "delivery", store.deliver)
    i = 0
    while not (paths.home / "stop").exists():
        if i < len(labels) and not store.has_bundle(unit_id_of(labels[i])):
            spool(paths.spool, labels[i])
            with (paths.home / f"{role}.journal").open("a") as journal:
                journal.write(f"{i}\n")
            time.sleep(PAUSE_S)
        if i % 3 == 0:
            deliver(paths.spool)
        i = i + 1 if i < len(labels) else 0
        if i == 0:
            time.sleep(PAUSE_S)


def gather(paths: Paths, role: str) -> None:
    """Collect until stopped; nothing here is bad, so anything in quarantine is a fault."""
    collector.insert_bundles = staged(paths, role, "ingest", collector.insert_bundles)
    connection.publish_snapshot = staged(paths, role, "snapshot", connection.publish_snapshot)
    record_files.save = staged(paths, role, "records", record_files.save)

    def step() -> None:
        taken = collect(paths, Store.configured(paths))
        if taken.quarantined:
            raise AssertionError(taken)

    _until_stopped(paths, step)


def judge(paths: Paths, role: str) -> None:
    """Decide each run whose units all have results, and publish."""
    own = staged(paths, role, "verdict", decide)

    def step() -> None:
        with writing(paths, publish=True) as con:
            own(con, WRITERS)

    _until_stopped(paths, step)


def save(paths: Paths, role: str) -> None:
    """Write one backup after the other into a folder, each with what was written before it began."""
    into = paths.home / "saved"
    into.mkdir(exist_ok=True)
    own = staged(paths, role, "backup", backup.backup_into)

    def step() -> None:
        before = {p.stem: p.read_text() for p in paths.home.glob("*.journal")}
        done = own(paths, Store.configured(paths), str(into), KEEP)
        Path(f"{done.path}{WRITTEN}").write_text(json.dumps(before))
        if done.damaged:
            raise AssertionError(done)

    _until_stopped(paths, step)


def build(paths: Paths, role: str) -> None:
    """Rebuild the warehouse again and again; nothing here may be lost by it."""
    own = staged(paths, role, "rebuild", rebuild.rebuild)

    def step() -> None:
        done = own(paths, Store.configured(paths))
        if done.lost or done.aside or any(d.only_before for d in done.differences.values()):
            raise AssertionError(done)
        time.sleep(0.3)

    _until_stopped(paths, step)


def migrate(paths: Paths, role: str) -> None:
    """Make one new warehouse after the other, after a look at the one that the last death left."""
    connection.migrate = staged(paths, role, "migrate", connection.migrate)
    folder = paths.home / "migrating"
    folder.mkdir(exist_ok=True)
    i = max((int(p.name) for p in folder.iterdir()), default=0)
    while not (paths.home / "stop").exists():
        with writing(Paths(folder / str(i)), publish=True) as con:
            versions = con.execute("SELECT count(*) FROM schema_migrations").fetchone()
            if schema_version(con) != len(migrations()) or versions != (len(migrations()),):
                raise AssertionError(versions)
        i += 1


KINDS = {"writer": write, "collector": gather, "judge": judge, "saver": save, "builder": build, "migrator": migrate}


def child(paths: Paths, role: str) -> None:
    try:
        KINDS[role.split("-")[0]](paths, role)
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
