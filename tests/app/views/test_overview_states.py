"""What the page shows when there is nothing to report: one sentence, one command, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from acting import commands_on
from made_up_snapshot import changed, publish
from streamlit.testing.v1 import AppTest

from warehouse.database.connection import migrate

PAGE = Path(__file__).resolve().parents[3] / "app" / "views" / "overview.py"


def nothing(home: Path) -> None:
    """A fresh checkout."""


def no_run(home: Path) -> None:
    """A host that was registered and has not run anything."""
    publish(home)


def newer(home: Path) -> None:
    """Written by a later version."""
    with changed(home / "snapshot.duckdb") as con:
        migrate(con)
        con.execute("INSERT INTO schema_migrations VALUES (99, '0099_later.sql', 'x', now())")


def older(home: Path) -> None:
    """Written before there were migrations."""
    with changed(home / "snapshot.duckdb") as con:
        con.execute("CREATE TABLE anything (x INTEGER)")


def damaged(home: Path) -> None:
    """Not a database."""
    (home / "snapshot.duckdb").write_bytes(b"not a database" * 500)


def half(home: Path) -> None:
    """The schema's number without its tables, as between two queries of another kind of file."""
    with changed(publish(home)) as con:
        con.execute("DROP VIEW phase_metrics; DROP VIEW host_comparison; DROP VIEW gate_history; DROP TABLE runs")


def test_a_mistyped_home_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All results seemed to be gone, and the page advised to compute them again."""
    monkeypatch.setenv("LAB_HOME", str(home / "typo"))
    shown = AppTest.from_file(str(PAGE), default_timeout=20).run()
    assert commands_on(shown) == ["unset LAB_HOME"]
    assert f"LAB_HOME is {home / 'typo'}, and there is no such folder" in str(shown.get("html")[0].proto.body)


@pytest.mark.parametrize(
    ("prepare", "sentence", "command"),
    [
        (nothing, "There are no results on this host yet.", "make demo"),
        (no_run, "There are results on this host, but no run yet.", "lab pipeline --scale demo"),
        (newer, "The results were written by another version of this project.", "git pull && make setup"),
        (older, "The results were written by another version of this project.", "lab collect"),
        (damaged, "The results cannot be read.", "lab collect"),
        (half, "The results cannot be read.", "lab collect"),
    ],
)
def test_each_state_is_a_sentence_and_a_command(home: Path, prepare: object, sentence: str, command: str) -> None:
    """The page never shows a traceback, and what it asks for is what mends that state."""
    assert callable(prepare)
    prepare(home)
    shown = AppTest.from_file(str(PAGE), default_timeout=20).run()
    assert [e.value for e in shown.exception] == []
    assert commands_on(shown) == [command]
    assert sentence in "".join(str(html.proto.body) for html in shown.get("html"))
