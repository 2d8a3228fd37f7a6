"""A table or view of the published snapshot as one file, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import duckdb

from common.errors import LabError
from common.files import finish, temporary_for
from warehouse.paths import Paths

Format = Literal["parquet", "csv", "json"]
HOW = {"parquet": "FORMAT parquet, COMPRESSION zstd", "csv": "FORMAT csv, HEADER", "json": "FORMAT json, ARRAY"}


def names(con: duckdb.DuckDBPyConnection) -> list[str]:
    """All that can be exported: views first, then tables, by name."""
    rows = con.execute(
        "SELECT view_name, 0 FROM duckdb_views() WHERE NOT internal UNION ALL "
        "SELECT table_name, 1 FROM duckdb_tables() WHERE NOT internal ORDER BY 2, 1"
    ).fetchall()
    return [name for name, _ in rows]


def export(paths: Paths, name: str, target: Path, format: Format, run_id: str | None = None) -> int:
    """Write all rows of a view or table, or those of one run, whole or not at all; returns how many.

    Times are UTC. CSV has a header and empty fields for missing values; JSON is one list of objects.

    Raises:
        LabError: no snapshot, no such view, format or run, or the folder of `target` is missing.
    """
    if format not in get_args(Format):
        raise LabError(f"unknown format {format!r:.40}", f"choose one of: {', '.join(get_args(Format))}")
    if not paths.snapshot.is_file():
        raise LabError(f"there is no snapshot in {paths.home}", "lab collect")
    if not target.parent.is_dir():
        raise LabError(f"there is no folder {target.parent}", f"mkdir -p {target.parent}")
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        con.execute("SET TimeZone = 'UTC'")
        known = names(con)
        if name not in known:
            raise LabError(f"there is no view or table {name!r:.80}", f"choose one of: {', '.join(known)}")
        rows = f"FROM {name}"  # one of the catalogue's
        if run_id is not None:
            rows += _of_run(con, name, run_id)
        temporary = temporary_for(target)
        try:
            path = str(temporary).replace("'", "''")
            (n,) = con.execute(f"COPY ({rows}) TO '{path}' ({HOW[format]})").fetchone() or (0,)
            finish(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return int(n)


def _of_run(con: duckdb.DuckDBPyConnection, name: str, run_id: str) -> str:
    columns = {c for (c,) in con.execute(f"SELECT column_name FROM (DESCRIBE {name})").fetchall()}  # noqa: S608 - of the catalogue
    if "run_id" not in columns:
        raise LabError(f"{name} has no column run_id", "leave --run out")
    if con.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchone() is None:
        raise LabError(f"there is no run {run_id!r:.80}", "lab results names the last one")
    return f" WHERE run_id = '{run_id.replace(chr(39), chr(39) * 2)}'"
