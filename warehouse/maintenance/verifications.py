"""What `lab verify` found, kept in the warehouse: pages say from it when the results were last proved, and how it came out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import canonical
from common.environment import host_name
from warehouse.database import summaries
from warehouse.delivery.results_store import Store
from warehouse.maintenance import verify as checks
from warehouse.maintenance.recompute import check_decided
from warehouse.maintenance.verify import Finding, Verified
from warehouse.paths import Paths

MAX_FINDINGS = 100  # that are kept of one verification; `faults` and `notes` count all of them


def plain(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings as they are stored and printed for machines."""
    return [{"check": f.check, "about": f.about, "what": f.what} for f in findings]


def store_verification(con: Connection, found: Verified, phase: str | None, deep: bool) -> bool:
    """Store one verification, of a phase or of all; False where the table for it is itself what was damaged."""
    kept = [
        {"fault": is_fault, **one}
        for is_fault, findings in ((True, found.faults), (False, found.notes))
        for one in plain(findings)
    ]
    try:
        con.execute(
            "INSERT INTO verifications VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                datetime.now(UTC),
                host_name(),
                phase,
                deep,
                canonical(found.counts),
                len(found.faults),
                len(found.notes),
                canonical(kept[:MAX_FINDINGS]),
            ],
        )
    except (duckdb.CatalogException, duckdb.BinderException):
        return False
    return True


def verified(con: Any, paths: Paths, store: Store, phase: str | None, deep: bool) -> Verified:
    """What all checks find, those of one phase or of all; it is stored, for the pages."""

    found = checks.Verified()
    checks.check_schema(con, found)
    checks.check_plans(con, found)
    summaries.refresh(con)
    checks.check_summaries(con, found)
    attached = checks.check_bundles(con, paths, found, phase)
    checks.check_records(paths, found)
    checks.check_units(con, found, phase)
    if deep:
        checks.check_files(store, attached, found)
        check_decided(con, store.get_file, found, phase)
    store_verification(con, found, phase, deep)
    return found
