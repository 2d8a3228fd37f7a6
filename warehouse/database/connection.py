"""Open the warehouse for writing: one process at a time, migrated, published on request."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import duckdb

from common.environment import upgrade_command
from common.errors import LabError
from common.files import copy_whole, locked_file, reporting_full_disk, sweep
from common.system_errors import system_error
from warehouse.database import comparisons, record_files, summaries
from warehouse.database.statements import insert, number_of, transaction
from warehouse.paths import Paths

DAMAGED = re.compile("checksum|corrupt|enough bytes", re.IGNORECASE)  # in what DuckDB says of a block on the disk
LOCK_WAIT_S = 30.0  # longer than any single transaction here


class Migration(NamedTuple):
    """A change of the schema: its number, file name and SQL."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Return every migration, in order."""
    files = [f for f in resources.files("warehouse.migrations").iterdir() if f.name.endswith(".sql")]
    return sorted(Migration(int(f.name[:4]), f.name, f.read_text(encoding="utf-8")) for f in files)


def migrate(con: duckdb.DuckDBPyConnection, known: Sequence[Migration] | None = None) -> None:
    """Apply the migrations that are missing, each with its record in one transaction.

    Args:
        known: the migrations of this version, or the first of them.

    Raises:
        LabError: the warehouse is newer than this code, or an applied file was changed since.
    """
    known = migrations() if known is None else known
    con.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(number INTEGER PRIMARY KEY, name VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
    )
    applied: dict[int, str] = dict(con.execute("SELECT number, sha256 FROM schema_migrations").fetchall())
    _check_known(max(applied, default=0), known)
    for number, name, sql in known:
        sha256 = hashlib.sha256(sql.encode()).hexdigest()
        if number in applied:
            if applied[number] != sha256:
                what = f"migration {name} was changed after it was applied"
                raise LabError(what, f"git checkout warehouse/migrations/{name}")
            continue
        with transaction(con):
            con.execute(sql)
            row = {"number": number, "name": name, "sha256": sha256, "applied_at": datetime.now(UTC)}
            insert(con, "schema_migrations", [row])


