"""The page of a run's results: what it holds, and that nothing in it can leave its cell."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import made_up_hosts
from hypothesis import given
from hypothesis import strategies as st
from made_up_hosts import RUN, names_of

from lab.commands import results_hosts
from lab.commands.results_markdown import MOST_ROWS, page

VERDICT = {
    "phase": "p1",
    "status": "FAIL",
    "main_metric": "similarity_ratio",
    "main_condition": "hybrid",
    "value": 1.4771,
    "low": 1.25,
    "high": 1.77,
    "threshold": 1.2,
    "n": 102,
    "reason": "kNN 0.50 (needs > 0.7).",
    "why": None,
    "differs": "",
    "scale": "full",
    "domain": "big_o",
    "model": "smollm2-135m",
}


UNDER = "plan 0f3a, stored before the first trial"


def metric(condition: str = "hybrid", **values: Any) -> dict[str, Any]:
    return {
        "phase": "p1",
        "metric": "knn_accuracy",
        "condition": condition,
        "value": 0.5,
        "low": 0.3,
        "high": 0.69,
        "n": 30,
        "failed": 1,
        "method": "k 5",
        "timing": False,
    } | values


def cells(line: str) -> list[str]:
    """The cells of a Markdown row, split where no backslash stands before the bar."""
    return [c.replace("\x00", "|").strip() for c in line.replace("\\|", "\x00").strip("|").split("|")]


def test_a_run_on_one_page() -> None:
    """Whoever reads it later needs the plan, each verdict with its interval and threshold, and the numbers behind it."""
    lines = page("full-1", [VERDICT], [metric(), metric(value=None)], {"p1": 75.0}, UNDER).splitlines()
    assert lines[0] == "# Run full-1" and lines[2].endswith(f"; {UNDER}.")
    verdict = next(line for line in lines if line.startswith("| P1"))
    shown = ["P1", "FAIL", "similarity\\_ratio hybrid", "1.48 (1.25 to 1.77)", "1.2", "102", "1 min 15 s"]
    assert cells(verdict) == shown
    assert "- **P1 FAIL.** kNN 0.50 (needs \\> 0.7)." in lines
    rows = [line for line in lines if line.startswith("| knn")]
    assert cells(rows[0])[2:] == ["0.500 (0.300 to 0.690)", "30", "1", "k 5"] and cells(rows[1])[2] == "undefined"
    assert "not recorded" in page("full-1", [VERDICT], [], {}, UNDER)
    assert ". Overridden: seen before" in page("full-1", [{**VERDICT, "why": "seen before"}], [], {}, UNDER)


def test_single_configurations_are_counted_when_they_are_too_many() -> None:
    """E0 has hundreds of rows; what is left out is said, and nothing else is left out."""
    many = [metric(f"MiniLM | text {i}") for i in range(MOST_ROWS)]
    shown = page("full-1", [VERDICT], [metric("text_weight"), *many], {}, UNDER)
    assert f"{MOST_ROWS} numbers of single configurations are left out" in shown and shown.count("| knn") == 1
    assert page("full-1", [VERDICT], many, {}, UNDER).count("| knn") == MOST_ROWS


@given(st.text(max_size=60))
def test_any_text_stays_in_its_cell(text: str) -> None:
    """Reasons and conditions hold what models and files of the user's say: no new rows, no HTML, no links."""
    shown = page(text, [{**VERDICT, "reason": text}], [metric(text, method=text)], {}, text)
    rows = [line for line in shown.splitlines() if line.startswith("| knn")]
    assert len(rows) == 1 and len(cells(rows[0])) == 6
    assert shown.count("<") == shown.count("\\<") and shown.count("[") == shown.count("\\[")


def test_hosts_that_differ_are_printed_with_their_trials(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Who reads results on the command line has to learn of a machine that answers otherwise, and of a mere division of work."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    made_up_hosts.publish(tmp_path, names_of(2), "replicate", "laptop", "p1 p2").rename(tmp_path / "warehouse.duckdb")
    results_hosts.show(RUN, as_json=False)
    printed = capsys.readouterr().out
    assert printed.startswith("desktop and laptop differ: ")
    assert "Which of them is right, this does not say." in printed
    assert re.search(r"P2 +│ desktop +│ laptop +│ +144 │", printed)
    results_hosts.show(RUN, as_json=True)
    found = json.loads(capsys.readouterr().out)
    p2 = next(p for p in found["pairs"] if p["phase"] == "p2")
    assert p2["differing"] > 0 and p2["main_metric"]["n"] == 12
    made_up_hosts.publish(tmp_path, names_of(2), "split").replace(tmp_path / "warehouse.duckdb")
    results_hosts.show(RUN, as_json=False)
    assert "different problems: not a test" in capsys.readouterr().out
