"""Why a unit is computed although earlier runs are there: the one thing that changed is named, and not what follows from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import canonical
from experiments.contract import Trial, Unit
from flows.chain import Step
from flows.plan import Run
from flows.reuse import reuse_of
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
IDENTITY = {"code": "c1", "data": "d1", "models": {"smollm2-135m": "m1", "minilm": "e1"}}
pytestmark = pytest.mark.usefixtures("any_trials")
CONFIG = {"n_test": 8, "per_unit": 2, "temperature": 0.3}


def make(spec: dict[str, Any], identity: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> Unit:
    """A unit whose id is a hash of all that decides it, as the real ones have."""
    mine, own = CONFIG | (config or {}), IDENTITY | (identity or {})
    unit_id = hashlib.sha256(canonical([mine, spec, own]).encode()).hexdigest()[:32]
    return Unit(unit_id, "e1", 1, mine, spec, own)


def units(identity: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **more: Any) -> list[Unit]:
    """A search for leaks and four units of two problems each."""
    parts = [{"role": "memo", "problems": [f"p-{i}", f"p-{i + 1}"], **more} for i in (0, 2, 4, 6)]
    return [make(spec, identity, config) for spec in ({"role": "leakage", "memory": ["p-0"], **more}, *parts)]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    return Paths(tmp_path)


@pytest.fixture
def con(paths: Paths) -> Iterator[Connection]:
    with writing(paths) as opened:
        yield opened


def store_run(paths: Paths, con: Connection, run_id: str, asked: Sequence[Unit], done: Sequence[Unit]) -> None:
    """A run that asked for some units and has results of those in `done`."""
    records.save_plan(con, run_id, {"scale": "demo"})
    records.save_run(con, records.RunRecord(run_id, run_id, "demo", "big_o", "m", "here", "abc", False, {}, {}, {}))
    records.save_units(con, run_id, "e1", asked)
    for unit in done:
        write_bundle(
            paths.spool,
            unit,
            [Trial("p", "none")],
            host="here",
            attempt=1,
            started_at=NOW,
            finished_at=NOW,
            provenance={"identity": unit.identity},
        )
    store = Store.configured(paths)
    store.deliver(paths.spool)
    assert collect(paths, store, con).ingested == len(done)


def lines(con: Connection, asked: Sequence[Unit], told: set[str] | None = None, run_id: str = "now") -> list[str]:
    done = records.done_units(con, [u.unit_id for u in asked])
    step = Step(tuple(asked), tuple(u for u in asked if u.unit_id not in done))
    return reuse_of(con, Run(run_id, run_id, "demo", {}), "e1", step, set() if told is None else told).lines()


def test_a_first_run_reuses_nothing(con: Connection) -> None:
    """No earlier run is no change of anything: none may be made up."""
    assert lines(con, units()) == [], "a first run has nothing to say of reuse"


def test_a_killed_run_goes_on_where_it_stopped(con: Connection, paths: Paths) -> None:
    """The same plan again: what is there is reused, and what is not had simply not been reached."""
    store_run(paths, con, "now", units(), units()[:3])
    assert lines(con, units()) == ["e1  3 of 5 units reused", "e1  2 not reused: no result yet"]
    store_run(paths, con, "later", units(), units()[3:])
    assert lines(con, units(), run_id="third") == ["e1  5 of 5 units reused"]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (units({"code": "c2"}), "code of e1 changed"),
        (units({"data": "d2"}), "data changed"),
        (units({"models": {"smollm2-135m": "m2", "minilm": "e1"}}), "model smollm2-135m changed"),
        (units(config={"temperature": 0.5}), "settings changed: temperature 0.3, now 0.5"),
        (units({"code": "c2", "data": "d2"}), "code of e1 changed, data changed"),
        (units(retrieval={"k": 7}), "results that it depends on changed (retrieval)"),
        (
            units({"models": {"smollm2-135m": "m1", "mpnet": "e2"}}),
            "results that it depends on changed (minilm, mpnet)",
        ),
        (
            units(config={"a": 1, "b": [1] * 30, "c": None, "d": 4}),
            f"settings changed: a null, now 1; b null, now [{'1,' * 19}1...; d null, now 4",
        ),
    ],
)
def test_what_changed_is_named(con: Connection, paths: Paths, now: list[Unit], why: str) -> None:
    """Hours of computing start again: who sees that must be told what to take back if it was not meant."""
    store_run(paths, con, "before", units(), units())
    assert lines(con, now) == ["e1  0 of 5 units reused", f"e1  5 not reused: {why} since run before"]


def test_what_the_earlier_run_had_not_reached_either_is_no_change(con: Connection, paths: Paths) -> None:
    """Code that changed in the middle of a run made only those units new that were done: the others never had a result."""
    store_run(paths, con, "before", units(), units()[:2])
    assert lines(con, units({"code": "c2"})) == [
        "e1  0 of 5 units reused",
        "e1  3 not reused: no result yet",
        "e1  2 not reused: code of e1 changed since run before",
    ]


def test_units_are_matched_by_their_place_where_the_problems_are_others(con: Connection, paths: Paths) -> None:
    """More problems a unit cuts them elsewhere: no unit has its problems any more, and the reason is the setting."""
    store_run(paths, con, "before", units(), units())
    wide = [
        make({"role": "memo", "problems": [f"p-{j}" for j in range(i, i + 4)]}, config={"per_unit": 4}) for i in (0, 4)
    ]
    assert lines(con, wide)[1:] == ["e1  2 not reused: settings changed: per_unit 2, now 4 since run before"]


def test_the_run_most_like_this_one_is_compared(con: Connection, paths: Paths) -> None:
    """Beside a trial run of yesterday with other settings, the code that changed since last week's run is the reason."""
    store_run(paths, con, "last-week", units(), units())
    store_run(paths, con, "yesterday", units(config={"n_test": 4}), units(config={"n_test": 4}))
    assert lines(con, units({"code": "c2"}))[1:] == ["e1  5 not reused: code of e1 changed since run last-week"]


def test_each_unit_is_told_of_once(con: Connection, paths: Paths) -> None:
    """The pipeline asks again after every shard; a later round of units is told of when it is there, and alone."""
    told: set[str] = set()
    first = units()
    store_run(paths, con, "now", first, first[:3])
    assert len(lines(con, first, told)) == 2
    second = [*first, make({"role": "evaluate", "problems": ["p-9"]})]
    assert lines(con, second, told) == []  # computed for the first time
    assert lines(con, second, told) == []
    assert told == {u.unit_id for u in second}


def test_a_unit_that_was_given_up_is_not_counted_as_reused(con: Connection, paths: Paths) -> None:
    """It has no result: a line that called it reused would hide the hole in the numbers."""
    store_run(paths, con, "now", units(), units()[1:])
    records.give_up_units(con, "now", [units()[0].unit_id], "no result after 3 attempts")
    step = Step(tuple(units()), ())
    found = reuse_of(con, Run("now", "now", "demo", {}), "e1", step, set())
    assert found.lines() == ["e1  4 of 5 units reused", "e1  1 not reused: given up, no result after 3 attempts"]


def test_an_adapter_that_changed_is_named(con: Connection, paths: Paths) -> None:
    """A unit that waits for a trained adapter is new with it, though nothing that a user set is."""
    before = [replace(make({"role": "tuned", "adapter": "a1"}), files=("f1",))]
    store_run(paths, con, "before", before, before)
    now = [replace(make({"role": "tuned", "adapter": "a2"}), files=("f2",))]
    assert lines(con, now)[1:] == ["e1  1 not reused: results that it depends on changed (adapter) since run before"]
