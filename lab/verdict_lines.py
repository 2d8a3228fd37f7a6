"""The verdicts of a run on the terminal, and as columns for other programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.text import number, printable, with_interval, words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from experiments.contract import NextStep

COLOURS = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}
INDENT = "    "
PIPED_WIDTH = 100  # characters a line, where the output is no terminal
COLUMNS = (
    "run_id",
    "phase",
    "status",
    "main_metric",
    "value",
    "low",
    "high",
    "threshold",
    "n",
    "reason",
    "differs",
    "why",
)


def print_chain(run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print each phase's verdict, number and reason, and below them the commands to try, each on a line to copy."""
    from rich.text import Text

    console = _console()

    def wrapped(text: str, indent: str) -> None:
        lines = Text(printable(text)).wrap(console, max(20, console.width - len(indent)), overflow="fold")
        for line in lines:
            line.rstrip()
            console.print(Text(indent) + line, soft_wrap=True)

    plan = f", plan {rows[0]['plan_id']}" if rows else ""
    wrapped(f"run {run_id}{plan}", "")
    for row in rows:
        console.print(_line(row), soft_wrap=True)
        for text in _sentences(row):
            wrapped(text, INDENT)
    steps = list(dict.fromkeys(_steps(rows)))
    if steps:
        print("Try:")
    for step in steps:
        print(printable(f"  {step.command}"))  # not folded: a command is copied whole
        if step.reason:
            wrapped(step.reason, 2 * INDENT)


def print_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a phase: the verdict and the number that decided, cut at the terminal's width."""
    console = _console()
    for row in rows:
        console.print(_line(row), no_wrap=True, overflow="ellipsis")


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, soft_wrap=False)


def _line(row: Mapping[str, Any]) -> Text:
    from rich.text import Text

    verdict = Text(f"{row['status']:<12}", style=COLOURS[row["status"]])
    return Text(f"{row['phase'].upper()}  ") + verdict + Text(f"  {printable(_number(row))}")


def print_columns(run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the verdicts as columns with tabs between them, a line each, below their names."""
    table = csv.writer(sys.stdout, dialect="excel-tab", lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        cells = [run_id if name == "run_id" else row[name] for name in COLUMNS]
        table.writerow(["" if cell is None else printable(" ".join(str(cell).split())) for cell in cells])


def _number(row: Mapping[str, Any]) -> str:
    """Return the main metric in words, with its interval, n and threshold."""
    needs = "" if row["threshold"] is None else f", threshold {number(row['threshold'])}"
    value = with_interval(row["value"], row["low"], row["high"])
    return f"{words(row['main_metric'])} {value}, n {row['n']}{needs}"


def _sentences(row: Mapping[str, Any]) -> Iterator[str]:
    yield row["reason"]
    if row["differs"]:
        yield f"Hosts: {row['differs']}"
    if row["why"]:
        yield f"Overridden: {row['why']}"


def _steps(rows: Sequence[Mapping[str, Any]]) -> Iterator[NextStep]:
    from experiments.contract import NextStep

    for row in rows:
        yield from map(NextStep.from_json, json.loads(row["next_steps"]))
