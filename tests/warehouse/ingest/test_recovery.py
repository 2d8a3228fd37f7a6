"""Results that lie in the archive without a row, as a cut log of the warehouse leaves them: taken in again, never given up."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from common.errors import LabError
from experiments.contract import Unit
from flows import attempts, pipeline
from flows.attempts import MAX_ATTEMPTS
from flows.chain import open_run
from flows.dispatch import Outcome
from flows.intake import take_in
from flows.local import run_local
from flows.plan import Run, plan
from flows.plan import plan as plan_run
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest import collector
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

GIVEN = {
    "p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": ["all-MiniLM-L6-v2"]}
}  # of the run in `run_home`
VERDICT = "SELECT status, reason, main_metric, main_condition, value, low, high, n FROM verdicts"


def lose_rows(con: duckdb.DuckDBPyConnection, tables: Sequence[str] = ("trials", "bundles")) -> None:
    """Delete what a log that was cut at this place does not hold."""
    for table in tables:
        con.execute(f"DELETE FROM {table}")


def rows(con: duckdb.DuckDBPyConnection) -> list[Any]:
    return (
        con.execute("SELECT sha256, replicate FROM bundles ORDER BY 1").fetchall()
        + con.execute("SELECT bundle_sha256, count(*) FROM trials GROUP BY 1 ORDER BY 1").fetchall()
    )


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("a unit was computed again")


def test_a_bundle_of_the_archive_without_its_row_is_taken_in_by_a_collection(run_home: Paths) -> None:
    """It was received, so it counts, exactly once, whatever happened to the warehouse's log."""
    store = Store.configured(run_home)
    with writing(run_home) as con:
        before = rows(con)
        lose_rows(con)
        taken = collect(run_home, store, con)
        assert (taken.recovered, taken.ingested, taken.left, taken.quarantined) == (len(before) // 2, 0, [], [])
        assert rows(con) == before
        assert collect(run_home, store, con).recovered == 0


def test_units_asked_for_only_now_find_their_results_in_the_archive(run_home: Paths) -> None:
    """Where an older warehouse was put back, the plans lost their rows as well: nothing is computed a second time."""
    store = Store.configured(run_home)
    with writing(run_home) as con:
        before = rows(con)
        lose_rows(con, ("trials", "bundles", "units", "verdicts", "metrics"))
        run = open_run(con, plan_run("smoke", GIVEN))
        assert take_in(con, run_home, store, run, "p1").step.pending == ()
        assert rows(con) == before


def test_lab_run_computes_nothing_again_and_comes_to_the_same_verdict(
    run_home: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict rests on the results that there are, not on those whose rows outlived a power cut."""
    monkeypatch.setattr("flows.local.run_unit", refuse)
    with writing(run_home) as con:
        before = con.execute(VERDICT).fetchall()
        lose_rows(con, ("trials", "bundles", "verdicts", "metrics"))
    run_local(run_home, plan("smoke", GIVEN), "p1", lambda *_: None)
    with writing(run_home) as con:
        assert con.execute(VERDICT).fetchall() == before != []


def test_a_damaged_bundle_of_the_archive_without_a_row_is_set_aside(run_home: Paths) -> None:
    """Its unit is then computed again: a host that looks for a bundle of the unit finds none."""
    store = Store.configured(run_home)
    path = next(run_home.bundles.glob("*.parquet"))
    with writing(run_home) as con:
        lose_rows(con)
        path.write_bytes(path.read_bytes()[:-100])
        taken = collect(run_home, store, con)
        assert [name for name, _ in taken.quarantined] == [path.name]
        assert not path.exists() and (run_home.quarantine / path.name).exists()


class FakeDispatcher:
    """A dispatcher whose shards end at once, since they find that their units have bundles."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store, self.run, self.submitted = store, run, 0

    def under_way(self) -> set[Any]:
        return set()

    def at_work(self) -> list[str]:
        return []

    def submit(self, phase: str, units: Sequence[Unit], attempt: int, above: str | None) -> None:
        self.submitted += 1

    def wait(self, collected: Any) -> Outcome:
        return Outcome()


def test_a_unit_whose_bundle_is_in_the_archive_is_never_given_up(
    run_home: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up, its results would be missing in the metrics, and another embedder's would decide. The pipeline says which
    file it cannot read and why, and once it can, goes on without a computation."""
    for module in (attempts, pipeline):
        monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))
    store, path = Store.configured(run_home), next(run_home.bundles.glob("*.parquet"))
    with writing(run_home) as con:
        run = open_run(con, plan_run("smoke", GIVEN))
        before = rows(con)
        lose_rows(con)
    dispatcher: Any = FakeDispatcher(store, run)
    progress: Any = SimpleNamespace(report=lambda *_, **__: None)
    runner = pipeline._PhaseRunner(run_home, dispatcher, progress, "split", None)
    real = collector.read_bundle

    def unreadable(found: Path) -> Any:
        if found == path:
            raise OSError(errno.EIO, "Input/output error", str(found))
        return real(found)

    with monkeypatch.context() as patch:
        patch.setattr(collector, "read_bundle", unreadable)
        with pytest.raises(LabError, match=f"{path.name}: the disk of .* has an input/output error") as refused:
            runner.run_units("p1")
    assert "lab pipeline" in refused.value.mend
    assert dispatcher.submitted == MAX_ATTEMPTS
    assert runner.run_units("p1") is False
    with writing(run_home) as con:
        assert rows(con) == before
        assert con.execute("SELECT count(*) FROM given_up").fetchone() == (0,)


def test_a_result_that_could_not_be_delivered_is_not_computed_again(
    run_home: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later `lab run` delivers first what an earlier one left in the spool."""
    monkeypatch.setattr("flows.local.run_unit", refuse)
    with writing(run_home) as con:
        before = rows(con)
        lose_rows(con, ("trials", "bundles", "verdicts", "metrics"))
    run_home.spool.mkdir(exist_ok=True)
    for path in run_home.bundles.glob("*.parquet"):
        path.rename(run_home.spool / path.name)
    run_local(run_home, plan("smoke", GIVEN), "p1", lambda *_: None)
    with writing(run_home) as con:
        assert rows(con) == before
