"""A disk that is full: one clear error, nothing stored is lost, and all goes on once there is room."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection as Connection
from small_disk import fill, mounted

from benchmarks.chaos.work import trials_of, unit_id_of, unit_of
from common.errors import LabError
from warehouse.database.connection import writing
from warehouse.database.records import save_units
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance import verify as checks
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths

SIZE_MB = 24  # a new warehouse and its snapshot take about 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    with mounted(tmp_path / "disk", SIZE_MB) as folder:
        yield folder


def put(folder: Path, label: str, bulk: int = 0) -> Path:
    now, trials = datetime.now(UTC), trials_of(label)
    for i in range(bulk):
        trials[0].details[f"key-{i}"] = unit_id_of(f"{label}{i}")
    return write_bundle(
        folder,
        unit_of(label),
        trials,
        host="pi-4",
        attempt=1,
        started_at=now,
        finished_at=now,
        provenance={"identity": {}},
    )


def stored(paths: Paths) -> tuple[set[str], list[str]]:
    """Units with a result, and what does not verify."""
    with writing(paths) as con:
        found = Verified()
        checks.check_schema(con, found)
        checks.check_bundles(con, paths, found)
        checks.check_records(paths, found)
        units = {u for (u,) in con.execute("SELECT unit_id FROM bundles").fetchall()}
    return units, [f.what for f in found.faults]


def test_results_are_refused_with_one_clear_error_and_none_is_torn(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host whose disk is full the spool holds what it held, no half of a bundle, and the next one goes in again."""
    paths = Paths(disk / "home")
    saved = put(paths.spool, "kept")
    blocker = fill(disk)
    with pytest.raises(LabError, match="is full; nothing that was stored is lost") as refused:
        put(paths.spool, "lost", bulk=2000)
    assert "lab clean" in refused.value.mend
    assert [p.name for p in paths.spool.iterdir()] == [saved.name]
    blocker.unlink()
    assert put(paths.spool, "lost", bulk=2000).is_file()


def test_a_delivery_onto_a_full_disk_leaves_all_in_the_spool(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's disk is another one: what does not fit stays here, with the reason, and goes when there is room."""
    monkeypatch.setenv("LAB_RESULTS_URL", f"file://{disk}")
    paths = Paths(tmp_path / "home")
    store = Store.configured(paths)
    (disk / "inbox").mkdir()
    for label in "abc":
        put(paths.spool, label, bulk=500)
    blocker = fill(disk)
    delivery = store.deliver(paths.spool)
    assert (delivery.delivered, delivery.waiting) == (0, 3)
    assert "No space left on device" in (delivery.reason or "")
    assert len(list(paths.spool.glob("*.parquet"))) == 3
    blocker.unlink()
    assert store.deliver(paths.spool).delivered == 3
    assert not list((disk / "inbox").glob(".part-*"))


@pytest.mark.parametrize("leave", [0, 300_000, 2_000_000])
def test_a_collector_on_a_full_disk_loses_and_doubles_nothing(
    disk: Path, monkeypatch: pytest.MonkeyPatch, leave: int
) -> None:
    """Wherever it meets the end of the disk - warehouse, archive, records or snapshot - it says so, the bundles are still in
    inbox or archive, and with room again each is counted once."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    paths = Paths(disk / "home")
    store = Store.configured(paths)
    labels = [f"unit-{i}" for i in range(30)]

    def plan(con: Connection) -> None:
        save_units(con, "run", "p1", [unit_of(label) for label in labels])

    with writing(paths, publish=True) as con:
        plan(con)
    put(store.inbox, labels[0])
    assert collect(paths, store).ingested == 1
    for label in labels[1:]:
        put(store.inbox, label, bulk=1000)
    blocker = fill(disk, leave)
    reported = ""
    try:
        taken = collect(paths, store)
        reported = " ".join(reason for _, reason in taken.left)
    except LabError as error:
        reported = str(error)
    assert "full" in reported or "No space left on device" in reported
    blocker.unlink()
    collect(paths, store)
    units, wrong = stored(paths)
    assert units == {unit_id_of(label) for label in labels}
    assert wrong == []
    assert not paths.quarantine.exists()
