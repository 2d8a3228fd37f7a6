"""Run by test_warehouse_crash: forks writers and collectors from a process that has its imports done.

Commands, one a line: `start ROLE` answers with the child's pid, `wait PID` with its exit code (-9 when killed).
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pandas  # noqa: F401 - pyarrow looks for it at its first table, half a second in each child otherwise

from experiments.contract import Attachment, Trial, Unit
from experiments.errors import LabError
from warehouse.bundles import write_bundle
from warehouse.collector import collect
from warehouse.places import Places
from warehouse.transport import Store

TRIALS = 5
PAUSE_S = 0.02


def unit_id_of(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()[:32]


def content_of(label: str) -> bytes:
    return label.encode() * 1000


def trials_of(label: str) -> list[Trial]:
    return [Trial(f"{label}-{j}", "none", attempts=j + 1, details={"text": "x" * 500}) for j in range(TRIALS)]


def write(places: Places, role: str) -> None:
    """Write the units role-0, role-1, ... that have no bundle, note each in a journal, deliver now and then."""
    store, now, i = Store.here(places), datetime.now(UTC), 0
    while not (places.home / "stop").exists():
        label = f"{role}-{i}"
        if not store.has_bundle(unit_id_of(label)):
            unit, content = Unit(unit_id_of(label), "p1", 1, {}, {}, {}), content_of(label)
            files = [Attachment("a.bin", hashlib.sha256(content).hexdigest(), content)]
            write_bundle(
                places.spool, unit, trials_of(label), files, host="pi-4", attempt=1, started_at=now, finished_at=now,
                provenance={"identity": unit.identity},
            )  # fmt: skip
            with (places.home / f"{role}.journal").open("a") as journal:
                journal.write(f"{i}\n")
            time.sleep(PAUSE_S)
        if i % 3 == 0:
            store.deliver(places.spool)
        i += 1


def gather(places: Places) -> None:
    """Collect until told to stop; nothing here is bad, so anything in quarantine is a fault."""
    while not (places.home / "stop").exists():
        try:
            taken = collect(places, Store.here(places))
        except LabError as error:
            if "is held by" not in error.what:
                raise
            continue  # the other collector had a backlog of more than 30 s, as on a crowded machine
        if taken.quarantined:
            raise AssertionError(taken)
        time.sleep(PAUSE_S)


def child(places: Places, role: str) -> None:
    try:
        gather(places) if role.startswith("collector") else write(places, role)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    places = Places(Path(sys.argv[1]))
    for line in sys.stdin:
        command, value = line.split()
        if command == "start":
            pid = os.fork()
            if pid == 0:
                child(places, value)
            print(pid, flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(int(value), 0)[1]), flush=True)


if __name__ == "__main__":
    main()
