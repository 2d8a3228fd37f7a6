"""One study in several specifications: each is decided as it would be alone, and nothing is asked of a model twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_llama import make_for_any_text

from experiments.backends.transformers_lm import TransformersModel
from experiments.contract import Json, Trial
from experiments.protocol.specifications import Specification
from flows.local import run_local
from flows.plan import Plan, plan
from flows.robust import Decided, decide_each
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.paths import Paths
from warehouse.queries import robustness, snapshot

WANTED = [Specification(values) for values in ({}, {"calibration": "batch"}, {"k": 1}, {"precision": "stored"})]


def given(model: str) -> dict[str, Json]:
    """A small P2 with this model."""
    shared: Json = {"model": model, "run_seeds": [100]}
    mine: dict[str, Json] = {"p1": {"embedders": ["all-MiniLM-L6-v2"]}, "p2": {"n_test": 2}}
    return {phase: {**shared, **mine.get(phase, {})} for phase in ("p1", "p2", "p3", "e0", "e1", "e2")}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that reach the model."""
    found: list[str] = []
    score = TransformersModel.score

    def counted(self: TransformersModel, prompt: str, options: Any) -> Any:
        found.append(prompt)
        return score(self, prompt, options)

    monkeypatch.setattr(TransformersModel, "score", counted)
    return found


def at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(home))
    return Paths(home)


def trials(paths: Paths, run_id: str) -> list[Trial]:
    with writing(paths) as con:
        return [t for r in records.trials_of(con, run_id, "p2") for t in r.trials]


def outcomes(paths: Paths, run_id: str) -> list[Any]:
    return [(t.problem_id, t.condition, t.seed, t.attempts, t.answer, t.tokens_in) for t in trials(paths, run_id)]


@pytest.mark.slow
def test_each_specification_is_decided_as_alone_and_asks_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """Verdicts and trials are those of a run by itself; a second call computes nothing; what cannot be computed says why."""
    model = f"hf/{make_for_any_text(tmp_path / 'llama')}"
    paths = at(tmp_path / "robust", monkeypatch)
    study = plan("smoke", given(model))
    run_local(paths, study, "p1", lambda *_: None)
    found = decide_each(paths, study, "p2", WANTED, lambda *_: None)
    first = len(asked)
    assert len(set(asked)) >= first - 2  # a small question each time a model is loaded
    assert [d.verdict is not None for d in found] == [True, True, True, False]
    assert "stored" in found[-1].why_not
    assert decide_each(paths, study, "p2", WANTED, lambda *_: None) == found
    assert len(asked) - first <= 2

    alone = at(tmp_path / "alone", monkeypatch)
    run_local(alone, study, "p1", lambda *_: None)
    for one in found[1:3]:
        other: dict[str, Json] = {**given(model), "p2": {**given(model)["p2"], **one.specification.settings}}
        verdict = run_local(alone, plan("smoke", other), "p2", lambda *_: None)
        assert verdict == one.verdict
        assert outcomes(alone, one.run_id) == outcomes(paths, one.run_id)

    at(tmp_path / "robust", monkeypatch)
    look_at_the_queries(study, found)


def look_at_the_queries(study: Plan, found: list[Decided]) -> None:
    """The page finds the specifications by their plans, and the run chooser begins with the study."""
    rows = robustness.specifications(study.run.run_id, "p2")
    assert rows[0]["settings"] == {}
    known = {d.run_id: d.verdict for d in found if d.verdict}
    assert {r["run_id"]: r["conclusion"] for r in rows} == {run_id: v.status.value for run_id, v in known.items()}
    assert [r["same"] for r in rows] == [r["conclusion"] == rows[0]["conclusion"] for r in rows]
    assert [h["conclusion"] for h in robustness.by_host(study.run.run_id, "p2")] == [rows[0]["conclusion"]]
    assert snapshot.runs()[0]["run_id"] == study.run.run_id
