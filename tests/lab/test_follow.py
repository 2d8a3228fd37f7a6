"""What a user sees while the pipeline runs and when it ends, whatever the words and files in it are."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_verdicts import verdict
from prefect.exceptions import ObjectNotFound
from rich.console import Console
from server_double import reply, run_row

from common.errors import LabError
from common.text import printable
from experiments.contract import Metric, Status, Verdict
from experiments.registry import PHASES, SCALES
from flows.chain import open_run
from flows.forecast import expected_seconds
from flows.plan import plan
from flows.progress import PhaseProgress
from lab import follow
from lab.follow import ending, show_finished, watch
from lab.progress_view import Live, _bars, left_s
from warehouse.database.connection import writing
from warehouse.database.records import save_verdict
from warehouse.paths import Paths

EXPECTED = {"p1": 10.0, "p2": 30.0, "p3": 60.0}


@pytest.mark.parametrize("scale", SCALES)
def test_every_phase_is_expected_to_take_time(scale: str) -> None:
    """The shares of the progress line and the forecast of the demo divide by these."""
    expected = expected_seconds(plan(scale).run)
    assert list(expected) == list(PHASES)
    assert all(0 < seconds < 1e6 for seconds in expected.values())


def test_a_larger_scale_is_expected_to_take_longer() -> None:
    """The demo is announced as the short one; costs that did not grow with the work would make that a guess."""
    smoke, demo, full = (expected_seconds(plan(s).run) for s in ("smoke", "demo", "full"))
    assert all(smoke[p] <= demo[p] <= full[p] for p in PHASES)
    assert sum(smoke.values()) < sum(demo.values()) < sum(full.values())


def test_what_is_left_lies_between_the_plan_and_what_was_seen() -> None:
    """Half of P2, 25 of 100 expected seconds, done in 30; nothing is left at the end."""
    assert left_s(PhaseProgress(phase="p2", done=5, total=10), 30, EXPECTED) == pytest.approx(78.75)
    assert left_s(PhaseProgress(phase="p1", done=0, total=0), 0, EXPECTED) == 100
    assert left_s(PhaseProgress(phase="p3", done=3, total=3), 99, EXPECTED) == 0


@given(st.sampled_from(list(EXPECTED)), st.integers(0, 500), st.integers(0, 500), st.floats(0, 1e6, allow_nan=False))
def test_time_left_is_never_negative(phase: str, done: int, more: int, elapsed: float) -> None:
    """A forecast that has passed says zero."""
    assert left_s(PhaseProgress(phase=phase, done=done, total=done + more), elapsed, EXPECTED) >= 0


ROWS = [
    PhaseProgress(phase="p1", done=3, total=3, verdict="FAIL", reason="so"),
    PhaseProgress(phase="p2", done=5, total=10, hosts=("desktop", "a-laptop-with-a-long-name", "pi-4")),
]


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_has_one_line_a_phase_no_wider_than_itself(width: int) -> None:
    """A line that folds moves the whole block at each refresh; what matters most is never cut."""
    bars, terminal = _bars(), Console(file=io.StringIO(), width=width)
    Live(EXPECTED, bars).phases(ROWS, 30)
    with terminal.capture() as seen:
        terminal.print(bars.get_renderable())
    lines = seen.get().rstrip("\n").split("\n")
    assert [line.split()[0] for line in lines] == ["P1", "P2"] and all(len(line) <= width for line in lines)
    assert "3 of 3" in lines[0] and "FAIL" in lines[0] and "5 of 10" in lines[1]
    assert ("desktop, a-laptop-with" in lines[1] and "1 min 19 s left" in lines[1]) or width < 80


AGAIN = "lab pipeline --scale demo"
ALL_PASS: list[Mapping[str, Any]] = [verdict(p, "PASS", i) for i, p in enumerate(PHASES)]


def test_a_chain_that_went_through_ends_with_zero_or_names_what_failed() -> None:
    """0 only when no verdict is FAIL; 3 shows a script that one is, though the chain went on."""
    assert ending(ALL_PASS, tuple(PHASES), AGAIN) == (0, "")
    unsure = [*ALL_PASS[:3], verdict("e0", "INCONCLUSIVE", 3), *ALL_PASS[4:]]
    assert ending(unsure, tuple(PHASES), AGAIN) == (0, "")
    failed = [verdict("p1", "FAIL", 0, why="seen"), *ALL_PASS[1:5], verdict("e2", "FAIL", 5)]
    assert ending(failed, tuple(PHASES), AGAIN) == (3, "The pipeline completed; FAIL: P1, E2.")


@pytest.mark.parametrize("status", ["FAIL", "INCONCLUSIVE"])
def test_a_chain_that_stopped_ends_with_three_and_the_way_on(status: str) -> None:
    """Whoever meets a closed gate reads which one and the command that goes on all the same."""
    rows = [ALL_PASS[0], verdict("p2", status, 1)]
    code, text = ending(rows, tuple(PHASES), AGAIN)
    assert code == 3
    assert text == f'P2 stopped the chain. To go on all the same: {AGAIN} --override "why"'


def test_a_chain_that_was_asked_to_end_earlier_did_not_stop() -> None:
    """--until p2: that P2 was decided last is what was asked for; P1 as the last is a gate that stopped it."""
    rows = [ALL_PASS[0], verdict("p2", "PASS", 1)]
    assert ending(rows, tuple(PHASES), AGAIN, "p2") == (0, "")
    assert ending([ALL_PASS[0]], tuple(PHASES), AGAIN, "p2").code == 3


def test_later_verdicts_of_an_earlier_pipeline_do_not_hide_a_stop() -> None:
    """The same plan was once run to its end with an override; run without one it stops at P1 again, and says so."""
    rows = [verdict("p1", "INCONCLUSIVE", 99, why="seen"), *ALL_PASS[1:]]
    code, text = ending(rows, tuple(PHASES), AGAIN)
    assert (code, text.split(" ")[0]) == (3, "P1")


def test_a_pipeline_that_decided_nothing_has_failed() -> None:
    """Completed without one verdict is no success."""
    code, text = ending([], tuple(PHASES), AGAIN)
    assert code == 1
    assert AGAIN in text


class FakeServer:
    """Answers about one flow run: states by name, and errors that are raised."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    def request(self, method: str, path: str, json: Any = None) -> Any:
        if path == "/artifacts/filter":
            return reply(self.artifacts())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return reply(run_row("pipeline", answer))

    def artifacts(self) -> list[Any]:
        return []