def schema_version(con: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the newest migration applied to this database; 0 for none."""
    migrated = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_migrations' AND NOT internal"
    return number_of(con, "SELECT max(number) FROM schema_migrations") if number_of(con, migrated) else 0


def _check_known(number: int, known: Sequence[Migration]) -> None:
    newest = max((m.number for m in known), default=0)
    if number > newest:
        raise LabError(f"the warehouse has schema {number}, this version knows {newest}", upgrade_command())


def refuse_newer(paths: Paths) -> None:
    """Check without the lock that the published snapshot is not newer than this code.

    Raises:
        LabError: it is newer, with both schema numbers.
    """
    with suppress(duckdb.Error), duckdb.connect(str(paths.snapshot), read_only=True) as con:
        _check_known(schema_version(con), migrations())


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
            holder = ""
            with suppress(OSError):  # on Windows a locked file cannot be read
                holder = paths.lock.read_text(encoding="utf-8", errors="replace").strip()[:200]
            raise LabError(f"the warehouse is held by {holder or 'another process'}", "wait, or stop it") from None
        with suppress(OSError):  # nor written
            by = f"process {os.getpid()} ({' '.join(sys.argv)[:120]})"
            paths.lock.write_text(by, encoding="utf-8", errors="backslashreplace")
        yield


@contextmanager
def writing(paths: Paths, *, publish: bool = False, wait_s: float = LOCK_WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to the migrated warehouse that may write.

    When the block succeeds, summaries, comparisons and record files are brought up to date.

    Args:
        publish: then also publish a snapshot.
        wait_s: seconds to wait for the lock.

    Raises:
        LabError: the lock is held, the file is open elsewhere or lost, its schema is newer or changed, or the disk is full.
    """
    with reporting_full_disk(paths.home), locked(paths, wait_s):
        if not paths.warehouse.exists() and (paths.records / record_files.INDEX).exists():
            # A new, empty warehouse would replace its records too.
            raise LabError(f"{paths.warehouse} is missing, but its records are there", record_files.REBUILD)
        with open_warehouse(paths) as con:
            yield con
            summaries.refresh(con)
            comparisons.refresh(con)
            con.execute("CHECKPOINT")
            record_files.save(con, paths, schema_version(con))
        if publish:
            publish_snapshot(paths)


@contextmanager
def open_warehouse(paths: Paths) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to the migrated warehouse; the caller holds its lock.

    It is copied into backups/ if migrations are due; without room for the copy, nothing is migrated.
    """
    con = _open(paths)
    if 0 < (there := schema_version(con)) < migrations()[-1].number:
        con.close()  # which writes its log into the file
        copy_whole(paths.warehouse, paths.backups / f"warehouse-schema-{there:04}.duckdb")
        con = _open(paths)
    try:
        con.execute("SET TimeZone = 'UTC'")
        migrate(con)
        yield con
    except duckdb.Error as error:
        if DAMAGED.search(str(error)):
            raise LabError(f"{paths.warehouse} is damaged: {_first_line(error)}", record_files.REBUILD) from error
        raise
    finally:
        con.close()


def _open(paths: Paths) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(paths.warehouse))
    except duckdb.Error as error:
        reason = _first_line(error)
        in_use = isinstance(error, duckdb.IOException) and "set lock" in reason
        if not in_use and (refused := system_error(error)):
            raise OSError(refused.errno, refused.strerror, str(paths.warehouse)) from error
        mend = f"close the program that has it open; to read the data, open {paths.snapshot} instead"
        what = f"{paths.warehouse} cannot be opened: {reason}"
        raise LabError(what, mend if in_use else record_files.REBUILD) from error


@contextmanager
def reading(paths: Paths, *, publish: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to read the warehouse: as `writing`, or without its lock where LAB_HOME cannot be written.

    Args:
        publish: as of `writing`.

    Raises:
        LabError: as `writing`; or there the schema is not this version's, which writing would bring up to date.
    """
    if os.access(paths.home, os.W_OK):
        with writing(paths, publish=publish) as con:
            yield con
        return
    with open_to_read(paths.warehouse, record_files.REBUILD) as con:
        if (there := schema_version(con)) != (here := migrations()[-1].number):
            what = f"the warehouse has schema {there}, this version {here}, and {paths.home} cannot be written"
            raise LabError(what, "make it writable, then: lab collect")
        yield con


def is_read_only(con: duckdb.DuckDBPyConnection) -> bool:
    """Return True if the connection cannot write."""
    return con.execute("SELECT current_setting('access_mode')").fetchone() == ("read_only",)


@contextmanager
def open_to_read(path: Path, mend: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a read-only connection to a database file, such as the snapshot.

    Args:
        mend: the command that makes it again.

    Raises:
        LabError: it is damaged, or no database of this version of DuckDB.
        OSError: it cannot be read now.
    """
    try:
        with duckdb.connect(str(path), read_only=True) as con:
            con.execute("SET TimeZone = 'UTC'")
            yield con
    except duckdb.DataError:
        raise
    except duckdb.Error as error:
        raise unreadable(path, error, mend) from error


def unreadable(path: Path, error: duckdb.Error, mend: str) -> LabError | OSError:
    """Return the error for a database file that DuckDB cannot read: that of the system, or what is wrong with the file."""
    if refused := system_error(error):
        return OSError(refused.errno, refused.strerror, str(path))
    return LabError(f"{path} cannot be read: {_first_line(error)}", mend)


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0][:300]


def publish_snapshot(paths: Paths) -> Path:
    """Copy the checkpointed, closed warehouse to the snapshot's path and return it; the caller holds the warehouse's lock."""
    # Only the holder of the lock writes here, so half-written files are from a process that died.
    sweep(paths.home, older_than_s=0.0)
    copy_whole(paths.warehouse, paths.snapshot)
    return paths.snapshot
