"""Records as files beside the bundles: with both, the whole warehouse can be rebuilt.

Trials are in bundles, and summaries are made of trials. All other tables are saved as small Parquet files, one for each table
and run (or for a sixteenth of its units, where rows belong to no run). Each is written whole when a writer has finished, and
only if its rows have changed. An index lists them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import LabError
from common.files import file_sha256, whole_file, write_whole
from warehouse.database import comparisons, summaries
from warehouse.paths import Paths

INDEX = "index.json"
# Tables without files: a rebuild makes them from the bundles.
MADE_AGAIN = ("trials", *summaries.TABLES, comparisons.TABLE)
COMMON = "common"  # folder of rows of no run
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}/[a-z0-9_]+(-[0-9a-f])?\.parquet")  # below the folder of records
REBUILD = "lab warehouse rebuild"


class Index(NamedTuple):
    """Schema version of the records, and the files below records/ by name; 0 and none where there are no records."""

    schema: int
    files: dict[str, RecordFile]


@dataclass(frozen=True)
class RecordFile:
    """An entry of the index: one file of records."""

    table: str
    rows: int
    fingerprint: str  # of its rows in the warehouse; another version of DuckDB may give another
    sha256: str  # of the file


def catalogue(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return the warehouse's tables: table -> column -> type, columns in order."""
    rows = con.execute(
        "SELECT c.table_name, c.column_name, c.data_type FROM duckdb_columns() c JOIN duckdb_tables() t USING (table_oid) "
        "WHERE NOT c.internal AND c.database_name = current_database() AND t.database_name = current_database() "
        "ORDER BY c.table_name, c.column_index"
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


def read_index(paths: Paths) -> Index:
    """Read which record files there are.

    Raises:
        LabError: the index is damaged.
    """
    path = paths.records / INDEX
    try:
        content = json.loads(path.read_bytes())
        found = {str(name): RecordFile(**entry) for name, entry in content["files"].items()}
        if not all(NAME.fullmatch(name) for name in found):
            raise ValueError("invalid file name")
        return Index(int(content["schema"]), found)
    except FileNotFoundError:
        return Index(0, {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LabError(f"{path} cannot be read: {str(error)[:200]}", f"rm {path}, then: lab collect") from error


def save(con: duckdb.DuckDBPyConnection, paths: Paths, schema: int) -> None:
    """Write the files whose rows have changed; the caller holds the warehouse's lock. After a crash the next call completes it."""
    try:
        before = read_index(paths)
    except LabError:
        before = Index(0, {})  # all are written again
    now: dict[str, RecordFile] = {}
    known = {t: columns for t, columns in catalogue(con).items() if t not in MADE_AGAIN}
    # Only names from the catalogue are put into the statement.
    parts = " UNION ALL ".join(
        f"SELECT '{t}', ({_part(columns)})::VARCHAR, count(*), sum(hash({t})::HUGEINT)::VARCHAR FROM {t} GROUP BY ALL"  # noqa: S608
        for t, columns in known.items()
    )
    for table, value, rows, fingerprint in con.execute(parts).fetchall():
        name = _name(table, known[table], value)
        old = before.files.get(name)
        if old and (old.rows, old.fingerprint) == (rows, fingerprint) and (paths.records / name).is_file():
            now[name] = old
        else:
            sha256 = _write(con, paths.records / name, table, known[table], value)
            now[name] = RecordFile(table, rows, fingerprint, sha256)
    if before == (schema, now):
        return
    # The index names only files that are there; those that it no longer names go last.
    content = {"schema": schema, "files": {name: vars(entry) for name, entry in sorted(now.items())}}
    write_whole(paths.records / INDEX, json.dumps(content, indent=0).encode())
    for name in before.files.keys() - now.keys():
        (paths.records / name).unlink(missing_ok=True)


def load(con: duckdb.DuckDBPyConnection, paths: Paths, files: dict[str, RecordFile]) -> list[str]:
    """Insert the rows of these files into a new warehouse; return what is wrong with files that were left out."""
    wrong, known = [], catalogue(con)
    con.execute("DELETE FROM schema_migrations")
    for name, entry in files.items():
        path = paths.records / name
        if reason := damage(path, entry):
            wrong.append(f"records/{name}: {reason}")
            continue
        listed = ", ".join(c for c in pq.read_schema(path).names if c in known[entry.table])
        con.execute(f"INSERT INTO {entry.table} ({listed}) SELECT {listed} FROM read_parquet(?)", [str(path)])  # noqa: S608 - names of columns
    return wrong


def refuse_lost(paths: Paths) -> None:
    """Check that a missing warehouse has no records or bundles: without it the results would seem to be gone.

    Raises:
        LabError: it has, with the command that rebuilds it.
    """
    if not paths.warehouse.exists() and (found := sources(paths)):
        raise LabError(f"{paths.warehouse} is missing, but its {' and '.join(found)} are there", REBUILD)


def sources(paths: Paths) -> list[str]:
    """Return what there is to rebuild a warehouse from: "records", "bundles", both or neither."""
    there = {"records": (paths.records / INDEX).exists(), "bundles": any(paths.bundles.glob("*.parquet"))}
    return [word for word, found in there.items() if found]


def damage(path: Path, entry: RecordFile) -> str | None:
    """Return what is wrong with a file of records, or None."""
    if not path.is_file():
        return "missing"
    return None if file_sha256(path) == entry.sha256 else "its content is not what was written"


def _part(columns: dict[str, str]) -> str:
    """Return the SQL that divides a table into files: by run, or by a sixteenth of its units."""
    if "run_id" in columns:
        return "run_id"
    return "left(md5(unit_id), 1)" if "unit_id" in columns else "''"


def _name(table: str, columns: dict[str, str], value: str) -> str:
    if "run_id" not in columns:
        return f"{COMMON}/{table}{'-' if value else ''}{value}.parquet"
    plain = PLAIN.fullmatch(value) and value != COMMON
    return f"{value if plain else hashlib.sha256(value.encode()).hexdigest()[:32]}/{table}.parquet"


def _write(con: duckdb.DuckDBPyConnection, path: Path, table: str, columns: dict[str, str], value: str) -> str:
    """Write the rows of one part; return the file's SHA-256."""
    # As text, JSON stays as it was stored, byte by byte.
    listed = ", ".join(f"{c}::VARCHAR AS {c}" if kind == "JSON" else c for c, kind in columns.items())
    sql = f"SELECT {listed} FROM {table} WHERE {_part(columns)} = ? ORDER BY ALL"  # noqa: S608 - from the catalogue
    rows: pa.Table = con.execute(sql, [value]).to_arrow_table()
    with whole_file(path) as temporary:
        pq.write_table(rows, temporary, compression="zstd")
        return file_sha256(temporary)