def refusal(status: int) -> Exception:
    request = httpx.Request("POST", "http://coordinator:4200")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Follows a run on a FakeServer to its end, without pauses."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr(follow, "AGAIN_S", 0.0)
    run = SimpleNamespace(id=UUID(int=1))
    return lambda *answers: watch(FakeServer(*answers), run, "demo-1", EXPECTED, AGAIN).state


GONE = httpx.ConnectError("All connection attempts failed")


def test_a_server_that_comes_back_is_followed_on(
    followed: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A restarted server must cost the one who waits two lines, not a traceback and the way back to the run."""
    state = followed("RUNNING", GONE, GONE, refusal(503), "RUNNING", httpx.ReadTimeout(""), "COMPLETED")
    assert state.is_completed()
    shown = capsys.readouterr()
    assert shown.out == ""
    away = "the server does not answer ({}); running work goes on and its results are stored"
    back = "the server answers again"
    assert shown.err.splitlines() == [away.format("ConnectError"), back, away.format("ReadTimeout"), back]


def test_a_server_that_stays_away_ends_the_command_and_not_the_run(
    followed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes back in the morning reads what to start; a wrong password or another database will not pass by waiting."""
    monkeypatch.setattr(follow, "AWAY_S", -1.0)
    with pytest.raises(LabError, match="did not come back") as caught:
        followed("RUNNING", GONE, "COMPLETED")
    assert caught.value.mend == f"lab up, then {AGAIN}"
    with pytest.raises(LabError, match=r"refuses to report on this run \(401\)"):
        followed(refusal(401), "COMPLETED")
    with pytest.raises(LabError, match="does not know this pipeline run") as caught:
        followed(ObjectNotFound(refusal(404)), "COMPLETED")
    assert caught.value.mend == AGAIN


def test_time_without_a_server_is_no_time_without_a_worker(
    followed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run waits in the queue of a server that was restarted: that nobody took it meanwhile says nothing of the workers."""
    now = [0.0]
    monkeypatch.setattr(follow, "AGAIN_S", 40.0)
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    assert followed("SCHEDULED", GONE, GONE, GONE, "SCHEDULED", "COMPLETED").is_completed()
    with pytest.raises(LabError, match="no worker took the pipeline"):
        followed("SCHEDULED", "SCHEDULED", "SCHEDULED", "SCHEDULED", "COMPLETED")


def test_progress_is_printed_once_and_again_for_a_second_attempt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each reuse line appears once, however often it is read; a pipeline that Prefect starts again reports anew."""
    monkeypatch.setattr(follow, "AGAIN_S", 0.0)
    monkeypatch.setattr(follow, "PROGRESS_S", 0.0)
    first = [{"phase": "p1", "done": 0, "total": 3, "reuse": "p1  0 of 3 units reused\np1  3 not reused: \u001b[2J"}]
    second = [
        {"phase": "p1", "done": 3, "total": 3, "reuse": "p1  3 of 3 units reused"},
        {"phase": "p9", "done": 0, "total": 1},
    ]
    tables = [(1, first), (1, first), (1, None), (2, second), (2, second)]
    server = FakeServer(*["RUNNING"] * (len(tables) - 1), "COMPLETED")

    def artifacts() -> list[Any]:
        number, rows = tables.pop(0)
        return [{"id": str(UUID(int=number)), "data": "[{" if rows is None else json.dumps(rows)}]

    monkeypatch.setattr(server, "artifacts", artifacts)
    watch(server, SimpleNamespace(id=UUID(int=1)), "demo-1", EXPECTED, AGAIN)
    shown = [line.split("   elapsed")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        "p1  0 of 3 units reused",
        "p1  3 not reused: \\x1b[2J",
        "P1  0 of 3 units",
        "p1  3 of 3 units reused",
        "P1  3 of 3 units",
    ]


@given(st.text(st.characters(codec=None)))
def test_printable_text_steers_nothing_and_can_be_encoded(text: str) -> None:
    """After it no control character but the line end is left, plain text is as it was, and a second time changes nothing."""
    shown = printable(text)
    assert not any((c < " " and c != "\n") or "\x7f" <= c <= "\x9f" or "\u202a" <= c <= "\u202e" for c in shown)
    shown.encode()
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_a_finished_run_is_shown_at_once_and_an_unfinished_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second demo must not start a server to learn that all is done, nor call done what has a phase left."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    paths = Paths.local()
    assert show_finished(plan("smoke").run) is None and not paths.warehouse.exists()
    for number, phase in enumerate(PHASES):
        with writing(paths) as con:
            run = open_run(con, plan("smoke"))
            status = Status.FAIL if phase == "p1" else Status.PASS
            save_verdict(
                con, run.run_id, phase, Verdict(status, f"{phase} is so.", None, Metric("x", 0.5, n=3)), "here", "why"
            )
        if number < len(PHASES) - 1:
            assert show_finished(plan("smoke").run) is None
    assert show_finished(plan("demo").run) is None
    assert capsys.readouterr().out == ""
    assert show_finished(plan("smoke").run) == 3
    shown = capsys.readouterr().out
    assert "nothing is computed again" in shown and "FAIL: P1" in shown and "e2 is so." in shown
    with writing(paths) as con:
        save_verdict(con, run.run_id, "p2", Verdict(Status.FAIL, "p2 again.", None, Metric("x", 0.5, n=3)))
    assert show_finished(plan("smoke").run) is None
