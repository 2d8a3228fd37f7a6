"""Summaries for the pages agree with the trials, and are updated without counting all trials again."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from warehouse.database import summaries
from warehouse.database.connection import migrate, writing
from warehouse.paths import Paths


def add(con: duckdb.DuckDBPyConnection, sha: str, *trials: tuple[str, str, int | None, str | None]) -> None:
    """A counted bundle of (problem, condition, attempts, error)."""
    con.execute(
        "INSERT INTO bundles SELECT ?, ?, 'laptop', 1, 0, now(), 900, 1, 'directory', '{}', count(*) + 1 FROM bundles",
        [sha, f"unit-{sha}"],
    )
    con.execute("INSERT INTO units VALUES ('r1', ?, 'e1', 1, 0, '{}', '[]')", [f"unit-{sha}"])
    for i, (problem, condition, attempts, error) in enumerate(trials):
        con.execute(
            "INSERT INTO trials (bundle_sha256, unit_id, host, ordinal, problem_id, condition, attempts, solved, truth, "
            "tokens_in, tokens_out, error, details) VALUES (?, ?, 'laptop', ?, ?, ?, ?, ?, 'O(n)', 10, 2, ?, ?)",
            [sha, f"unit-{sha}", i, problem, condition, attempts, None if error else True, error, '{"relevance": 0.5}'],
        )


def test_summaries_are_the_trials_counted(tmp_path: Path) -> None:
    """A failed trial counts as failed and in no median; a median of seeds is a problem's, and may lie between two."""
    con = duckdb.connect()
    migrate(con)
    add(con, "a", ("p1", "none", 1, None), ("p1", "none", 4, None), ("p1", "none", None, "timed out"))
    assert summaries.refresh(con) == 1
    assert con.execute("SELECT attempts, failed, trials FROM attempt_counts ORDER BY ALL").fetchall() == [
        (1, False, 1),
        (4, False, 1),
        (None, True, 1),
    ]
    found = con.execute("SELECT problem_id, truth, attempts, relevance, tokens FROM problem_results").fetchall()
    assert found == [("p1", "O(n)", 2.5, 0.5, 12.0)]
    assert con.execute("SELECT trials, failed FROM phase_trials").fetchall() == [(3, 1)]


def test_expected_attempts_are_counted_rounded_with_the_chance_of_the_first_guess(tmp_path: Path) -> None:
    """A page counts trials by whole attempts and reads the share of right first guesses, which no rounding gives."""
    con = duckdb.connect()
    migrate(con)
    add(con, "a", ("p1", "none", 1, None), ("p2", "none", 1, None))
    con.execute("UPDATE trials SET attempts = [1.4, 1.8][ordinal + 1], first_right = [0.75, 0.5][ordinal + 1]")
    summaries.refresh(con)
    assert con.execute("SELECT attempts, trials, first_right FROM attempt_counts ORDER BY 1").fetchall() == [
        (1, 1, 0.75),
        (2, 1, 0.5),
    ]
    found = con.execute("SELECT attempts, first_right FROM problem_results ORDER BY problem_id").fetchall()
    assert found == [(1.4, 0.75), (1.8, 0.5)]


def test_only_new_bundles_are_summarised() -> None:
    """Each publication adds what came in: nothing is counted twice, and asking again adds nothing."""
    con = duckdb.connect()
    migrate(con)
    add(con, "b", ("p1", "none", 1, None))
    summaries.refresh(con)
    add(con, "a", ("p2", "none", 3, None))
    assert (summaries.refresh(con), summaries.refresh(con)) == (1, 0)
    assert con.execute("SELECT sha256, number FROM bundle_numbers ORDER BY number").fetchall() == [("b", 1), ("a", 2)]
    assert con.execute("SELECT number, sum(trials) FROM attempt_counts GROUP BY ALL ORDER BY 1").fetchall() == [
        (1, 1),
        (2, 1),
    ]


def test_whoever_writes_the_warehouse_leaves_it_summarised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot whose pages lag behind its trials would show numbers of another time."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    paths = Paths(tmp_path)
    with writing(paths, publish=True) as con:
        add(con, "a", ("p1", "none", 2, None))
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        assert con.execute("SELECT trials FROM phase_trials").fetchall() == [(1,)]
