"""Two runs side by side: plans key by key, differences by problem and by metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_snapshot import changed, publish

from app.plots import runs
from warehouse.queries import compare


def two_runs(home: Path) -> None:
    """Two runs of P2 in which three problems took 1, 2, 3 attempts, and 2, 4, 6."""
    path = publish(home, ("a", "p2", None), ("b", "p2", None))
    with changed(path) as con:
        con.execute("DELETE FROM problem_results")
        for run, values in (("a", (1, 2, 3)), ("b", (2, 4, 6))):
            (number,) = con.execute(
                "SELECT number FROM bundle_numbers WHERE sha256 = ?", [f"{run}-p2-0-0"]
            ).fetchone() or (0,)
            for i, attempts in enumerate(values):
                con.execute(
                    "INSERT INTO problem_results VALUES (?, 'semantic', ?, 'O(1)', ?, NULL, 100, ?)",
                    [number, f"p{i}", attempts, float(attempts == 1)],
                )


def test_differences_are_paired_by_problem(home: Path) -> None:
    """By hand: differences 1, 2, 3 have mean 2 and standard deviation 1, so 2 ± 4.303 / sqrt(3)."""
    two_runs(home)
    rows = {r["measure"]: r for r in compare.paired("a", "b")}
    found = rows["attempts"]
    assert (found["phase"], found["condition"], found["n"], found["shared"]) == ("p2", "semantic", 3, 0)
    assert (found["first"], found["second"], found["value"]) == (2.0, 4.0, 2.0)
    assert (found["low"], found["high"]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert rows["right at first"]["value"] == pytest.approx(-1 / 3)
    assert (rows["tokens"]["value"], rows["tokens"]["low"]) == (0.0, 0.0)
    assert "relevance" not in rows  # nothing was retrieved in either
    back = {r["measure"]: r for r in compare.paired("b", "a")}
    assert back["attempts"]["value"] == -2.0


def test_one_result_that_serves_both_runs_is_named(home: Path) -> None:
    """Two runs that share a result cannot differ in it; a difference of zero there is no finding."""
    two_runs(home)
    with changed(home / "snapshot.duckdb") as con:
        con.execute("DELETE FROM units WHERE run_id = 'b'")
        con.execute("INSERT INTO units SELECT 'b', * EXCLUDE (run_id) FROM units WHERE run_id = 'a'")
    rows = [r for r in compare.paired("a", "b") if r["measure"] == "attempts"]
    assert [(r["n"], r["shared"], r["value"]) for r in rows] == [(3, 3, 0.0)]


def test_the_interval_of_a_difference_follows_from_both() -> None:
    """Zou and Donner 2008: 0.5 (0.4 to 0.7) and 0.8 (0.7 to 0.85) give 0.3 with sqrt(.01 + .04) and sqrt(.0025 + .01)."""
    low, high = compare.mover(0.5, 0.8, 0.4, 0.7, 0.7, 0.85)
    assert (low, high) == pytest.approx((0.3 - 0.05**0.5, 0.3 + 0.0125**0.5))
    assert compare.mover(0.5, 0.8, None, None, 0.7, 0.85) == (None, None)


def test_metrics_that_both_have_are_compared(home: Path) -> None:
    """An undefined value is no zero, and a metric without an interval gets none."""
    path = publish(home, ("a", "p2", None), ("b", "p2 e0", None))
    with changed(path) as con:
        con.execute("UPDATE metrics SET value = 0.6 WHERE run_id = 'b' AND condition = 'none'")
    rows = compare.metrics("a", "b")
    assert {r["phase"] for r in rows} == {"p2"}
    assert "random" not in {r["condition"] for r in rows}
    (none,) = (r for r in rows if r["condition"] == "none")
    assert none["value"] == pytest.approx(0.036)
    assert none["low"] < 0.036 < none["high"]
    (p,) = (r for r in rows if r["condition"] == "semantic - none")
    assert (p["value"], p["low"], "no interval" in p["method"]) == (0.0, None, True)


def test_plans_are_compared_key_by_key(home: Path) -> None:
    """The one setting that changed is named with both values; equal ones are counted, not listed."""
    path = publish(home, ("a", "p2", None), ("b", "p2", None))
    assert compare.plans("a", "b")[0] == []
    with changed(path) as con:
        (content,) = con.execute("SELECT content FROM plans").fetchone() or ("{}",)
        content = json.loads(content) | {"configs": {"p2": {"k": 7}}, "data_version": ["x" * 1000]}
        con.execute("INSERT INTO plans VALUES ('plan-2', now(), ?, 'ff', 0)", [json.dumps(content)])
        con.execute("UPDATE runs SET plan_id = 'plan-2', dirty = false WHERE run_id = 'b'")
    rows, equal = compare.plans("a", "b")
    assert {r["key"]: tuple(r["values"]) for r in rows if r["key"] != "plan.data_version"} == {
        "plan_id": ("plan-1", "plan-2"),
        "dirty": ("true", "false"),
        "plan.configs.p2.k": ("not there", "7"),
    }
    assert equal > 5
    assert max(len(r["values"][1]) for r in rows) <= compare.MOST_CHARACTERS


def test_the_plot_says_what_differs_and_when_nothing_does() -> None:
    """The title is the finding: intervals that hold zero must not be reported as a difference."""
    row = {"phase": "e1", "condition": "semantic", "value": -0.5, "low": -0.8, "high": -0.2, "n": 30, "method": "m"}
    row |= {"shared": 0}
    flat = row | {"condition": "none", "low": -0.9, "high": 0.1}
    assert runs.finding([row, flat], "attempts") == (
        "B has 0.500 (0.200 to 0.800) fewer attempts in E1 semantic; 1 of 2 conditions differ"
    )
    assert runs.finding([flat], "attempts").startswith("No condition shows a difference in attempts")
    same = flat | {"value": 0.0, "low": 0.0, "high": 0.0, "shared": 30}
    assert runs.finding([same], "tokens") == "Both runs rest on the same results, so nothing can differ"
