"""Export a table or view of the published snapshot to a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import duckdb

from common.errors import LabError
from common.files import whole_file
from warehouse.database.connection import open_to_read
from warehouse.database.statements import column_of, number_of
from warehouse.paths import Paths
from warehouse.run_notes import notes

Format = Literal["parquet", "csv", "json"]
OPTIONS = {"parquet": "FORMAT parquet, COMPRESSION zstd", "csv": "FORMAT csv, HEADER", "json": "FORMAT json, ARRAY"}


def names(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the views, then the tables, each by name."""
    return column_of(
        con,
        "SELECT view_name, 0 FROM duckdb_views() WHERE NOT internal UNION ALL "
        "SELECT table_name, 1 FROM duckdb_tables() WHERE NOT internal ORDER BY 2, 1",
    )


def export(paths: Paths, name: str, target: Path, format: Format, run_id: str | None = None) -> int:
    """Write all rows of a view or table, or those of one run, whole or not at all; return their number.

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
    with open_to_read(paths.snapshot, "lab collect") as con:
        _add_notes(con, paths)
        known = names(con)
        if name not in known:
            raise LabError(f"there is no view or table {name!r:.80}", f"choose one of: {', '.join(known)}")
        rows = f"FROM {name}"  # one of the catalogue's
        if run_id is not None:
            rows += _of_run(con, name, run_id)
        with whole_file(target) as temporary:
            path = str(temporary).replace("'", "''")
            return number_of(con, f"COPY ({rows}) TO '{path}' ({OPTIONS[format]})")


def _add_notes(con: duckdb.DuckDBPyConnection, paths: Paths) -> None:
    """Add the user's notes on runs as the table run_notes, for this connection alone."""
    con.execute("CREATE TEMP TABLE run_notes (run_id VARCHAR, note VARCHAR, tags VARCHAR[])")
    for run_id, note in notes(paths).items():
        con.execute("INSERT INTO run_notes (run_id, note, tags) VALUES (?, ?, ?)", [run_id, note.note, list(note.tags)])


def _of_run(con: duckdb.DuckDBPyConnection, name: str, run_id: str) -> str:
    if "run_id" not in column_of(con, f"SELECT column_name FROM (DESCRIBE {name})"):  # noqa: S608 - of the catalogue
        raise LabError(f"{name} has no column run_id", "leave --run out")
    if con.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchone() is None:
        raise LabError(f"there is no run {run_id!r:.80}", "lab results names the last one")
    return f" WHERE run_id = '{run_id.replace(chr(39), chr(39) * 2)}'"
