"""Repair what `verify` found from the bundles: trials, rows, attachments and record files, never a verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from duckdb import DuckDBPyConnection as Connection

from common.files import move
from warehouse.database import comparisons
from warehouse.database.statements import column_of, transaction
from warehouse.delivery.bundles import BadBundle, Bundle
from warehouse.delivery.reading import read_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.arrival import UNPLANNED
from warehouse.ingest.collector import archived, take_archived
from warehouse.ingest.trial_rows import insert_trials, row_of, table_of
from warehouse.maintenance.rebuild import renumber
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths


@dataclass
class Repaired:
    """Number of items that were repaired."""

    bundles: int = 0  # whose row and trials were read again from their file
    files: int = 0
    back: int = 0  # moved from quarantine to the inbox, since a plan asks for their units now
    left: list[str] = field(default_factory=list)


def repair(con: Connection, paths: Paths, store: Store, found: Verified) -> Repaired:
    """Read every bundle that a finding is about from the archive again; call `collect` afterwards."""
    done, there = Repaired(), archived(paths)
    wanted = {f.about for f in found.faults if f.check in ("bundles", "trials", "files")}
    for sha256 in sorted(wanted):
        if sha256 not in there:
            if con.execute("SELECT 1 FROM bundles WHERE sha256 = ?", [sha256]).fetchone() is None:
                con.execute("DELETE FROM trials WHERE bundle_sha256 = ?", [sha256])  # of no bundle
            continue
        try:
            bundle = read_bundle(there[sha256])
            for a in bundle.attachments:
                store.put_file(a.content)
                done.files += 1
            _take_again(con, store, bundle, there[sha256])
            done.bundles += 1
        except BadBundle as error:
            done.left.append(f"{there[sha256].name}: {error}")
    renumber(con)
    for name in {f.about for f in found.faults if f.check == "records"}:
        # Missing files are written again from the warehouse when it is closed.
        (paths.records / name).unlink(missing_ok=True)
    done.back = _back_from_quarantine(con, paths, store)
    return done


def _take_again(con: Connection, store: Store, bundle: Bundle, path: Path) -> None:
    """Replace row and trials of a bundle by those in its file; its replicate number stays."""
    known = con.execute("SELECT 1 FROM bundles WHERE sha256 = ?", [bundle.sha256]).fetchone()
    if known is None:
        con.execute("DELETE FROM trials WHERE bundle_sha256 = ?", [bundle.sha256])
        take_archived(con, store, bundle, path)
        return
    row = row_of(bundle)
    with transaction(con):
        forget_summary(con, bundle.sha256)
        con.execute("DELETE FROM trials WHERE bundle_sha256 = ?", [bundle.sha256])
        changed = ", ".join(f"{name} = ?" for name in row)
        con.execute(f"UPDATE bundles SET {changed} WHERE sha256 = ?", [*row.values(), bundle.sha256])  # noqa: S608 - columns
        insert_trials(con, [table_of(bundle)])


def forget_summary(con: Connection, sha256: str) -> None:
    """Delete the summary and the comparisons of a bundle; they are made again when the warehouse is closed."""
    for table in ("attempt_counts", "problem_results"):
        number = "(SELECT number FROM bundle_numbers WHERE sha256 = ?)"
        con.execute(f"DELETE FROM {table} WHERE number = {number}", [sha256])  # noqa: S608 - fixed words
    con.execute("DELETE FROM bundle_numbers WHERE sha256 = ?", [sha256])
    comparisons.forget(con, sha256)


def _back_from_quarantine(con: Connection, paths: Paths, store: Store) -> int:
    """Move bundles that came before their plan into the inbox again; return their number."""
    planned = set(column_of(con, "SELECT DISTINCT unit_id FROM units"))
    back = 0
    for name in column_of(con, "SELECT name FROM quarantine WHERE reason = ?", [UNPLANNED]):
        path = paths.quarantine / name
        if name.split(".")[0] not in planned or not path.is_file():
            continue
        move(path, store.inbox / re.sub(r"\.[0-9]{1,6}$", "", name))
        path.with_name(f"{name}.reason.txt").unlink(missing_ok=True)
        con.execute("DELETE FROM quarantine WHERE name = ? AND reason = ?", [name, UNPLANNED])
        back += 1
    return back
