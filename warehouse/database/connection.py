"""Opening the warehouse for writing: one process at a time, migrated, published when asked."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import duckdb

from common.environment import upgrade_command
from common.errors import LabError
from common.files import copy_whole, locked_file, sweep, telling_when_full
from warehouse.database import record_files, summaries
from warehouse.database.statements import insert, number_of, transaction
from warehouse.paths import Paths

LOCK_WAIT_S = 30.0  # longer than any single transaction here


def migrations() -> list[tuple[int, str, str]]:
    """(number, file name, SQL) of every migration, in order."""
    files = [f for f in resources.files("warehouse.migrations").iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name[:4]), f.name, f.read_text(encoding="utf-8")) for f in files)


def migrate(con: duckdb.DuckDBPyConnection, known: list[tuple[int, str, str]] | None = None) -> None:
    """Apply what is missing, each file and its record in one transaction.

    Raises:
        LabError: the warehouse is newer than this code, or an applied file was changed since.
    """
    known = migrations() if known is None else known
    con.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(number INTEGER PRIMARY KEY, name VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
    )
    rows = con.execute("SELECT number, sha256 FROM schema_migrations ORDER BY number").fetchall()
    applied: dict[int, str] = dict(rows)
    _known(max(applied, default=0), known)
    for number, name, sql in known:
        sha256 = hashlib.sha256(sql.encode()).hexdigest()
        if number in applied:
            if applied[number] != sha256:
                raise LabError(
                    f"migration {name} was changed after it was applied", f"git checkout warehouse/migrations/{name}"
                )
            continue
        with transaction(con):
            con.execute(sql)
            row = {"number": number, "name": name, "sha256": sha256, "applied_at": datetime.now(UTC)}
            insert(con, "schema_migrations", [row])


def schema_version(con: duckdb.DuckDBPyConnection) -> int:
    """Number of the newest migration applied to this database; 0 for one that has none."""
    migrated = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_migrations' AND NOT internal"
    return number_of(con, "SELECT max(number) FROM schema_migrations") if number_of(con, migrated) else 0


def _known(number: int, known: list[tuple[int, str, str]]) -> None:
    newest = max((n for n, _, _ in known), default=0)
    if number > newest:
        raise LabError(f"the warehouse has schema {number}, this version knows {newest}", upgrade_command())


def refuse_newer(paths: Paths) -> None:
    """Nothing, unless the published snapshot is of a warehouse that is newer than this code; asked without the lock.

    Raises:
        LabError: it is newer, with both numbers.
    """
    with suppress(duckdb.Error), duckdb.connect(str(paths.snapshot), read_only=True) as con:
        _known(schema_version(con), migrations())


@contextmanager
def locked(paths: Paths, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the warehouse's lock; the system releases it when the process dies.

    Raises:
        LabError: another process holds it for longer than `wait_s`, with its pid and command.
    """
    paths.home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked_file(paths.lock, wait_s))
        except TimeoutError:
            holder = paths.lock.read_text(encoding="utf-8", errors="replace").strip()[:200]
            raise LabError(f"the warehouse is held by {holder or 'another process'}", "wait, or stop it") from None
        paths.lock.write_text(f"process {os.getpid()} ({' '.join(sys.argv)[:120]})", encoding="utf-8")
        yield


@contextmanager
def writing(paths: Paths, *, publish: bool = False, wait_s: float = LOCK_WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that may write, to the migrated warehouse; with `publish` a snapshot follows when all went well.

    When all went well its records are kept as files too (record_files.py).

    Raises:
        LabError: the lock is held, the file is open elsewhere or lost, the warehouse's schema is newer or changed, or the disk is
            full.
    """
    with telling_when_full(paths.home), locked(paths, wait_s):
        if not paths.warehouse.exists() and (paths.records / record_files.INDEX).exists():
            # A new, empty warehouse would take the place of its records too.
            raise LabError(f"{paths.warehouse} is gone, and its records are here", record_files.REBUILD)
        with open_warehouse(paths) as con:
            yield con
            summaries.refresh(con)
            con.execute("CHECKPOINT")
            record_files.keep(con, paths, schema_version(con))
        if publish:
            publish_snapshot(paths)


@contextmanager
def open_warehouse(paths: Paths) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the migrated warehouse; the caller holds its lock."""
    con = _backed_up(_open(paths), paths)
    try:
        con.execute("SET TimeZone = 'UTC'")
        migrate(con)
        yield con
    finally:
        con.close()


def _backed_up(con: duckdb.DuckDBPyConnection, paths: Paths) -> duckdb.DuckDBPyConnection:
    """The same warehouse; where migrations are due it was closed, copied into backups/ and opened again.

    Raises:
        OSError: there is no room for the copy; nothing is migrated.
    """
    there = schema_version(con)
    if not 0 < there < max(number for number, _, _ in migrations()):
        return con
    con.close()  # which writes into the file what was only in its log
    copy_whole(paths.warehouse, paths.backups / f"warehouse-schema-{there:04}.duckdb")
    return _open(paths)


def _open(paths: Paths) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(paths.warehouse))
    except duckdb.Error as error:
        said = str(error).splitlines()[0][:300]
        in_use = isinstance(error, duckdb.IOException) and "set lock" in said
        mend = f"close what has it open; to look into it, open {paths.snapshot} instead"
        raise LabError(
            f"{paths.warehouse} cannot be opened: {said}", mend if in_use else record_files.REBUILD
        ) from error


def publish_snapshot(paths: Paths) -> Path:
    """Copy the checkpointed, closed warehouse onto the snapshot's name; the caller holds the warehouse's lock."""
    # Only the holder of the lock writes here, so whatever is half written is from one that died.
    sweep(paths.home, older_than_s=0.0)
    copy_whole(paths.warehouse, paths.snapshot)
    return paths.snapshot
