"""`lab demo`: a gate's FAIL is a result, and the last lines say what came out."""

from __future__ import annotations

from typing import Any

import pytest
from lab_process import Run

from experiments.contract import Metric, Status, Verdict
from experiments.registry import PHASES
from flows.chain import open_run
from flows.plan import plan
from lab.commands import pipeline
from lab.exit_codes import EXIT_FAILED, EXIT_GATE
from lab.services.up import Up
from warehouse.database.connection import writing
from warehouse.database.records import save_verdict
from warehouse.paths import Paths

CLOSING = (
    "The verdicts are PASS for P2 P3 E1 E2, FAIL for P1 E0; the reasons and what to try are in: lab results\n"
    "A FAIL of P1 or E0 is the honest finding for so small a model, not an error; "
    "a full run of an earlier protocol is in docs/results/full.md.\n"
)


@pytest.fixture
def finished(paths: Paths) -> Paths:
    """A warehouse in which every phase of the smoke scale is decided, P1 and E0 with FAIL."""
    for phase in PHASES:
        with writing(paths) as con:
            run = open_run(con, plan("smoke"))
            status = Status.FAIL if phase in ("p1", "e0") else Status.PASS
            verdict = Verdict(status, f"{phase} is so.", None, Metric("x", 0.5, n=3))
            save_verdict(con, run.run_id, phase, verdict, "desk", "why")
    return paths


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--exit-code"], EXIT_GATE)])
def test_a_finished_demo_ends_with_zero_whatever_the_gates_said(
    finished: Paths, called: Run, options: list[str], code: int
) -> None:
    """make would call its first command broken if a FAIL were an error; scripts can ask for the gates' code."""
    done = called("demo", "--once", "--scale", "smoke", *options)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.endswith(f"\n{CLOSING}")
    lines = [line for line in done.stdout.splitlines() if line[:2].lower() in PHASES]
    assert [(line.split()[0].lower(), line.split()[1]) for line in lines] == [
        (p, "FAIL" if p in ("p1", "e0") else "PASS") for p in PHASES
    ]
    assert "is so." not in done.stdout


@pytest.mark.parametrize(
    ("ended", "options", "code"),
    [
        (0, [], 0),
        (EXIT_GATE, [], 0),
        (EXIT_GATE, ["--exit-code"], EXIT_GATE),
        (EXIT_FAILED, [], EXIT_FAILED),
        (EXIT_FAILED, ["--exit-code"], EXIT_FAILED),
    ],
)
def test_only_a_pipeline_that_did_not_complete_fails_the_demo(
    finished: Paths, called: Run, monkeypatch: pytest.MonkeyPatch, ended: int, options: list[str], code: int
) -> None:
    """A crash must still be an error, and has no verdicts to sum up; the services stop in every case."""
    stopped: list[Any] = []
    monkeypatch.setattr(pipeline, "show_finished", lambda run, brief: None)
    monkeypatch.setattr(pipeline, "follow_pipeline", lambda *_, **__: ended)
    monkeypatch.setattr(pipeline.assessing, "measure_speed", lambda say: None)
    monkeypatch.setattr(pipeline.up, "up", lambda *_, **__: Up("http://a:4200", "http://a:8501", "", ()))
    monkeypatch.setattr(pipeline.up, "down", stopped.append)
    done = called("demo", "--once", "--scale", "smoke", *options)
    assert done.returncode == code
    assert (CLOSING in done.stdout) == (ended != EXIT_FAILED)
    assert "http://" not in done.stdout  # what has stopped has no address
    assert stopped == [()]
