"""Building the whole warehouse anew: trials from the archived bundles, all else from the records beside them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from common.errors import LabError
from common.files import sync_folder, temporary_for
from warehouse.database import record_files, summaries
from warehouse.database.connection import locked, migrate, migrations, open_warehouse, publish_snapshot, schema_version
from warehouse.database.statements import transaction
from warehouse.delivery.bundles import BadBundle, Bundle, read_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import archived, take_archived
from warehouse.ingest.trial_rows import insert_trials, table_of
from warehouse.paths import Paths


@dataclass
class Rebuilt:
    """What a rebuild made."""

    rows: dict[str, int] = field(default_factory=dict)  # by table
    found: int = 0  # bundles in the archive of which no record knew
    lost: list[str] = field(default_factory=list)  # what could not be brought back, with the reason
    aside: list[str] = field(default_factory=list)  # files in the archive that no record knew and no plan asks for
    compared: bool = False  # the warehouse that was here could be read
    differences: dict[str, tuple[int, int]] = field(default_factory=dict)  # table -> rows only before, rows only now
    kept: Path | None = None  # where the warehouse that was here lies now


def rebuild(paths: Paths, store: Store, force: bool = False) -> Rebuilt:
    """Build the warehouse anew beside the old one, compare them, put it in its place and publish the snapshot.

    Args:
        force: put it there even where something is lost that the old one has.

    Raises:
        LabError: another process holds the warehouse, there is nothing to build from, or something is lost; then all is left
            as it was.
    """
    with locked(paths):
        readable = _brought_up(paths)
        schema, files = record_files.read_index(paths)
        if not files:
            raise LabError(f"there are no records in {paths.records}", "lab restore FILE, from a backup")
        new = temporary_for(paths.warehouse)
        try:
            done = _build(paths, store, new, schema, files)
            if readable:
                done.compared, done.differences = True, _differences(paths.warehouse, new)
            if done.lost and readable and not force:
                raise LabError(
                    f"{len(done.lost)} things cannot be brought back, first {done.lost[0]}; nothing was changed",
                    "lab restore FILE from a backup, or lab warehouse rebuild --force",
                )
            _put_in_place(paths, new, done)
            with open_warehouse(paths) as con:
                record_files.keep(con, paths, schema_version(con))
        finally:
            for left in (new, new.with_name(f"{new.name}.wal")):
                left.unlink(missing_ok=True)
        publish_snapshot(paths)
    return done


def _brought_up(paths: Paths) -> bool:
    """Bring the records up to the warehouse that is here; whether it could be read."""
    if not paths.warehouse.exists():
        return False
    try:
        with open_warehouse(paths) as con:
            con.execute("CHECKPOINT")
            record_files.keep(con, paths, schema_version(con))
    except (LabError, duckdb.Error):
        return False
    return True


def _build(paths: Paths, store: Store, new: Path, schema: int, files: dict[str, record_files.Kept]) -> Rebuilt:
    done = Rebuilt()
    with duckdb.connect(str(new)) as con:
        con.execute("SET TimeZone = 'UTC'")
        # As far as the records' own schema, then what came after it, as it would have happened.
        migrate(con, migrations()[:schema])
        done.lost += record_files.load(con, paths, files)
        migrate(con)
        there = archived(paths)
        with transaction(con):
            for (sha256,) in con.execute(
                "SELECT sha256 FROM bundles ORDER BY received_at, replicate, sha256"
            ).fetchall():
                try:
                    bundle = _read(there.pop(sha256, None))
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
        con.execute("CHECKPOINT")
        for table in record_files.catalogue(con):
            (done.rows[table],) = con.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)  # noqa: S608 - from the catalogue
    return done


def _read(path: Path | None) -> Bundle:
    if path is None:
        raise BadBundle("its file is not in the archive")
    return read_bundle(path)


def renumber(con: duckdb.DuckDBPyConnection) -> None:
    """Of the bundles of each unit the first one counts, also where the one that counted is lost."""
    con.execute(
        """
        UPDATE bundles SET replicate = now.n FROM (
          SELECT sha256, row_number() OVER (PARTITION BY unit_id ORDER BY received_at, replicate, sha256) - 1 AS n FROM bundles
          WHERE unit_id IN (SELECT unit_id FROM bundles GROUP BY 1 HAVING list_sort(list(replicate)) <> range(count(*)))
        ) now WHERE bundles.sha256 = now.sha256 AND bundles.replicate <> now.n
        """
    )


def _differences(old: Path, new: Path) -> dict[str, tuple[int, int]]:
    """Table -> (rows only in the old one, rows only in the new one), of those that differ; equal rows count as often as they are.

    Summaries are left out: they are made of the trials that are compared.
    """
    found = {}
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for path, name in ((old, "before"), (new, "now")):
            con.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS {name} (READ_ONLY)")
        known = con.execute(
            "SELECT table_name, list(DISTINCT database_name) FROM duckdb_tables() WHERE database_name IN ('before', 'now') "
            "AND NOT list_contains(?, table_name) GROUP BY 1 ORDER BY 1",
            [list(summaries.TABLES)],
        ).fetchall()
        for table, where in known:
            if len(where) < 2:
                (n,) = con.execute(f"SELECT count(*) FROM {where[0]}.{table}").fetchone() or (0,)  # noqa: S608 - from the catalogue
                found[table] = (n, 0) if where == ["before"] else (0, n)
                continue
            each = [
                con.execute(f"SELECT count(*) FROM (FROM {a}.{table} EXCEPT ALL FROM {b}.{table})").fetchone() or (0,)  # noqa: S608
                for a, b in (("before", "now"), ("now", "before"))
            ]
            found[table] = (each[0][0], each[1][0])
    return {table: both for table, both in found.items() if any(both)}


def _put_in_place(paths: Paths, new: Path, done: Rebuilt) -> None:
    """Rename the new warehouse onto its name; one that differs from it, or cannot be read, stays beside it."""
    wal = paths.warehouse.with_name(f"{paths.warehouse.name}.wal")
    if paths.warehouse.exists() and (done.differences or not done.compared):
        done.kept = paths.warehouse.with_name("warehouse.before.duckdb")
        paths.warehouse.replace(done.kept)
        with suppress(FileNotFoundError):
            wal.replace(done.kept.with_name(f"{done.kept.name}.wal"))
    wal.unlink(missing_ok=True)
    new.replace(paths.warehouse)
    sync_folder(paths.home)
