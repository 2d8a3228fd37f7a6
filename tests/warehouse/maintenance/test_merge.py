"""Merging warehouses: everything of the other comes in once, what both knew stays as it was, and the other is not touched."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from common.errors import LabError
from experiments.contract import Attachment, Trial, Unit
from warehouse.database.connection import writing
from warehouse.database.records import RunRecord, save_plan, save_run, save_units
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.merge import merge
from warehouse.paths import Paths

NOW = datetime(2026, 11, 24, tzinfo=UTC)
IDENTITY = {"code": "c", "data": "d", "models": {}}
CONTENT = b"an adapter"


def unit(label: str) -> Unit:
    return Unit(hashlib.sha256(label.encode()).hexdigest()[:32], "p1", 1, {}, {}, IDENTITY)


def store_of(paths: Paths) -> Store:
    return Store(paths.home / "results", paths.spool, paths.bundles)


def coordinator(home: Path, runs: dict[str, list[str]], done: list[str], host: str) -> Paths:
    """A warehouse that planned these units in these runs, and has bundles of those that are done."""
    paths = Paths(home)
    with writing(paths) as con:
        for run, labels in runs.items():
            save_plan(con, run, {"scale": "smoke"})
            save_run(con, RunRecord(run, run, "smoke", "big_o", "m", host, "0", False, {}, {}, {}))
            save_units(con, run, "p1", [unit(label) for label in labels])
    for label in done:
        file = Attachment("a.safetensors", hashlib.sha256(CONTENT).hexdigest(), CONTENT)
        write_bundle(
            store_of(paths).inbox,
            unit(label),
            [Trial(label, "none", attempts=1)],
            [file],
            host=host,
            attempt=1,
            started_at=NOW,
            finished_at=NOW,
            provenance={"identity": IDENTITY},
        )
    assert collect(paths, store_of(paths)).ingested == len(done)
    return paths


def rows(paths: Paths, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        return con.execute(sql).fetchall()


def test_runs_and_trials_of_both_stand_in_one(tmp_path: Path) -> None:
    """Two laboratories that shared a run each computed a part of it, and one of them a run of its own."""
    here = coordinator(tmp_path / "it's here", {"both": ["a", "b"]}, ["a"], "desk")
    other = coordinator(tmp_path / "that's other", {"both": ["a", "b"], "own": ["c"]}, ["a", "b", "c"], "shed")
    before = {p: p.read_bytes() for p in other.home.rglob("*") if p.is_file()}
    done = merge(here, store_of(here), other)
    assert (done.runs, done.shared) == (["own"], ["both"])
    assert (done.collected.ingested, done.collected.replicates, done.collected.quarantined) == (3, 1, [])
    assert rows(here, "SELECT run_id FROM runs ORDER BY run_id") == [("both",), ("own",)]
    assert rows(here, "SELECT problem_id, host FROM counted_trials ORDER BY ALL") == [
        ("a", "desk"),
        ("b", "shed"),
        ("c", "shed"),
    ]
    assert store_of(here).get_file(hashlib.sha256(CONTENT).hexdigest()) == CONTENT
    assert {p: p.read_bytes() for p in other.home.rglob("*") if p.is_file()} == before
    again = merge(here, store_of(here), other)
    assert (again.runs, again.collected.ingested, again.collected.known) == ([], 0, 0)
    assert rows(here, "SELECT count(*) FROM trials") == [(4,)]


def test_what_cannot_be_merged_is_told_and_changes_nothing(tmp_path: Path) -> None:
    """Its own home, one without a snapshot, and one of another version."""
    here = coordinator(tmp_path / "here", {"r": ["a"]}, ["a"], "desk")
    other = coordinator(tmp_path / "other", {"s": ["b"]}, ["b"], "shed")
    with pytest.raises(LabError, match="is this warehouse"):
        merge(here, store_of(here), Paths(here.home.parent / "x" / ".." / "here"))
    with pytest.raises(LabError, match="there is no"):
        merge(here, store_of(here), Paths(tmp_path / "nothing"))
    with duckdb.connect(str(other.snapshot)) as con:
        con.execute("DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)")
    with pytest.raises(LabError, match="its schema is"):
        merge(here, store_of(here), other)
    assert rows(here, "SELECT run_id FROM runs") == [("r",)]


def test_a_bundle_that_was_altered_there_is_quarantined_here(tmp_path: Path) -> None:
    """The other's archive is believed no more than a machine's delivery."""
    here = coordinator(tmp_path / "here", {"r": ["a"]}, ["a"], "desk")
    other = coordinator(tmp_path / "other", {"s": ["b", "c"]}, ["b", "c"], "shed")
    altered = min(other.bundles.glob("*.parquet"))
    altered.write_bytes(altered.read_bytes()[:-1])
    done = merge(here, store_of(here), other)
    assert done.collected.ingested == 1
    assert [reason for _, reason in done.collected.quarantined] == [
        "the content does not match the SHA-256 in the name"
    ]
