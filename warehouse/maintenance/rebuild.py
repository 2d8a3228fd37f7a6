"""Rebuild the whole warehouse: trials from the archived bundles, all else from the records beside them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import duckdb

from common.errors import LabError
from common.files import copy_whole, reporting_full_disk, sync_folder, temporary_for
from common.system_errors import system_error
from warehouse.database import comparisons, record_files, summaries
from warehouse.database.connection import (
    DAMAGED,
    locked,
    migrate,
    migrations,
    open_warehouse,
    publish_snapshot,
    schema_version,
)
from warehouse.database.statements import column_of, number_of, transaction
from warehouse.delivery.bundles import BadBundle
from warehouse.delivery.reading import read_bundle
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.protocol import bundles_in
from warehouse.ingest.collector import archived, take_archived
from warehouse.ingest.trial_rows import insert_trials, table_of
from warehouse.paths import Paths


class Difference(NamedTuple):
    """Rows of a table that are only in the old warehouse, and only in the new one."""

    only_before: int
    only_now: int


@dataclass
class Rebuilt:
    """Result of a rebuild."""

    rows: dict[str, int] = field(default_factory=dict)  # by table
    found: int = 0  # bundles in the archive that were in no record
    lost: list[str] = field(default_factory=list)  # what could not be rebuilt, with the reason
    aside: list[str] = field(default_factory=list)  # files in the archive, in no record, that no plan asks for
    compared: bool = False  # True if the old warehouse could be read
    differences: dict[str, Difference] = field(default_factory=dict)  # by table
    old: Path | None = None  # the old warehouse's new path; None if it was replaced


def rebuild(paths: Paths, store: Store, force: bool = False) -> Rebuilt:
    """Build a new warehouse beside the old one, compare them, replace the old one and publish the snapshot.

    Args:
        force: replace it even if something is lost that the old one has.

    Raises:
        LabError: another process holds the warehouse, there is nothing to build from, something is lost, or the disk is full;
            then nothing is changed.
        OSError: a file cannot be read or written now; then nothing is changed.
    """
    with reporting_full_disk(paths.home), locked(paths):
        readable = _brought_up(paths)
        index = record_files.read_index(paths)
        if not index.files:
            raise LabError(f"there are no records in {paths.records}", "lab restore FILE, from a backup")
        new = temporary_for(paths.warehouse)
        try:
            done = _build(paths, store, new, index)
            if readable:
                done.compared, done.differences = _differences(paths.warehouse, new)
            if done.lost and readable and not force:
                what = f"{len(done.lost)} items cannot be rebuilt, first {done.lost[0]}; nothing was changed"
                raise LabError(what, "lab restore FILE from a backup, or lab warehouse rebuild --force")
            _put_in_place(paths, new, done)
            with open_warehouse(paths) as con:
                record_files.save(con, paths, schema_version(con))
        finally:
            for left in (new, _log_of(new)):
                with suppress(OSError):
                    left.unlink(missing_ok=True)
        publish_snapshot(paths)
    return done


def _brought_up(paths: Paths) -> bool:
    """Save the records of the old warehouse; return False if it is missing or cannot be read."""
    if not paths.warehouse.exists():
        return False
    try:
        with open_warehouse(paths) as con:
            con.execute("CHECKPOINT")
            record_files.save(con, paths, schema_version(con))
    except LabError:  # it is damaged
        return False
    except duckdb.Error as error:
        if system_error(error):
            raise  # it may be sound
        return False
    return True


def _build(paths: Paths, store: Store, new: Path, index: record_files.Index) -> Rebuilt:
    done = Rebuilt()
    with duckdb.connect(str(new)) as con:
        con.execute("SET TimeZone = 'UTC'")
        # The records are loaded into their own schema; later migrations then change them as they would have.
        migrate(con, migrations()[: index.schema])
        done.lost += record_files.load(con, paths, index.files)
        migrate(con)
        there, waiting = archived(paths), _waiting(paths, store)
        with transaction(con):
            for sha256 in column_of(con, "SELECT sha256 FROM bundles ORDER BY arrival, sha256"):
                # A collector that died between its commit and the archive left the file in the inbox.
                path = there.pop(sha256, None) or _archive(paths, waiting.get(sha256))
                try:
                    if path is None:
                        raise BadBundle("its file is not in the archive")
                    bundle = read_bundle(path)
                except BadBundle as error:
                    done.lost.append(f"bundle {sha256[:12]}: {error}")
                    con.execute("DELETE FROM bundles WHERE sha256 = ?", [sha256])
                    continue
                for a in bundle.attachments:
                    store.put_file(a.content)
                insert_trials(con, [table_of(bundle)])
        for path in there.values():
            try:
                take_archived(con, store, read_bundle(path), path)
                done.found += 1
            except BadBundle as error:
                done.aside.append(f"{path.name}: {error}")
        renumber(con)
        summaries.refresh(con)
        comparisons.refresh(con)
        con.execute("CHECKPOINT")
        for table in record_files.catalogue(con):
            done.rows[table] = number_of(con, f"SELECT count(*) FROM {table}")  # noqa: S608 - from the catalogue
    return done


def _waiting(paths: Paths, store: Store) -> dict[str, Path]:
    """Return SHA-256 -> file of every bundle in the spool and the inbox."""
    return {p.name.split(".")[1]: p for folder in (paths.spool, store.inbox) for p in bundles_in(folder)}


def _archive(paths: Paths, path: Path | None) -> Path | None:
    """Copy a bundle into the archive and return the copy; the next delivery or collection removes the other one."""
    if path is None:
        return None
    copy_whole(path, paths.bundles / path.name)
    return paths.bundles / path.name


def renumber(con: duckdb.DuckDBPyConnection) -> None:
    """Number the bundles of each unit again, so that the first one counts where the one that counted is lost."""
    con.execute(
        """
        UPDATE bundles SET replicate = now.n FROM (
          SELECT sha256, row_number() OVER (PARTITION BY unit_id ORDER BY arrival, replicate, sha256) - 1 AS n FROM bundles
          WHERE unit_id IN (SELECT unit_id FROM bundles GROUP BY 1 HAVING list_sort(list(replicate)) <> range(count(*)))
        ) now WHERE bundles.sha256 = now.sha256 AND bundles.replicate <> now.n
        """
    )


class _Compared(NamedTuple):
    whole: bool  # False: the old warehouse has a damaged block
    differences: dict[str, Difference]


def _differences(old: Path, new: Path) -> _Compared:
    """Compare all tables but the summaries and comparisons; repeated rows count as often as they occur."""
    try:
        return _Compared(True, _by_table(old, new))
    except duckdb.Error as error:
        if not DAMAGED.search(str(error)):
            raise
        return _Compared(False, {})


def _by_table(old: Path, new: Path) -> dict[str, Difference]:
    found = {}
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for path, name in ((old, "before"), (new, "now")):
            con.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS {name} (READ_ONLY)")
        known = con.execute(
            "SELECT table_name, list(DISTINCT database_name) FROM duckdb_tables() WHERE database_name IN ('before', 'now') "
            "AND NOT list_contains(?, table_name) GROUP BY 1 ORDER BY 1",
            [[*summaries.TABLES, comparisons.TABLE]],
        ).fetchall()
        for table, where in known:
            only = {}
            for a, b in (("before", "now"), ("now", "before")):
                but = f" EXCEPT ALL FROM {b}.{table}" if b in where else ""
                if a in where:
                    only[a] = number_of(con, f"SELECT count(*) FROM (FROM {a}.{table}{but})")  # noqa: S608 - from the catalogue
            found[table] = Difference(only.get("before", 0), only.get("now", 0))
    return {table: difference for table, difference in found.items() if any(difference)}


def _put_in_place(paths: Paths, new: Path, done: Rebuilt) -> None:
    """Replace the old warehouse; if it differs from the new one or cannot be read, it stays under another name."""
    if paths.warehouse.exists() and (done.differences or not done.compared):
        done.old = paths.warehouse.with_name("warehouse.before.duckdb")
        _move_database(paths.warehouse, done.old)
    try:
        _log_of(paths.warehouse).unlink(missing_ok=True)
        new.replace(paths.warehouse)
    except OSError:
        if done.old:
            _move_database(done.old, paths.warehouse)
        raise
    sync_folder(paths.home)


def _move_database(source: Path, target: Path) -> None:
    """Move a database with its log."""
    source.replace(target)
    with suppress(FileNotFoundError):
        _log_of(source).replace(_log_of(target))


def _log_of(path: Path) -> Path:
    """Return the path of DuckDB's log of a database."""
    return path.with_name(f"{path.name}.wal")
