"""Take a bundle out of the results, on record, so that its unit is computed again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from duckdb import DuckDBPyConnection as Connection

from common.environment import host_name
from common.errors import LabError
from warehouse.database.statements import insert, rows_of, transaction
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import archived
from warehouse.ingest.outcome import Collected, Collection, quarantine
from warehouse.maintenance.rebuild import renumber
from warehouse.maintenance.repair import forget_summary
from warehouse.paths import Paths

BEGINNING = re.compile(r"[0-9a-f]{8,64}")  # of a SHA-256; eight digits are what most lists show


@dataclass(frozen=True)
class Rejected:
    """A bundle that was taken out."""

    sha256: str
    unit_id: str
    phase: str
    host: str
    counted_instead: bool  # True if its unit has another result, which counts now
    verdicts: tuple[str, ...]  # "RUN PHASE" of those that rested on its unit


def reject(con: Connection, paths: Paths, store: Store, beginning: str, why: str) -> Rejected:
    """Take a bundle out: its row and trials go, its file moves into quarantine, and it is refused when it comes again.

    Args:
        beginning: of the bundle's SHA-256, eight digits or more.

    Raises:
        LabError: no bundle, or more than one, begins so; or `why` is empty.
    """
    if not why.strip():
        raise LabError("a bundle is rejected for a reason", f'lab reject {beginning[:64]} --why "REASON"')
    row = _found(con, beginning)
    sha256, unit_id = str(row["sha256"]), str(row["unit_id"])
    with transaction(con):
        by = {"why": why.strip(), "rejected_by": host_name(), "rejected_at": datetime.now(UTC)}
        insert(con, "rejections", [{**row, **by}], "DO NOTHING")
        forget_summary(con, sha256)
        con.execute("DELETE FROM trials WHERE bundle_sha256 = ?", [sha256])
        con.execute("DELETE FROM bundles WHERE sha256 = ?", [sha256])
        con.execute("DELETE FROM files WHERE unit_id NOT IN (SELECT unit_id FROM bundles)")
    renumber(con)
    # Last: a process that died before leaves the file in the archive, from which a rejected bundle is not read.
    if sha256 in (there := archived(paths)):
        quarantine(Collection(con, paths, store, Collected()), there[sha256], f"rejected: {why.strip()}")
    others = con.execute("SELECT 1 FROM bundles WHERE unit_id = ?", [unit_id]).fetchone()
    rested = rows_of(
        con,
        "SELECT DISTINCT run_id, phase FROM verdicts JOIN units USING (run_id, phase) WHERE unit_id = ? ORDER BY ALL",
        [unit_id],
    )
    verdicts = tuple(f"{one['run_id']} {one['phase']}" for one in rested)
    return Rejected(sha256, unit_id, str(row["phase"]), str(row["host"]), others is not None, verdicts)


def _found(con: Connection, beginning: str) -> dict[str, object]:
    """Return the columns that `bundles` and `rejections` share of the one bundle whose SHA-256 begins so."""
    if not BEGINNING.fullmatch(beginning):
        what = f"{beginning[:80]!r} is not the beginning of a bundle's SHA-256"
        raise LabError(what, "give eight of its digits or more, as lab verify and the Provenance page show them")
    columns = "sha256, unit_id, host, arrival"
    rows = rows_of(
        con,
        f"SELECT {columns}, manifest ->> 'phase' AS phase FROM bundles WHERE starts_with(sha256, $1) "  # noqa: S608 - fixed words
        f"UNION SELECT {columns}, phase FROM rejections WHERE starts_with(sha256, $1) ORDER BY sha256",
        [beginning],
    )
    if len(rows) != 1:
        what = f"{len(rows)} bundles have a SHA-256 that begins with {beginning}"
        raise LabError(what, "give more of its digits" if rows else "lab verify lists bundles that are wrong")
    return rows[0]
