"""Verdicts on the terminal, and as columns for other programs."""

from __future__ import annotations

import csv
import io
import json
import re
import sys

import pytest
from made_up_verdicts import verdict

from common.text import printable
from experiments.contract import NextStep
from lab.verdict_lines import COLUMNS, PIPED_WIDTH, print_chain, print_columns

HOSTILE = {
    "markup": "[red]not red[/red] [bold",
    "link": "[link=http://x]y[/link]",
    "escape": "\x1b[2J\x1b]0;title\x07",
    "return": "over\rwritten\x08\x7f",
    "override": "abc\u202edef\u2066x\u2069",
    "C1": "\x9b31m",
    "surrogate": "\ud800",
}


def test_any_text_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Reasons hold what models and other machines wrote: brackets stay brackets, and nothing in them steers a terminal."""
    rows = [
        verdict(
            "p1",
            "FAIL",
            reason=text,
            why=text,
            main_metric=f"metric {text}",
            value=None,
            next_steps=json.dumps([f"lab run p1 --set 'x=[\"{i}\"]'"]),
        )
        for i, text in enumerate(HOSTILE.values())
    ]
    print_chain("demo-[red]1\x1b[0m", rows)
    shown = capsys.readouterr().out
    assert "run demo-[red]1\\x1b[0m, plan 0f3a" in shown
    assert shown.count("[red]not red[/red] [bold") == 3
    assert "[link=http://x]y[/link]" in shown
    assert "\\x1b[2J\\x1b]0;title\\x07" in shown
    assert "over\\rwritten\\x08\\x7f" in shown
    assert "abc\\u202edef\\u2066x\\u2069" in shown
    assert "undefined" in shown
    assert "lab run p1 --set 'x=[\"0\"]'" in shown
    assert printable(shown) == shown


def test_long_and_foreign_text_is_folded_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """No letter is cut off, however long the word, and right-to-left letters arrive in the order written."""
    arabic, word = "مرحبا", "x" * 1000
    print_chain("demo-1", [verdict("p2", "PASS", reason=f"{arabic} {word}", threshold=None)])
    shown = capsys.readouterr().out
    assert shown.count("x") == 1000
    assert arabic in shown
    assert "similarity ratio 1.50 (1.30 to 1.70), n 30\n" in shown
    assert max(map(len, shown.splitlines())) <= PIPED_WIDTH


COMMAND = 'lab pipeline --scale demo --set p1.n_memory=96 --set \'p1.embedders=["all-MiniLM-L6-v2","hybrid"]\''


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_command_is_one_line_at_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """A command that the table folded had to be put together again by hand; sentences are folded at words."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    step = json.dumps([NextStep(COMMAND, "twice as many problems narrow the interval").to_json()])
    why = "the demo shows every phase, whatever its gates say"
    rows = [verdict(p, "FAIL", next_steps=step, reason="neither is above " * 9, why=why) for p in ("p1", "p2")]
    print_chain("demo-1", rows)
    lines = re.sub("\x1b[^m]*m", "", capsys.readouterr().out).splitlines()  # without colours
    assert lines.count(f"  {COMMAND}") == 1  # of two phases that ask for the same
    assert max(len(line) for line in lines if COMMAND not in line and "similarity" not in line) <= columns
    words = " ".join(" ".join(lines).split())
    assert (
        f"Overridden: {why}" in words and "P1 FAIL similarity ratio 1.50 (1.30 to 1.70), n 30, threshold 1.20" in words
    )


def test_other_programs_read_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """cut and awk need one line a phase with the same columns in each, whatever a reason holds."""
    rows = [verdict("p1", "FAIL", reason="a\tb\nc", low=None), verdict("p2", "PASS", threshold=None)]
    print_columns("demo-1", rows)
    first, *read = csv.reader(io.StringIO(capsys.readouterr().out), dialect="excel-tab")
    assert tuple(first) == COLUMNS
    p1, p2 = (dict(zip(first, cells, strict=True)) for cells in read)
    assert (p1["run_id"], p1["status"], p1["value"], p1["low"], p1["reason"]) == ("demo-1", "FAIL", "1.5", "", "a b c")
    assert (p2["phase"], p2["threshold"], p2["n"]) == ("p2", "", "30")
