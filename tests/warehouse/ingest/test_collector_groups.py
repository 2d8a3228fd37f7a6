"""Bundles that are taken in together, in one transaction: none suffers from another, and memory bounds how many they are."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_up_bundles import make_unit, plan, put, query

from warehouse.database.connection import writing
from warehouse.delivery.bundles import BadBundle, Bundle
from warehouse.delivery.reading import Head, read_head
from warehouse.delivery.results_store import Store
from warehouse.ingest import collector
from warehouse.ingest import read_ahead as ahead
from warehouse.ingest.collector import collect
from warehouse.ingest.read_ahead import Inbox, accept, read_ahead
from warehouse.ingest.suspects import Suspects
from warehouse.paths import Paths


def inbox(paths: Paths, suspects: Suspects) -> Inbox:
    """An inbox whose entries were all planned."""
    return Inbox(paths, lambda entries: lambda head: accept, suspects)


def test_a_value_that_is_refused_takes_no_other_bundle_with_it(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles go in together; where DuckDB refuses one of them, that one is quarantined and the others go in all the same."""
    good, bad = put(store.inbox, "a"), put(store.inbox, "b")
    real = ahead.read_bundle

    def spoilt(path: Path, head: Head) -> Bundle:
        bundle = real(path, head)
        if path != bad:
            return bundle
        column = bundle.trials.schema.get_field_index("details")
        return replace(bundle, trials=bundle.trials.set_column(column, "details", pa.array(["{"] * 2)))

    with monkeypatch.context() as patch:
        patch.setattr(ahead, "read_bundle", spoilt)
        taken = collect(paths, store)
    assert taken.ingested == 1
    assert [(name, "the warehouse refuses a value" in reason) for name, reason in taken.quarantined] == [
        (bad.name, True)
    ]
    assert query(paths, "SELECT DISTINCT unit_id FROM trials") == [(make_unit("a").unit_id,)]
    assert [p.name for p in paths.bundles.iterdir()] == [good.name]


