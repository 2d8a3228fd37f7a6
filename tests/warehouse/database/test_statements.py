"""How rows come into tables."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.database import statements

ROOT = Path(__file__).parents[3]
COUNT = """
import os, duckdb, pyarrow
from warehouse.database.statements import insert_arrow
con = duckdb.connect()
con.execute("CREATE TABLE found (a BIGINT, b VARCHAR)")
before = len(os.listdir("/proc/self/task"))
rows = pyarrow.table({"a": list(range(300_000)), "b": ["x"] * 300_000})
insert_arrow(con, "found", rows, "a + 1, b")
print(len(os.listdir("/proc/self/task")) - before, con.sql("SELECT count(*), sum(a) FROM found").fetchone())
"""


def test_rows_of_arrow_are_inserted_without_threads_of_arrow() -> None:
    """DuckDB waits for them, for ever where the system refuses one: a rebuild hung so under a limit of threads."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "0 (300000, 45000150000)"


def test_nothing_else_gives_duckdb_a_table_of_arrow() -> None:
    """Each way but a capsule goes through pyarrow's scanner."""
    others = [
        path.name
        for package in ("app", "experiments", "flows", "lab", "warehouse", "workpools")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "statements.py"
        and re.search(r"\.(from_arrow|register)\(.*(pa\.|table|incoming)", path.read_text())
    ]
    assert others == []


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text(max_size=4) | st.none(),
            "number": st.floats(allow_nan=False) | st.integers(-(2**53), 2**53) | st.none(),
            "whole": st.integers(-(2**63), 2**63 - 1) | st.none(),
            "flag": st.booleans() | st.none(),
            "parts": st.dictionaries(st.sampled_from("abc"), st.integers() | st.text(max_size=3), max_size=2)
            | st.none(),
            "moment": st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)) | st.none(),
            "content": st.binary(max_size=4) | st.none(),
        }
    ),
    max_size=7,
)


@given(ROWS)
def test_rows_that_are_inserted_together_are_those_inserted_one_by_one(rows: list[dict[str, Any]]) -> None:
    """A statement for many rows decides on one type a column; no value may change by the company it comes in."""
    with duckdb.connect() as con, pytest.MonkeyPatch.context() as patch:
        con.execute("SET TimeZone = 'UTC'")
        for table, at_once in (("single", 1), ("several", 3)):
            patch.setattr(statements, "AT_ONCE", at_once)
            columns = (
                "name VARCHAR, number DOUBLE, whole BIGINT, flag BOOLEAN, parts JSON, moment TIMESTAMPTZ, content BLOB"
            )
            con.execute(f"CREATE TABLE {table} ({columns})")
            statements.insert(con, table, rows)
        assert con.execute("FROM single").fetchall() == con.execute("FROM several").fetchall()


def test_a_conflict_leaves_the_first_row_and_without_a_rule_refuses_all() -> None:
    """Rows of one statement may have the same key as each other, as those of different statements may."""
    rows = [{"k": k, "v": i} for i, k in enumerate("abab")]
    with duckdb.connect() as con:
        con.execute("CREATE TABLE found (k VARCHAR PRIMARY KEY, v INTEGER)")
        statements.insert(con, "found", rows, "DO NOTHING")
        assert con.execute("FROM found ORDER BY k").fetchall() == [("a", 0), ("b", 1)]
        statements.insert(con, "found", rows, "DO UPDATE SET v = excluded.v")
        assert con.execute("FROM found ORDER BY k").fetchall() == [("a", 2), ("b", 3)]
        with pytest.raises(duckdb.ConstraintException), statements.transaction(con):
            statements.insert(con, "found", [{"k": "c", "v": 9}, {"k": "a", "v": 9}])
        assert con.execute("SELECT count(*) FROM found").fetchall() == [(2,)]
