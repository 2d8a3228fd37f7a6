"""`lab run`: what it says of earlier results, and --resume, which goes on and never begins."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from lab_process import Run

from experiments.contract import Trial
from experiments.protocol import leakage_gate
from flows.chain import advance, open_run
from flows.plan import plan
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def begun(paths: Paths) -> str:
    """The id of a run at scale smoke whose P1 has results (failed trials, which need no engine)."""
    with writing(paths) as con:
        run = open_run(con, plan("smoke", {}))
        found = advance(con, run, "p1").units
    for unit in found:
        write_bundle(
            paths.spool,
            unit,
            [
                Trial(k.problem_id, k.condition, truth=k.truth, error="made up")
                for k in leakage_gate.expected(unit).trials
            ],
            host="here",
            attempt=1,
            started_at=NOW,
            finished_at=NOW,
            provenance={"identity": unit.identity},
        )
    Store.configured(paths).deliver(paths.spool)
    return run.run_id


def _runs(paths: Paths) -> list[str]:
    with writing(paths) as con:
        return [run_id for (run_id,) in con.execute("SELECT run_id FROM runs ORDER BY 1").fetchall()]


def test_what_was_never_begun_is_not_resumed(called: Run, paths: Paths) -> None:
    """Who says --resume expects minutes; hours of a wrong scale must not begin, nor an empty run stay behind."""
    done = called("run", "p1", "--resume")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no run of p1 to resume. lab run p1" in done.stderr
    assert not paths.warehouse.exists()
    done = called("run", "p1", "--scale", "smoke", "--resume")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert (
        last.startswith("nothing of p1 to resume: 0 of ")
        and "not reused: no result yet. lab run p1 --scale smoke" in last
    )
    assert _runs(paths) == []


def test_a_run_says_what_is_reused_and_resume_finds_the_last_one(called: Run, paths: Paths, begun: str) -> None:
    """A user goes on without having kept the command line; the scale and values are those of the run that is there."""
    done = called("run", "p1", "--resume")
    assert f"p1  as in run {begun}: --scale smoke" in done.stderr
    assert "p1  7 of 7 units reused" in done.stderr and "units done" not in done.stderr
    assert done.stdout.startswith("p1  INCONCLUSIVE")
    assert done.returncode == 0
    assert _runs(paths) == [begun]


def test_resume_refuses_when_all_would_be_computed_anew(called: Run, paths: Paths, begun: str) -> None:
    """Settings that make every unit new are another run: it is named what changed, and nothing is left of it."""
    done = called("run", "p1", "--scale", "smoke", "--set", "n_memory=18", "--resume")
    assert done.returncode == 2
    assert f"settings changed: n_memory 12, now 18 since run {begun}" in done.stderr.splitlines()[-1]
    assert _runs(paths) == [begun]
    with writing(paths) as con:
        assert con.execute("SELECT DISTINCT run_id FROM units").fetchall() == [(begun,)]


def test_a_phase_never_begun_in_a_known_run_is_not_resumed(called: Run, paths: Paths) -> None:
    """The run is there, its P1 is not: asked twice the answer is the same, since the first time left no unit behind."""
    with writing(paths) as con:
        run_id = open_run(con, plan("smoke", {})).run_id
    for _ in range(2):
        done = called("run", "p1", "--scale", "smoke", "--resume")
        assert done.returncode == 2 and "nothing of p1 to resume: 0 of " in done.stderr
    assert _runs(paths) == [run_id]
    with writing(paths) as con:
        assert con.execute("SELECT count(*) FROM units").fetchone() == (0,)
