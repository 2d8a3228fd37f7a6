"""docs/results/full.html from docs/results/full.md, as a report of `lab report`. Made by `python -m docs.generate.full_report`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from experiments.registry import PHASES, get_phase
from warehouse.database import summaries
from warehouse.database.connection import migrate
from warehouse.database.statements import insert

RESULTS = Path(__file__).resolve().parent.parent / "results"
NOTE = (
    "Made from docs/results/full.md, which has every verdict and every metric of this run with interval and method, "
    "and not its trials, hosts and plan."
)
UNKNOWN = {"plans": ("created_at",), "runs": ("started_at",), "verdicts": ("decided_at",)}  # and so without a time here
# Main metric -> the setting with its threshold.
THRESHOLDS = {"knn_accuracy": "knn_threshold", "retention": "overall_threshold", "relevance": "relevance_threshold"}


class Estimate(NamedTuple):
    """A value with its interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Results:
    """The contents of full.md.

    Attributes:
        run: run_id, plan_id, scale, domain and model.
        order: the sentence on when the plan was stored.
        verdicts: a row per phase, as in the table verdicts.
        metrics: a row per metric, as in the table metrics.
    """

    run: Mapping[str, str]
    order: str
    verdicts: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]


def plain(markdown: str) -> str:
    """Return the text without the backslashes of Markdown."""
    return re.sub(r"\\(.)", r"\1", markdown.strip())


def cells(line: str) -> list[str]:
    """Return the cells of a line of a Markdown table."""
    return [plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def estimate(text: str) -> Estimate:
    """Parse "1.48 (1.25 to 1.77)", "1.48" or "undefined"."""
    numbers = [float(n) for n in re.findall(r"-?\d[\d.]*(?:e[-+]\d+)?", text)]
    return Estimate(*numbers) if numbers else Estimate(None)


def parse(markdown: str) -> Results:
    """Read the verdicts and metrics of full.md; ValueError for a file of another form."""
    head = re.search(r"^# Run (\S+)\n+Scale (\S+), domain (\S+), model (\S+); plan (\w+), (.*)$", markdown, re.M)
    if not head:
        raise ValueError("full.md does not begin with run, scale, domain, model and plan")
    names = ("run_id", "scale", "domain", "model", "plan_id")
    top, *sections = re.split(r"^## (?=\w\w$)", markdown, flags=re.M)
    reasons = {m[1].lower(): plain(m[2]) for m in re.finditer(r"^- \*\*(\w\w) \w+\.\*\* (.*)$", top, flags=re.M)}
    return Results(
        dict(zip(names, map(plain, head.groups()[:5]), strict=True)),
        plain(head[6]),
        [_verdict(row, reasons) for row in _table(top)],
        [
            {"phase": section[:2].lower(), "position": i, **_metric(row)}
            for section in sections
            for i, row in enumerate(_table(section))
        ],
    )


def _table(text: str) -> Iterator[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return map(cells, lines[2:])


def _verdict(row: Sequence[str], reasons: Mapping[str, str]) -> dict[str, Any]:
    phase, status, main, value, threshold, n, _ = row
    metric, _, condition = main.partition(" ")
    return {
        "phase": phase.lower(),
        "status": status,
        "reason": reasons[phase.lower()],
        "findings": {},
        "next_steps": [],
        "main_metric": metric,
        "main_condition": condition,
        **estimate(value)._asdict(),
        "n": int(n),
        "threshold": estimate(threshold).value,
    }


def _metric(row: Sequence[str]) -> dict[str, Any]:
    metric, condition, value, n, failed, method = row
    named = {"metric": metric, "condition": condition, "method": method, "host": "all", "timing": False}
    return {**named, **estimate(value)._asdict(), "n": int(n), "failed": int(failed)}


def store(results: Results, path: Path) -> None:
    """Write a snapshot that holds the results and nothing else."""
    run = results.run
    texts = {
        name: {"title": p.TITLE, "question": p.QUESTION, "blocking": p.BLOCKING, "answers": []}
        for name in PHASES
        if (p := get_phase(name))
    }
    known = {
        v["phase"]: {THRESHOLDS[v["main_metric"]]: v["threshold"]}
        for v in results.verdicts
        if v["main_metric"] in THRESHOLDS
    }
    empty = {"host": "", "code_commit": "", "dirty": False, "versions": {}, "arguments_given": {}}
    with duckdb.connect(str(path)) as con:
        migrate(con)
        for table, columns in UNKNOWN.items():
            for column in columns:
                con.execute(f"ALTER TABLE {table} ALTER {column} DROP NOT NULL")
        insert(con, "plans", [{"plan_id": run["plan_id"], "content": {"phases": texts}, "sha256": ""}])
        insert(con, "runs", [{**run, **empty, "arguments_defaulted": known}])
        insert(con, "verdicts", [{"run_id": run["run_id"], **v} for v in results.verdicts])
        insert(con, "metrics", [{"run_id": run["run_id"], **m} for m in results.metrics])
        summaries.refresh(con)


def page(markdown: str) -> str:
    """Return full.html for the text of full.md."""
    from app.report import html

    results = parse(markdown)
    before = os.environ.get("LAB_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAB_HOME"] = home
        try:
            store(results, Path(home) / "snapshot.duckdb")
            return html.page(results.run["run_id"], f"{NOTE} The plan was {results.order}")
        finally:
            os.environ.pop("LAB_HOME")
            if before is not None:
                os.environ["LAB_HOME"] = before


def main() -> None:
    """Write docs/results/full.html."""
    made = page((RESULTS / "full.md").read_text(encoding="utf-8"))
    (RESULTS / "full.html").write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
