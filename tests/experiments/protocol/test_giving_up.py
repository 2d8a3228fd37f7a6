"""Units that no machine could compute: the phase goes on with failed rows, and its gate says what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from driving import earlier
from test_phases_fail import SMALL, findings

from common.canonical_json import canonical
from common.errors import LabError
from experiments.contract import Status, Trial, Unit
from experiments.protocol import leakage_gate
from experiments.protocol.giving_up import failed_trials
from experiments.registry import PHASES, configure, get_phase
from flows.chain import advance, conclude, open_run
from flows.plan import plan
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

WHY = "no result after 3 attempts: shard crashed: its machine sends no heartbeats"


def chained(name: str) -> tuple[list[tuple[Unit, list[Trial]]], Any]:
    """(units of all rounds with the rows of giving up, the verdict) of a phase of which nothing could be computed."""
    config, done = configure(name, "smoke", SMALL[name]), list[tuple[Unit, list[Trial]]]()
    while planned := get_phase(name).units(config, earlier(findings()), done):
        done += [(unit, failed_trials(unit, WHY)) for unit in planned]
    metrics = get_phase(name).metrics([t for _, trials in done for t in trials], config)
    return done, (metrics, get_phase(name).gate(metrics, config))


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_of_which_nothing_could_be_computed_is_inconclusive(name: str) -> None:
    """Three dead machines must not end in a traceback of the analysis, nor in numbers made of nothing."""
    done, (metrics, verdict) = chained(name)
    assert done
    for _, trials in done:
        assert trials and all(t.error == WHY and t.attempts is None and t.solved is None for t in trials)
        canonical([t.details for t in trials])
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.main.value is None
    assert verdict.next_steps
    assert "3 attempts" in verdict.reason or any(m.failed for m in metrics.values), verdict.reason


def test_rows_stand_for_the_trials_that_are_missing() -> None:
    """Problems and conditions are those of the unit, so that failures are counted where the results would have been."""
    config = configure("p2", "smoke", SMALL["p2"])
    unit = get_phase("p2").units(config, earlier(findings()), [])[0]
    rows = [(t.problem_id, t.condition) for t in failed_trials(unit, WHY)]
    assert rows == [(p, c) for p in unit.spec["problems"] for c in ("none", "random", "recent", "semantic")]
    for name in ("e2", "p3"):
        config = configure(name, "smoke", SMALL[name])
        train = next(u for u in get_phase(name).units(config, earlier(findings()), []) if u.spec["role"] == "train")
        (row,) = failed_trials(train, WHY)
        assert (row.problem_id, row.condition) == ("training", "train_s" if name == "e2" else "train")


def test_a_late_result_counts_and_the_next_pipeline_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Giving up is for this pipeline only: nothing of it stands beside a real result, and no bundle is made up for it."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    paths = Paths(tmp_path)
    store = Store.configured(paths)
    given = {
        "p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": ["all-MiniLM-L6-v2", "no-such-embedder"]}
    }
    with writing(paths) as con:
        run = open_run(con, plan("smoke", given))
        pending = advance(con, run, "p1").pending
        records.give_up_units(con, run.run_id, [u.unit_id for u in pending], WHY)
        assert advance(con, run, "p1").pending == ()
        with pytest.raises(LabError, match=f"no unit of p1 has a result, so nothing is decided: {WHY}"):
            conclude(con, run, "p1")
        assert records.verdict_of(con, run.run_id, "p1") is None
        assert con.execute("SELECT count(*) FROM bundles").fetchone() == (0,)
        own = next(u for u in pending if u.spec.get("role") != leakage_gate.LEAKAGE)
        now = datetime.now(UTC)
        keys = leakage_gate.expected(own).trials
        trials = [Trial(k.problem_id, k.condition, truth=k.truth, error="cannot be loaded here") for k in keys]
        write_bundle(
            store.inbox,
            own,
            trials,
            host="pi",
            attempt=1,
            started_at=now,
            finished_at=now,
            provenance={"identity": own.identity},
        )
        collect(paths, store, con)
        assert own.unit_id not in {u.unit_id for u, _ in records.given_up_of(con, run.run_id, "p1")}
        assert "cannot be loaded here" in conclude(con, run, "p1").reason
        records.try_again(con, run.run_id)
        again = advance(con, run, "p1").pending
        assert {u.unit_id for u in again} == {u.unit_id for u in pending} - {own.unit_id}
