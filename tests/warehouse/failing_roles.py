"""Run by test_injected_errors with the error-injecting layer: does one piece of work a command, each in a process of its own.

A command is one line of JSON: scenario, template, home, kinds, at, number, environment. The child copies the template, works with
one call failing, looks at what is left, works again without errors, and looks again. The answer is one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pandas  # noqa: F401 - pyarrow looks for it at its first table, half a second in each child otherwise
from made_up_bundles import make_unit, plan, put
from made_up_report import report_file

from benchmarks import injected_errors as layer
from common.errors import LabError
from common.files import TEMPORARY
from common.system_errors import system_error
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.directory import Directory
from warehouse.ingest.collector import collect
from warehouse.maintenance import verify as checks
from warehouse.maintenance.backup import backup
from warehouse.maintenance.rebuild import rebuild
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths

LABELS = ("inbox", "also", "known", "lost")
CONTENT = b"weights"


@dataclass
class Scenario:
    """A piece of work, what it needs, and what must be true after an error and after a second try."""

    prepare: Callable[[Paths, Store], Any]
    work: Callable[[Paths, Store], Any]
    labels: tuple[str, ...] = LABELS
    kinds: tuple[str, ...] = field(default=layer.FILES)


def store_of(paths: Paths) -> Store:
    """The store that LAB_RESULTS_URL names; else one of this home, to which bundles are delivered as to a mount."""
    if "LAB_RESULTS_URL" in os.environ:
        return Store.configured(paths)
    root = paths.home / "results"
    return Store(root, paths.spool, paths.bundles, Directory(root, own=True))


def prepare_inbox(paths: Paths, store: Store) -> None:
    """Two new bundles; one that was ingested and not moved; one in the archive whose row was lost; a report."""
    plan(paths, *LABELS)
    put(store.inbox, "known")
    collect(paths, store)
    shutil.copy(next(paths.bundles.glob("*.parquet")), store.inbox)
    put(store.inbox, "inbox", content=CONTENT)
    put(store.inbox, "also")
    put(paths.bundles, "lost", content=CONTENT)
    (store.root / "hosts").mkdir()
    (store.root / "hosts" / "capability_report_pi-4.json").write_bytes(report_file("pi-4"))


def prepare_spool(paths: Paths, store: Store) -> None:
    for label in LABELS:
        put(paths.spool, label)


def prepare_warehouse(paths: Paths, store: Store) -> None:
    plan(paths, *LABELS)
    for label in LABELS:
        put(store.inbox, label, content=CONTENT)
    collect(paths, store)


def publish(paths: Paths, store: Store) -> None:
    with writing(paths, publish=True) as con:
        collect(paths, store, con)


def write(paths: Paths, store: Store) -> None:
    if not any(paths.spool.glob("*.parquet")):
        put(paths.spool, LABELS[0])


def back_up(paths: Paths, store: Store) -> None:
    target = paths.home / "backup.tar"
    if not target.exists():
        backup(paths, store, target)


SCENARIOS = {
    "collect": Scenario(prepare_inbox, publish),
    "deliver": Scenario(prepare_spool, lambda paths, store: store.deliver(paths.spool)),
    "write": Scenario(lambda paths, store: paths.spool.mkdir(parents=True), write, LABELS[:1]),
    "rebuild": Scenario(prepare_warehouse, rebuild),
    "backup": Scenario(prepare_warehouse, back_up),
}


def whole(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == path.name.split(".")[1]


def seen(paths: Paths, store: Store) -> list[str]:
    """What must not be, at any time: a bundle that is not whole, one in quarantine."""
    wrong = [str(p) for p in paths.quarantine.glob("*")] if paths.quarantine.exists() else []
    for folder in (paths.spool, store.inbox, paths.bundles):
        wrong += [f"torn: {p}" for p in folder.glob("*.parquet") if not whole(p)]
    return wrong


def lost(scenario: str, paths: Paths, inbox: Path) -> list[str]:
    folders = (paths.spool, inbox, paths.bundles)
    there = {p.name.split(".")[0] for folder in folders for p in folder.glob("*.parquet")}
    wanted = SCENARIOS[scenario].labels if scenario != "write" else ()
    return [f"lost: {label}" for label in wanted if make_unit(label).unit_id not in there]


def left_half(root: Path) -> list[str]:
    return [f"left: {p.name}" for p in root.rglob("*") if p.name.startswith(TEMPORARY)]


def finished(scenario: str, paths: Paths, store: Store, inbox: Path) -> list[str]:
    """What is wrong after a second try without errors; `inbox` is the store's own, where that is another machine's."""
    wrong = left_half(paths.home)
    if scenario in ("deliver", "write"):
        folder = inbox if scenario == "deliver" else paths.spool
        names = sorted(p.name.split(".")[0] for p in folder.glob("*.parquet"))
        wanted = sorted(make_unit(label).unit_id for label in SCENARIOS[scenario].labels)
        return wrong + ([] if names == wanted else [f"{folder.name} has {names}"])
    if scenario == "backup":
        return wrong + ([] if (paths.home / "backup.tar").is_file() else ["no backup"])
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        rows = con.execute("SELECT unit_id, replicate FROM bundles ORDER BY 1").fetchall()
        trials = con.execute("SELECT unit_id, count(*) FROM trials GROUP BY 1 ORDER BY 1").fetchall()
    ids = sorted(make_unit(label).unit_id for label in LABELS)
    wrong += [] if rows == [(i, 0) for i in ids] else [f"rows {rows}"]
    wrong += [] if trials == [(i, 2) for i in ids] else [f"trials {trials}"]
    wrong += [f"still in the inbox: {p.name}" for p in inbox.iterdir()]
    with writing(paths) as con:
        done = Verified()
        checks.check_schema(con, done)
        checks.check_summaries(con, done)
        checks.check_files(store, checks.check_bundles(con, paths, done), done)
        checks.check_records(paths, done)
    return wrong + [f.what for f in done.faults]


def case(asked: dict[str, Any]) -> dict[str, Any]:
    scenario, paths = SCENARIOS[asked["scenario"]], Paths(Path(asked["home"]))
    shutil.copytree(asked["template"], paths.home)
    os.environ |= asked["environment"]
    store = store_of(paths)
    inbox = Path(asked["inbox"]) if "inbox" in asked else store.inbox
    injection = layer.Injection(paths.home, tuple(asked["kinds"]), at=asked["at"], number=asked["number"])
    said, wrong = "", list[str]()
    layer.aim(injection)
    try:
        said = str(scenario.work(paths, store))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if not isinstance(error, LabError) and system_error(error) is None:
            wrong.append(f"a defect: {''.join(traceback.format_exception(error))}")
    calls, hit = layer.counted(), layer.injected()
    layer.rest()
    if asked["kinds"] != ["remove"]:
        wrong += left_half(paths.home)
    return {"calls": calls, "injected": hit, "said": said, "wrong": wrong + second_try(asked, paths, store, inbox)}


def second_try(asked: dict[str, Any], paths: Paths, store: Store, inbox: Path) -> list[str]:
    """What is wrong before and after the same work without errors."""
    wrong = seen(paths, store) + lost(asked["scenario"], paths, inbox)
    try:
        SCENARIOS[asked["scenario"]].work(paths, store)
        return wrong + seen(paths, store) + finished(asked["scenario"], paths, store, inbox)
    except Exception as error:
        return [*wrong, f"the second try: {''.join(traceback.format_exception(error))}"]


def after_death(asked: dict[str, Any]) -> dict[str, Any]:
    """What the next process finds, where the first one died of the error."""
    os.environ |= asked["environment"]
    paths = Paths(Path(asked["home"]))
    wrong = second_try(asked, paths, store_of(paths), Path(asked["inbox"]))
    return {"calls": 0, "injected": 1, "said": "died", "wrong": wrong}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "prepare" in asked:
            home = Path(asked["prepare"])
            pid = os.fork()
            if pid == 0:
                paths = Paths(home)
                SCENARIOS[asked["scenario"]].prepare(paths, store_of(paths))
                os._exit(0)
            answer: Any = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:
            answer = _forked(case, asked)
            if answer is None and asked["may_die"]:
                answer = _forked(after_death, asked)
            answer = answer or {"calls": 0, "injected": 0, "said": "", "wrong": ["the process died"]}
        print(json.dumps(answer), flush=True)


def _forked(work: Callable[[dict[str, Any]], dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any] | None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = work(asked)
        except BaseException:
            layer.rest()
            answer = {"calls": 0, "injected": 0, "said": "", "wrong": [traceback.format_exc()]}
        os.write(writer, json.dumps(answer).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        content = file.read()
    os.waitpid(pid, 0)
    return json.loads(content) if content else None


if __name__ == "__main__":
    main()