def test_a_stop_in_a_later_group_keeps_the_earlier_ones(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of bundles in one transaction is bounded, so that a backlog of days needs no memory for all of it and a collector that
    dies in it has not worked for nothing; nothing of the group it died in is there, and the next call takes the rest."""
    labels = [f"u{i}" for i in range(5)]
    plan(paths, *labels)
    for label in labels:
        put(store.inbox, label)
    real, calls = collector.insert_trials, 0

    class StopError(BaseException):
        pass

    def stopping(*args: Any) -> None:
        nonlocal calls
        calls += 1
        real(*args)
        if calls == 2:
            raise StopError

    monkeypatch.setattr(collector, "GROUP_BUNDLES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(collector, "insert_trials", stopping)
        with pytest.raises(StopError):
            collect(paths, store)
    assert len(list(store.inbox.iterdir())) == 3
    assert collect(paths, store).ingested == 3
    assert query(paths, "SELECT count(*), count(DISTINCT unit_id), max(replicate) FROM bundles") == [(5, 5, 0)]
    assert query(paths, "SELECT count(*) FROM counted_trials") == [(10,)]


def test_a_refused_group_does_not_spoil_the_next_one(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next group is being read while one fails: no bundle may be left out or mistaken for another."""
    labels = [f"u{i}" for i in range(6)]
    plan(paths, *labels)
    files = sorted(put(store.inbox, label) for label in labels)
    real = ahead.read_bundle

    def spoilt(path: Path, head: Head) -> Bundle:
        bundle = real(path, head)
        column = bundle.trials.schema.get_field_index("details")
        bad = bundle.trials.set_column(column, "details", pa.array(["{"] * 2))
        return replace(bundle, trials=bad) if path == files[0] else bundle

    monkeypatch.setattr(collector, "GROUP_BUNDLES", 3)
    monkeypatch.setattr(
        collector, "CHUNK_TRIALS", 1
    )  # so that it is refused while the others of its group are waited for
    monkeypatch.setattr(ahead, "read_bundle", spoilt)
    taken = collect(paths, store)
    assert (taken.ingested, [name for name, _ in taken.quarantined]) == (5, [files[0].name])
    assert sorted(p.name for p in paths.bundles.iterdir()) == [p.name for p in files[1:]]
    assert query(paths, "SELECT count(*), count(DISTINCT bundle_sha256) FROM trials") == [(10, 5)]


def test_what_is_read_ahead_is_bounded_and_comes_in_order(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inbox of days must not be read into memory at once, and a bundle larger than the room must not wait for ever."""
    files = sorted(put(store.inbox, f"u{i}") for i in range(6))
    needed = max(read_head(path).needed_bytes for path in files)
    begun: list[Path] = []
    real = ahead.read_bundle
    monkeypatch.setattr(ahead, "read_bundle", lambda path, head: begun.append(path) or real(path, head))
    for room, most in ((1, 1), (2 * needed, 2), (100 * needed, 6)):
        monkeypatch.setattr(ahead, "AHEAD_BYTES", room)
        begun.clear()
        with Suspects(paths) as suspects:
            for i, (path, reading) in enumerate(read_ahead(inbox(paths, suspects), files)):
                assert path == files[i] and reading.result().sha256 in path.name
                assert len(begun) <= i + most
        assert sorted(begun) == files


def test_what_waits_to_be_inserted_is_bounded_in_memory(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few trials can be large, and adapters come with few: neither may fill the memory while more trials are waited for."""
    labels = [f"u{i}" for i in range(5)]
    plan(paths, *labels)
    for label in labels:
        put(store.inbox, label, content=b"weights" * 100_000)
    real, sizes = collector.insert_trials, list[list[int]]()

    def counting(con: Any, tables: Any) -> None:
        assert all("attachment" not in table.schema.names for table in tables)
        sizes.append([table.nbytes for table in tables])
        real(con, tables)

    monkeypatch.setattr(collector, "insert_trials", counting)
    monkeypatch.setattr(collector, "CHUNK_BYTES", 700)
    assert collect(paths, store).ingested == 5
    assert [len(one) for one in sizes] == [2, 2, 1] and max(map(sum, sizes)) < 1400, sizes
    assert query(paths, "SELECT count(*) FROM trials") == [(10,)]


def test_reading_ahead_ends_where_nobody_asks_on(paths: Paths, store: Store) -> None:
    """A collector that stops must not go on reading an inbox of days, and what cannot be read is reported for that entry alone."""
    first, second = put(store.inbox, "a"), store.inbox / "junk"
    second.write_bytes(b"junk")
    entries = [second, first, store.inbox / "gone"]
    with Suspects(paths) as suspects, closing(read_ahead(inbox(paths, suspects), entries)) as readings:
        path, reading = next(readings)
        assert path == second
        with pytest.raises(BadBundle, match="the name is not"):
            reading.result()
        assert next(readings)[1].result().manifest["unit_id"] == make_unit("a").unit_id
        with pytest.raises(FileNotFoundError):
            next(readings)[1].result()
    assert list(readings) == []


@pytest.mark.parametrize("fails", [False, True])
def test_the_warehouse_has_its_settings_back(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Bundles go in on one thread; whoever computes metrics over the same connection after that needs them all."""
    put(store.inbox, "a")

    def settings() -> list[object]:
        return [con.execute("SELECT current_setting(?)", [name]).fetchone() for name in collector.SETTINGS]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with writing(paths) as con:
        con.execute("SET threads = 3")
        before = settings()
        if fails:
            monkeypatch.setattr(collector, "insert_trials", stop)
            with pytest.raises(KeyboardInterrupt):
                collect(paths, store, con)
        else:
            assert collect(paths, store, con).ingested == 1
        assert settings() == before and before[list(collector.SETTINGS).index("threads")] == (3,)
