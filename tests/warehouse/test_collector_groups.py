"""Bundles that are taken in together, in one transaction: none suffers from another, and memory bounds how many they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_up_bundles import make_unit, plan, put, query

from warehouse import collector
from warehouse.bundles import Bundle
from warehouse.collector import collect
from warehouse.database import writing
from warehouse.places import Places
from warehouse.transport import Store


def test_a_value_that_is_refused_takes_no_other_bundle_with_it(
    places: Places, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles go in together; where DuckDB refuses one of them, that one is quarantined and the others go in all the same."""
    good, bad = put(store.inbox, "a"), put(store.inbox, "b")
    real = collector.read_bundle

    def spoilt(path: Path) -> Bundle:
        bundle = real(path)
        if path != bad:
            return bundle
        column = bundle.trials.schema.get_field_index("details")
        return replace(bundle, trials=bundle.trials.set_column(column, "details", pa.array(["{"] * 2)))

    with monkeypatch.context() as patch:
        patch.setattr(collector, "read_bundle", spoilt)
        taken = collect(places, store)
    assert taken.ingested == 1
    assert [(name, "the warehouse refuses a value" in reason) for name, reason in taken.quarantined] == [
        (bad.name, True)
    ]
    assert query(places, "SELECT DISTINCT unit_id FROM trials") == [(make_unit("a").unit_id,)]
    assert [p.name for p in places.bundles.iterdir()] == [good.name]


def test_a_stop_in_a_later_group_keeps_the_earlier_ones(
    places: Places, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken in together is bounded, so that a backlog of days needs no memory for all of it and a collector that
    dies in it has not worked for nothing; nothing of the group it died in is there, and the next call takes the rest."""
    labels = [f"u{i}" for i in range(5)]
    plan(places, *labels)
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
            collect(places, store)
    assert len(list(store.inbox.iterdir())) == 3
    assert collect(places, store).ingested == 3
    assert query(places, "SELECT count(*), count(DISTINCT unit_id), max(replicate) FROM bundles") == [(5, 5, 0)]
    assert query(places, "SELECT count(*) FROM counted_trials") == [(10,)]


def test_one_bundle_larger_than_the_room_goes_by_itself(
    places: Places, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that needs more memory than is set aside for a group must be taken in all the same, or it would wait for ever."""
    put(store.inbox, "a")
    put(store.inbox, "b")
    monkeypatch.setattr(collector, "GROUP_BYTES", 1)
    assert [len(group) for group in collector._groups(sorted(store.inbox.iterdir()))] == [1, 1]
    assert collect(places, store).ingested == 2


def test_the_warehouse_has_its_threads_back(places: Places, store: Store) -> None:
    """Bundles go in on one thread; whoever computes metrics over the same connection after that needs them all."""
    put(store.inbox, "a")
    with writing(places) as con:
        con.execute("SET threads = 3")
        assert collect(places, store, con).ingested == 1
        assert con.execute("SELECT current_setting('threads')").fetchone() == (3,)
