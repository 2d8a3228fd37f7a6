"""A run's verdicts and numbers as a Markdown page, for a repository or a letter: `lab results --markdown`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.text import duration, printable, with_interval

MOST_ROWS = 60  # of a phase; E0 has three numbers for each of its configurations


def page(
    run_id: str,
    verdicts: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
    under: str,
) -> str:
    """Return the Markdown page of a run from its rows of gate_history and of phase_metrics.

    `seconds` is the work of each phase's units; `under` says if the plan was there before the trials.
    """
    first = verdicts[0]
    lines = [
        f"# Run {_cell(run_id)}",
        "",
        f"Scale {_cell(first['scale'])}, domain {_cell(first['domain'])}, model {_cell(first['model'])}; {_cell(under)}.",
        "",
        "| phase | verdict | main metric | value | threshold | n | work of its units |",
        "|---|---|---|---|---|---|---|",
    ]
    for v in verdicts:
        needs = "" if v["threshold"] is None else f"{v['threshold']:g}"
        worked = duration(seconds[v["phase"]]) if v["phase"] in seconds else "not recorded"
        main = f"{v['main_metric']} {v['main_condition']}".strip()
        value = with_interval(v["value"], v["low"], v["high"])
        lines.append(_row((v["phase"].upper(), v["status"], main, value, needs, v["n"], worked)))
    lines.append("")
    for v in verdicts:
        said = [v["reason"], *([f"{v['differs']}."] if v["differs"] else [])]
        said += [f"Overridden: {v['why']}"] if v["why"] else []
        lines.append(f"- **{v['phase'].upper()} {v['status']}.** {' '.join(map(_cell, said))}")
    for v in verdicts:
        lines += ["", *_numbers(v["phase"], [m for m in metrics if m["phase"] == v["phase"]])]
    return "\n".join(lines) + "\n"


def _numbers(phase: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines about a phase; numbers of single configurations are left out above MOST_ROWS."""
    shown = rows if len(rows) <= MOST_ROWS else [m for m in rows if " | " not in m["condition"]]
    head = ["| metric | of | value (95 %) | n | failed | method |", "|---|---|---|---|---|---|"]
    lines = [f"## {phase.upper()}", "", *head]
    for m in shown:
        value = with_interval(m["value"], m["low"], m["high"])
        lines.append(_row((m["metric"], m["condition"], value, m["n"], m["failed"], m["method"])))
    if left_out := len(rows) - len(shown):
        lines += ["", f"{left_out} numbers of single configurations are left out; they are in the warehouse."]
    return lines


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(_cell(c) for c in cells)} |"


def _cell(value: Any) -> str:
    """Return text for a cell, with the marks of Markdown and HTML escaped."""
    text = printable(str(value)).replace("\\", "\\\\")
    for mark in "|<>`*_[]#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
