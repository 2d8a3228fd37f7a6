"""The records as files beside the bundles: with both, the whole warehouse can be built anew.

Trials are in bundles, and summaries are made of trials. All other tables are kept as small Parquet files, one a table and run
(or a sixteenth of its units, where rows belong to no run), each written whole as soon as a writer is done and only when its
rows have changed. An index says which there are.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import LabError
from common.files import file_sha256, finish, temporary_for, write_whole
from warehouse.database import summaries
from warehouse.paths import Paths

INDEX = "index.json"
MADE_AGAIN = ("trials", *summaries.TABLES)  # tables without files here: a rebuild makes them from the bundles
COMMON = "common"  # folder of rows of no run
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}/[a-z0-9_]+(-[0-9a-f])?\.parquet")  # below the folder of records
REBUILD = "lab warehouse rebuild"


@dataclass(frozen=True)
class Kept:
    """One file of records."""

    table: str
    rows: int
    fingerprint: str  # of its rows in the warehouse; another version of DuckDB may give another
    sha256: str  # of the file


def catalogue(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Table -> column -> type of the warehouse's tables, by name, their columns in order."""
    rows = con.execute(
        "SELECT c.table_name, c.column_name, c.data_type FROM duckdb_columns() c JOIN duckdb_tables() t USING (table_oid) "
        "WHERE NOT c.internal AND c.database_name = current_database() AND t.database_name = current_database() "
        "ORDER BY c.table_name, c.column_index"
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


def read_index(paths: Paths) -> tuple[int, dict[str, Kept]]:
    """(schema version of the records, file below records/ -> what it is); (0, {}) where there are none.

    Raises:
        LabError: the index is damaged.
    """
    path = paths.records / INDEX
    try:
        content = json.loads(path.read_bytes())
        found = {str(name): Kept(**entry) for name, entry in content["files"].items()}
        if not all(NAME.fullmatch(name) for name in found):
            raise ValueError("a file's name is none")
        return int(content["schema"]), found
    except FileNotFoundError:
        return 0, {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LabError(f"{path} cannot be read: {str(error)[:200]}", f"rm {path}, then: lab collect") from error


def keep(con: duckdb.DuckDBPyConnection, paths: Paths, schema: int) -> None:
    """Bring the files to the warehouse's state; the caller holds the warehouse's lock. A crash in between is made good next time."""
    try:
        before_schema, before = read_index(paths)
    except LabError:
        before_schema, before = 0, {}  # written anew from the warehouse, which is the truth here
    now: dict[str, Kept] = {}
    known = {t: columns for t, columns in catalogue(con).items() if t not in MADE_AGAIN}
    # Names from the catalogue, so nothing from outside is put in.
    parts = " UNION ALL ".join(
        f"SELECT '{t}', ({_part(columns)})::VARCHAR, count(*), sum(hash({t})::HUGEINT)::VARCHAR FROM {t} GROUP BY ALL"  # noqa: S608
        for t, columns in known.items()
    )
    for table, value, rows, fingerprint in con.execute(parts).fetchall():
        name = _name(table, known[table], value)
        old = before.get(name)
        if old and (old.rows, old.fingerprint) == (rows, fingerprint) and (paths.records / name).is_file():
            now[name] = old
        else:
            now[name] = Kept(table, rows, fingerprint, _write(con, paths.records / name, table, known[table], value))
    if now == before and schema == before_schema:
        return
    # The index names only files that are there; those that it no longer names go last.
    content = {"schema": schema, "files": {name: vars(kept) for name, kept in sorted(now.items())}}
    write_whole(paths.records / INDEX, json.dumps(content, indent=0).encode())
    for name in before.keys() - now.keys():
        (paths.records / name).unlink(missing_ok=True)


def load(con: duckdb.DuckDBPyConnection, paths: Paths, files: dict[str, Kept]) -> list[str]:
    """Insert the rows of all these files into a fresh warehouse; returns what is wrong with files that were left out."""
    wrong, known = [], catalogue(con)
    con.execute("DELETE FROM schema_migrations")
    for name, kept in files.items():
        path = paths.records / name
        if reason := damage(path, kept):
            wrong.append(f"records/{name}: {reason}")
            continue
        listed = ", ".join(c for c in pq.read_schema(path).names if c in known[kept.table])
        con.execute(f"INSERT INTO {kept.table} ({listed}) SELECT {listed} FROM read_parquet(?)", [str(path)])  # noqa: S608 - names of columns
    return wrong


def refuse_lost(paths: Paths) -> None:
    """Where the warehouse is gone and what it can be built from is here, say so: it would look as if nothing had ever been done.

    Raises:
        LabError: with the command that builds it.
    """
    if not paths.warehouse.exists() and (kept := kept_beside(paths)):
        raise LabError(f"{paths.warehouse} is gone, and its {' and '.join(kept)} are here", REBUILD)


def kept_beside(paths: Paths) -> list[str]:
    """What of a warehouse is here beside it: records, bundles, both or neither."""
    there = {
        "records": (paths.records / INDEX).exists(),
        "bundles": next(paths.bundles.glob("*.parquet"), None) is not None,
    }
    return [word for word, found in there.items() if found]


def damage(path: Path, kept: Kept) -> str | None:
    """What is wrong with a file of records, or None."""
    if not path.is_file():
        return "missing"
    return None if file_sha256(path) == kept.sha256 else "its content is not what was written"


def _part(columns: dict[str, str]) -> str:
    """What divides a table into files: its run, or a sixteenth of its units, so that one more row does not rewrite all."""
    if "run_id" in columns:
        return "run_id"
    return "left(md5(unit_id), 1)" if "unit_id" in columns else "''"


def _name(table: str, columns: dict[str, str], value: str) -> str:
    if "run_id" not in columns:
        return f"{COMMON}/{table}{'-' if value else ''}{value}.parquet"
    plain = PLAIN.fullmatch(value) and value != COMMON
    return f"{value if plain else hashlib.sha256(value.encode()).hexdigest()[:32]}/{table}.parquet"


def _write(con: duckdb.DuckDBPyConnection, path: Path, table: str, columns: dict[str, str], value: str) -> str:
    """Write the rows of one part; returns the file's SHA-256."""
    # As text JSON stays as it was stored, to the letter.
    listed = ", ".join(f"{c}::VARCHAR AS {c}" if kind == "JSON" else c for c, kind in columns.items())
    rows: pa.Table = con.execute(
        f"SELECT {listed} FROM {table} WHERE {_part(columns)} = ? ORDER BY ALL",  # noqa: S608 - names from the catalogue
        [value],
    ).to_arrow_table()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path)
    try:
        pq.write_table(rows, temporary, compression="zstd")
        sha256 = file_sha256(temporary)
        finish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return sha256
