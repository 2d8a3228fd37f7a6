"""Read every block of the DuckDB file that holds rows or keys: DuckDB compares a block with its checksum when it reads it.

Rows are read by queries. Keys are read only where something is inserted or removed, as a collection does; so a copy of the
file is changed in place of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection as Connection

from common.files import reporting_full_disk, temporary_for
from warehouse.database.connection import locked
from warehouse.database.record_files import catalogue
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths

KEYS = """
SELECT table_name, list_distinct(flatten(list(names))) FROM (
  SELECT table_name, constraint_column_names AS names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'
  UNION ALL SELECT table_name, str_split(trim(expressions, '[]'), ', ') FROM duckdb_indexes()
) GROUP BY 1
"""


def check_blocks(paths: Paths) -> Verified:
    """Check that every block of the warehouse that holds rows or keys can be read.

    Raises:
        LabError: another process holds the warehouse, or the disk has no room for a copy.
    """
    done, writable = Verified(), os.access(paths.home, os.W_OK)
    if not paths.warehouse.exists():
        return done  # said by who opens it
    folder = paths.home if writable else Path(tempfile.gettempdir())
    copy = temporary_for(folder / paths.warehouse.name)
    logs = [path.with_name(f"{path.name}.wal") for path in (paths.warehouse, copy)]
    try:
        with reporting_full_disk(folder):
            with locked(paths) if writable else nullcontext():
                shutil.copyfile(paths.warehouse, copy)
                if logs[0].exists():
                    shutil.copyfile(*logs)
            _check(copy, done)
    finally:
        for path in (copy, logs[1]):
            path.unlink(missing_ok=True)
    return done


def _check(copy: Path, done: Verified) -> None:
    """Read all rows of a copy, and put each key into its index again."""
    try:
        with duckdb.connect(str(copy)) as con:
            tables, keys = list(catalogue(con)), dict(con.execute(KEYS).fetchall())
    except duckdb.Error as error:
        done.add("blocks", _plain(error))
        return
    done.counts["tables"] = len(tables)
    for table in tables:
        # After some errors a connection serves no more.
        try:
            with duckdb.connect(str(copy)) as con:
                _read(con, table, keys.get(table, ()))
        except duckdb.Error as error:
            done.add("blocks", f"{table}: {_plain(error)}", table)


def _plain(error: duckdb.Error) -> str:
    return " ".join(str(error).split())[:200]


def _read(con: Connection, table: str, keys: list[str] | tuple[str, ...]) -> None:
    # Only names from the catalogue are put into the statements.
    con.execute(f"SELECT sum(hash({table})) FROM {table}").fetchall()  # noqa: S608
    if keys:
        con.execute(f"UPDATE {table} SET {', '.join(f'{name} = {name}' for name in keys)}")  # noqa: S608
