"""Drawing units to be run again: at random, by a seed, only what this host's code can repeat, and never on its own host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.errors import LabError
from experiments.contract import Trial, Unit
from flows import audit, chain
from flows.plan import plan
from warehouse.database import audits, records
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("any_trials")
Draw = Callable[..., audits.Audit]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_HOST", "here")
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    return Paths(tmp_path)


@pytest.fixture
def units(paths: Paths) -> list[Unit]:
    """P1's units of a planned run, each with a made-up result of the host pi-4, and one of another code's."""
    with writing(paths) as con:
        run = chain.open_run(con, plan("smoke", {"p1": {"n_memory": 11}}))
        found = list(chain.advance(con, run, "p1").units)
        old = replace(found[0], unit_id="0" * 32, identity={**found[0].identity, "code": "0" * 16})
        records.save_units(con, run.run_id, "p1", [old])
        for unit in (*found, old):
            write_bundle(
                paths.spool,
                unit,
                [Trial("p", "none")],
                host="pi-4",
                attempt=1,
                started_at=NOW,
                finished_at=NOW,
                provenance={"identity": unit.identity},
            )
        store = Store.configured(paths)
        store.deliver(paths.spool)
        assert collect(paths, store, con).ingested == len(found) + 1
    return found


@pytest.fixture
def draw(paths: Paths) -> Draw:
    """draw(fraction, seed, host, run_id)"""

    def drawn(
        fraction: float = 0.4, seed: int | None = None, host: str | None = None, run_id: str | None = None
    ) -> audits.Audit:
        return audit.draw(paths, Store.configured(paths), run_id, fraction, seed, host)

    return drawn


def _ids(drawn: audits.Audit) -> list[str]:
    return [f.unit.unit_id for f in drawn.sample]


def test_a_sample_is_repeatable_and_the_next_is_another(paths: Paths, units: list[Unit], draw: Draw) -> None:
    """An audit that always looked at the same units would never see the others; one without a seed could not be repeated."""
    first = draw()
    assert first.seed == 0 and len(first.sample) == max(1, round(0.4 * len(units)))
    assert _ids(first) == _ids(draw(seed=0))
    with writing(paths) as con:
        audits.conclude(con, first, dict.fromkeys(_ids(first), "here"), set(), {})
    assert draw().seed == 1
    assert len({tuple(_ids(draw(seed=s))) for s in range(6)}) > 1
    assert set(_ids(draw(1.0))) == {u.unit_id for u in units}
    assert len(draw(1e-9).sample) == 1


def test_what_this_code_cannot_repeat_is_left_out(units: list[Unit], draw: Draw) -> None:
    """A unit of an earlier code gives other trials today: that is a change of the code, no deviation of a host."""
    found = draw(1.0)
    assert (found.finished, found.left_out) == (len(units), 1)
    assert "0" * 32 not in _ids(found)


def test_a_host_is_not_asked_to_judge_itself(units: list[Unit], draw: Draw) -> None:
    """On the host that computed all there is nothing to compare with, but another process of this host tells something."""
    with pytest.raises(LabError, match="pi-4 computed every finished unit"):
        draw(host="pi-4")
    assert draw(host="laptop").finished == draw(host="here").finished == len(units)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(draw: Draw, fraction: float) -> None:
    """Nothing drawn would look like an audit in which everything agreed."""
    with pytest.raises(LabError, match="--fraction"):
        draw(fraction)


def test_nothing_finished_is_said(paths: Paths, draw: Draw) -> None:
    """Looking for something to audit must not make an empty warehouse that the pages then show."""
    with pytest.raises(LabError, match="nothing is finished yet"):
        draw()
    assert not paths.warehouse.exists()


def test_an_unknown_run_is_named(units: list[Unit], draw: Draw) -> None:
    """A misspelt run is the user's mistake, not an audit without units."""
    with pytest.raises(LabError, match="'demo-nope' has no finished unit"):
        draw(run_id="demo-nope")


def _run(paths: Paths) -> str:
    with writing(paths) as con:
        return audits.latest_run(con) or ""
