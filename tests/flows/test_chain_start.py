"""Beginning a phase in the middle of the chain: what it needs is asked for, and nothing else."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import LabError
from experiments import e0_retrieval_parameters as e0
from experiments.contract import Metric, NextStep, Status, Verdict
from experiments.solving.retrieval import RetrievalConfig
from flows import chain
from flows.chain import open_phase, open_run
from flows.pipeline import pipeline
from flows.plan import Run, pipeline_command, plan
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.paths import Paths

NONE_LOADED = Verdict(
    Status.INCONCLUSIVE,
    "no embedder could be loaded",
    None,
    Metric("similarity_ratio", None, None, None, 0, 0, "", "", False),
    1.2,
    (NextStep("pip install '.[weak]'", "nothing could be loaded"),),
)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A run whose P1 was decided and has no findings."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_HOST", "pi-4")
    found = Paths(tmp_path)
    with writing(found) as con:
        records.save_verdict(con, open_run(con, plan("smoke")).run_id, "p1", NONE_LOADED)
    return found


def test_a_phase_that_does_not_need_it_begins_without_it(paths: Paths) -> None:
    """E0 brings its own embedders; it was refused for want of what P2 needs."""
    with writing(paths) as con:
        assert open_phase(con, plan("smoke"), "e0").run_id == open_phase(con, plan("smoke"), "p1").run_id


def test_a_phase_without_findings_is_named(paths: Paths) -> None:
    """P2 said that P1 had no verdict, and the command that it named gave the same verdict once more."""
    with (
        writing(paths) as con,
        pytest.raises(LabError, match="p2 needs p1's embedder, but p1 has none to give") as said,
    ):
        open_phase(con, plan("smoke"), "p2")
    assert said.value.what.endswith("INCONCLUSIVE, no embedder could be loaded")
    assert said.value.mend == "pip install '.[weak]'"


def test_what_was_not_decided_names_the_command_that_decides_it(paths: Paths) -> None:
    """E1 needs the findings of E0, and E0 can be run at once."""
    with (
        writing(paths) as con,
        pytest.raises(LabError, match="e1 needs e0's retrieval parameters, but e0 has no verdict") as said,
    ):
        open_phase(con, plan("smoke"), "e1")
    assert said.value.mend == "lab run e0 --scale smoke"


def test_what_it_needs_is_decided_though_a_phase_before_was_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1 with another number of memos needs E0's results, which are there, and none of P1's, which are not."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    decided: list[str] = []

    def conclude(con: Any, run: Run, phase: str) -> None:
        decided.append(phase)
        found = e0.Findings(retrieval=RetrievalConfig())
        records.save_verdict(con, run.run_id, phase, replace(NONE_LOADED, findings=found))

    lacking: Any = object()
    monkeypatch.setattr(chain, "advance", lambda con, run, phase: chain.Step((), () if phase == "e0" else (lacking,)))
    monkeypatch.setattr(chain, "conclude", conclude)
    with writing(Paths(tmp_path)) as con:
        open_phase(con, plan("smoke", {"e1": {"k": 1}}), "e1")
    assert decided == ["e0"]


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_an_override_without_a_reason_is_refused_however_it_comes(blank: str, paths: Paths) -> None:
    """Prefect's page and its command start a pipeline too, and the record then says that somebody had a reason."""
    with pytest.raises(LabError, match="gives no reason"):
        pipeline.fn(scale="smoke", override=blank)
    with writing(paths) as con, pytest.raises(LabError, match="an override of p1 gives no reason"):
        records.save_verdict(con, open_run(con, plan("smoke")).run_id, "p1", NONE_LOADED, "pi-4", blank)
    for wrong in ({"until": "p9"}, {"on": {"p1": "Pi 4"}}):
        with pytest.raises(LabError):
            pipeline.fn(scale="smoke", **wrong)


def test_the_command_to_try_again_is_the_one_that_was_given() -> None:
    """Typed as shown, it stopped at the first gate, or ran one machine where all were asked for."""
    run = plan("smoke", {"p2": {"n_test": 8}}).run
    assert pipeline_command(run) == "lab pipeline --scale smoke --set p2.n_test=8"
    again = pipeline_command(run, "it's for me", "replicate")
    assert shlex.split(again)[2:] == [
        *("--scale", "smoke", "--set", "p2.n_test=8", "--mode", "replicate", "--override", "it's for me")
    ]
