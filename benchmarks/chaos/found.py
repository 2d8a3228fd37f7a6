"""Count what a home has lost, doubled or distorted, against what was written into it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

import duckdb

from benchmarks.chaos.work import blocks_of, content_of, decide, expected, labels_of, trials_of, unit_id_of
from common.canonical_json import canonical
from warehouse.database import records
from warehouse.database.connection import migrations, schema_version, writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance import verify as checks
from warehouse.maintenance.backup import backup_into
from warehouse.maintenance.clean import removable, remove
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths


@dataclass
class Found:
    """What was looked at, and what was wrong with it, in words."""

    units: int = 0
    verdicts: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    distorted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # files that nobody needs and nobody removes
    crashed: list[str] = field(default_factory=list)  # errors that no line explained to the user

    def add(self, other: Found) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.distorted, *self.left, *self.crashed]


def written_by(journals: dict[str, str]) -> dict[str, str]:
    """Return unit id -> label of all units that were written for certain, from the journals by writer."""
    labels = set()
    for writer, text in journals.items():
        numbers = [int(line) for line in text.split()]
        # A writer killed between its bundle and its journal leaves a gap there; the unit was written all the same.
        labels |= set(labels_of(writer)[: max(numbers, default=-1) + 1])
    return {unit_id_of(label): label for label in labels}


def journals_in(home: Path) -> dict[str, str]:
    return {p.stem: p.read_text() for p in home.glob("*.journal")}


def look(home: Path, journals: dict[str, str]) -> Found:
    """Deliver, collect and decide what is left to do in a home, and compare all of it with what was written.

    Args:
        journals: what each writer has written at least.
    """
    paths = Paths(home)
    store = Store.configured(paths)
    found = Found()
    if reason := store.deliver(paths.spool).reason:
        found.lost.append(f"not delivered: {reason}")
    with writing(paths, publish=True) as con:
        taken = collect(paths, store, con)
        decide(con, list(journals))
    found.distorted += [f"in quarantine: {name}: {why}" for name, why in taken.quarantined]
    found.distorted += [f"in quarantine: {p.name}" for p in paths.quarantine.glob("*")]
    found.lost += [f"left in the inbox: {name}" for name in store.waiting()]
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        _units(con, paths, store, written_by(journals), found)
        _verdicts(con, list(journals), found)
    with writing(paths) as con:
        done = Verified()
        checks.check_schema(con, done)
        checks.check_summaries(con, done)
        checks.check_bundles(con, paths, done)
        checks.check_records(paths, done)
    found.distorted += [f.what for f in done.faults]
    return found


def _units(con: duckdb.DuckDBPyConnection, paths: Paths, store: Store, written: dict[str, str], found: Found) -> None:
    bundles = con.execute("SELECT unit_id, count(*), max(replicate) FROM bundles GROUP BY 1").fetchall()
    rows = con.execute(
        "SELECT unit_id, list((problem_id, condition, truth, details::VARCHAR) ORDER BY ordinal) FROM trials GROUP BY 1"
    ).fetchall()
    trials = dict(rows)
    there = {unit_id for unit_id, _, _ in bundles}
    found.units += len(there)
    found.lost += [f"unit {label}" for unit_id, label in written.items() if unit_id not in there]
    found.doubled += [f"unit {unit_id} has {n} bundles" for unit_id, n, replicate in bundles if n > 1 or replicate]
    found.distorted += [f"unit {unit_id} has trials and no bundle" for unit_id in trials.keys() - there]
    for unit_id, label in written.items():
        if unit_id not in there:
            continue
        wanted = [(t.problem_id, t.condition, t.truth, canonical(t.details)) for t in trials_of(label)]
        if len(trials.get(unit_id, [])) > len(wanted):
            found.doubled.append(f"trials of {label}")
        elif trials.get(unit_id) != wanted:
            found.distorted.append(f"trials of {label}")
        content = content_of(label)
        if store.get_file(hashlib.sha256(content).hexdigest()) != content:
            found.distorted.append(f"the file of {label}")
    files = len(list(paths.bundles.glob("*.parquet")))
    if files != len(there):
        found.doubled.append(f"{files} files in the archive for {len(there)} units")


def _verdicts(con: duckdb.DuckDBPyConnection, writers: list[str], found: Found) -> None:
    stored: dict[str, int] = dict(con.execute("SELECT run_id, count(*) FROM verdicts GROUP BY 1").fetchall())
    done = {u for (u,) in con.execute("SELECT unit_id FROM bundles").fetchall()}
    for run_id, labels in ((r, b) for writer in writers for r, b in blocks_of(writer).items()):
        if not all(unit_id_of(label) in done for label in labels):
            continue
        found.verdicts += 1
        if run_id not in stored:
            found.lost.append(f"verdict of {run_id}")
            continue
        if stored[run_id] > 1:
            found.doubled.append(f"verdict of {run_id}")
        verdict, wanted = records.verdict_of(con, run_id, "p1"), expected(labels)
        if verdict is None or (verdict.status, verdict.reason) != (wanted.status, wanted.reason):
            found.distorted.append(f"verdict of {run_id}")
        elif (verdict.main.value, verdict.main.n) != (wanted.main.value, wanted.main.n):
            found.distorted.append(f"main metric of {run_id}")


def look_migrated(home: Path) -> Found:
    """Check that every warehouse that a migrator began comes up migrated."""
    found = Found()
    for one in sorted((home / "migrating").iterdir()):
        with writing(Paths(one)) as con:
            done = Verified()
            checks.check_schema(con, done)
            if schema_version(con) != len(migrations()) or done.findings:
                found.distorted.append(f"the warehouse in {one.name}")
    return found


def leftovers(folder: Path) -> list[str]:
    """Return the half-written files in a folder."""
    return [str(p) for p in folder.rglob(".part-*")]


def left_behind(home: Path) -> list[str]:
    """Return the half-written files that are still there after a day, a delivery, a collection, `lab clean` and a backup."""
    paths = Paths(home)
    store = Store.configured(paths)
    for path in leftovers(home):
        os.utime(path, (0, 0))
    store.deliver(paths.spool)
    with writing(paths, publish=True) as con:
        collect(paths, store, con)
        remove(con, removable(con, paths, store, timedelta(days=1)))
    if (saved := home / "saved").is_dir():
        backup_into(paths, store, str(saved))
    return leftovers(home)
