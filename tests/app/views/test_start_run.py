"""Runs that are started, stopped and started again from the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from acting import commands_on
from fake_prefect import ANSWERS, run, serving
from made_up_snapshot import changed, publish
from streamlit.testing.v1 import AppTest

from app import commands
from app.commands import Answer
from app.components.start_run import DEFAULT, DOMAINS, Values, command
from common.errors import LabError

RUNS = Path(__file__).resolve().parents[3] / "app" / "views" / "runs.py"
GIVEN = {"p2": {"n_test": 8}, "p1": {"embedders": ["a"]}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that the page ran, which all did what was asked."""
    found: list[tuple[str, ...]] = []

    def lab(*arguments: str) -> Answer:
        found.append(arguments)
        return Answer(True, "Run smoke-1a2b3c4d is started. To stop it: lab stop smoke-1a2b3c4d")

    monkeypatch.setenv(commands.USER_HOME, "/home/somebody")
    monkeypatch.setattr(commands, "lab", lab)
    return found


def page_over(url: str, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("PREFECT_API_URL", url)
    page = AppTest.from_file(str(RUNS), default_timeout=60).run()
    assert [e.value for e in page.exception] == []
    return page


def of(page: AppTest, kind: str, label: str) -> Any:
    return next(w for w in getattr(page, kind) if w.label == label)


def start(page: AppTest) -> None:
    of(page, "button", "Start").click().run()
    assert [e.value for e in page.exception] == []


def test_a_run_is_started_again_with_its_values_and_the_changes(
    home: Path, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was set before is set again but for what the reader changes; each text stands behind = in an option."""
    everywhere = {p: {"domain": "jsonl:/data/mine.jsonl"} for p in ("p1", "p2", "p3", "e0", "e1", "e2")}
    given: Mapping[str, Any] = {p: own | GIVEN.get(p, {}) for p, own in everywhere.items()}
    with changed(publish(home, ("full", "p1", None))) as con:
        con.execute("UPDATE runs SET arguments_given = ?", [json.dumps({"scale": "smoke", "config": given})])
    with serving() as url:
        page = page_over(url, monkeypatch)
        of(page, "selectbox", "Run again with changes").set_value("full").run()
        lines = of(page, "text_area", "Other values, one a line")
        assert (lines.value, asked) == ('p1.embedders=["a"]\np2.n_test=8', [])
        lines.set_value('p1.embedders=["a"]\n\n -rm=`x`; $(y)')
        of(page, "text_input", "Go on after a gate that does not say PASS, because").set_value("--to see")
        of(page, "selectbox", "Last phase").set_value("p2")
        start(page)
        assert "Run smoke" in page.success[0].value
    values = ('--set=p1.embedders=["a"]', "--set=-rm=`x`; $(y)", '--set=domain="jsonl:/data/mine.jsonl"')
    assert asked == [("pipeline", "--detach", "--scale=smoke", *values, "--override=--to see", "--until=p2")]


@pytest.mark.parametrize("line", ["domain=jsonl:/etc/passwd", "p1.domain=x", " e2.model = gguf//etc/shadow"])
def test_no_line_names_a_file_of_this_machine(
    home: Path, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Who has the page's password sees problems and answers; by such a line they would see any file of the coordinator."""
    with serving() as url:
        page = page_over(url, monkeypatch)
        of(page, "text_area", "Other values, one a line").set_value(line)
        start(page)
        assert "is not set by a line" in page.error[0].value
    assert asked == []
    # A box takes over its socket what it does not offer.
    for values in (Values(domain="jsonl:/etc/passwd"), Values(model="gguf//etc/shadow"), Values(lines=("x" * 5000,))):
        with pytest.raises(LabError, match=r"cannot be chosen on this page|more than 4,000 characters"):
            command(values, "", "e2", DOMAINS, [DEFAULT])


def test_a_run_under_way_is_stopped_after_one_question(
    home: Path, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip of the finger must not end a night's work, and no other run's."""
    under_way = run("pipeline · smoke", "RUNNING", tags=["pipeline", "smoke", "smoke-1a2b3c4d"])
    monkeypatch.setitem(ANSWERS, "SCHEDULED", [under_way])
    publish(home, ("full", "p1", None))
    with serving() as url:
        page = page_over(url, monkeypatch)
        for label in ("Stop", "Let it run", "Stop"):
            of(page, "button", label).click().run()
            assert asked == []
        of(page, "button", "Stop this run").click().run()
    assert asked == [("stop", "smoke-1a2b3c4d")]


def test_a_page_that_was_started_by_hand_or_has_no_server_starts_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks its readers for a password, nor compares where they come from."""
    monkeypatch.delenv(commands.USER_HOME, raising=False)
    with serving() as url:
        page = page_over(url, monkeypatch)
    assert "started by hand" in page.caption[0].value and not page.button
    with pytest.raises(LabError, match="started by hand"):
        commands.lab("stop")
    monkeypatch.setenv(commands.USER_HOME, str(home))
    page = page_over("http://127.0.0.1:1/api", monkeypatch)
    assert "lab up" in commands_on(page) and not page.button


def test_a_refused_value_is_answered_by_the_command_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parser and checks are the command line's, in a process with the user's home and without the page's own password."""
    monkeypatch.setenv(commands.USER_HOME, str(home))
    monkeypatch.setenv(commands.PAGE_AUTH, "page:secret")
    answer = commands.lab("pipeline", "--detach", "--scale=smoke", "--set=p2.n_tests=8")
    assert not answer.done and "n_tests" in answer.text and "\n" not in answer.text
    own = commands._environment()
    assert (own["HOME"], "page:secret" in own.values()) == (str(home), False)
    with pytest.raises(LabError, match="no command can have"):
        commands.lab("pipeline", "--override=\0")
