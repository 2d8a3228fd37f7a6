"""How rows come into tables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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
