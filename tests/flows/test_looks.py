"""A study that is looked at several times, and tests that allow one look."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import LabError
from experiments import p1_embedding_validity as p1
from experiments.contract import Json, Metric, Result, Status, Trial, Unit, Verdict
from flows import chain
from flows.plan import Run, plan
from flows.second_look import refuse_second_look
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.paths import Paths

MINI = "all-MiniLM-L6-v2"
P1 = p1.Findings(embedder=MINI, text_weight=1.0)
LOOKS: Json = {"p2": {"n_test": 36, "look_every": 12, "per_unit": 12}}


def verdict(value: float | None, status: Status = Status.FAIL, findings: p1.Findings | None = None) -> Verdict:
    return Verdict(status, "made up", findings, Metric("adjusted_p", value))


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """An empty warehouse."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr("experiments.statistics.RESAMPLES", 2)
    return Paths(tmp_path)


def solved(unit: Unit, semantic: int) -> Result:
    """Each problem with 6 attempts under every condition but semantic memory."""
    trials = [
        Trial(p, c, None, semantic if c == "semantic" else 6, c == "semantic", "O(1)", "O(n)", details={"group": p})
        for p in unit.spec.get("problems", ())
        for c in ("none", "random", "recent", "semantic")
    ]
    return Result(unit, trials)


@pytest.mark.parametrize(("semantic", "rounds"), [(1, 1), (6, 3)])
def test_a_look_that_decides_ends_the_phase(
    semantic: int, rounds: int, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clear effect ends it after the first 12 problems; without any it goes to its last one, and is asked no further."""
    asked: list[Unit] = []
    with writing(paths) as con:
        run = chain.open_run(con, plan("smoke", LOOKS))
        records.save_verdict(con, run.run_id, "p1", verdict(0.9, Status.PASS, P1))
        monkeypatch.setattr(chain.records, "done_units", lambda *_: {u.unit_id for u in asked})
        monkeypatch.setattr(chain, "results", lambda *_: [solved(u, semantic) for u in asked])
        while pending := chain.advance(con, run, "p2").pending:
            asked += pending
    solving = [u for u in asked if "problems" in u.spec]
    assert {u.round for u in solving} == set(range(1, rounds + 1))
    problems = [p for u in solving for p in u.spec["problems"]]
    assert len(set(problems)) == len(problems) and (len(problems) >= 36) == (rounds == 3)


def decided(paths: Paths, value: float | None = 0.2, **given: object) -> Run:
    """A run whose P2 was decided."""
    with writing(paths) as con:
        run = chain.open_run(con, plan("smoke", {"p2": given}))
        records.save_verdict(con, run.run_id, "p2", verdict(value))
    return run


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ({"n_test": 4}, {"n_test": 8}, True),
        ({"n_test": 8}, {"n_test": 4}, True),
        ({"n_test": 4}, {"n_test": 24, "look_every": 6}, True),
        ({"n_test": 4}, {"n_test": 4, "look_every": 2}, True),
        ({"n_test": 4}, {"n_test": 8, "data_seed": 43}, False),
        ({"n_test": 4}, {"n_test": 4, "per_unit": 1}, False),
        ({"n_test": 4}, {"n_test": 8, "temperature": 0.5}, False),
        ({"n_test": 4, "value": None}, {"n_test": 8}, False),  # nothing was measured, so nothing was looked at
    ],
)
def test_a_second_look_at_the_same_problems_is_refused(before: Json, now: Json, refused: bool, paths: Paths) -> None:
    """Doubling the problems until a test passes was one command, and nobody saw it in the second verdict."""
    first = decided(paths, **before)
    planned = plan("smoke", {"p2": now})
    with writing(paths) as con:
        if not refused:
            refuse_second_look(con, planned.run, ["p1", "p2"])
            return
        with pytest.raises(
            LabError, match=f"tested on {before['n_test']} of these problems in run {first.run_id}"
        ) as said:
            chain.open_phase(con, planned, "p2")
        assert "--set data_seed=43" in str(said.value.mend)
        assert not records.has_run(con, planned.run.run_id), "a run that cannot start is not stored"
        refuse_second_look(con, planned.run, ["p1"])  # a pipeline that ends before it
        refuse_second_look(con, first, ["p2"])  # the run itself goes on
