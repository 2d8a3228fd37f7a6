"""Findings of `lab verify`, stored in the warehouse for the pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection as Connection

from common.environment import host_name
from warehouse.database import comparisons, summaries
from warehouse.database.arrivals import last_arrival
from warehouse.database.connection import is_read_only
from warehouse.database.statements import insert
from warehouse.delivery.results_store import Store
from warehouse.maintenance import verify as checks
from warehouse.maintenance.hosts import check_hosts
from warehouse.maintenance.recompute import check_decided
from warehouse.maintenance.verify import Finding, Verified
from warehouse.paths import Paths

MAX_FINDINGS = 100  # stored of one verification; the columns `faults` and `notes` count all of them


def plain(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return findings as plain JSON values."""
    return [{"check": f.check, "about": f.about, "what": f.what} for f in findings]


def store_verification(con: Connection, found: Verified, phase: str | None, deep: bool) -> bool:
    """Store one verification, of a phase or of all; return False where the table for it is itself damaged."""
    findings = [vars(one) for one in [*found.faults, *found.notes][:MAX_FINDINGS]]
    row = {"verified_at": datetime.now(UTC), "host": host_name(), "phase": phase, "deep": deep, "counts": found.counts}
    row |= {"faults": len(found.faults), "notes": len(found.notes), "findings": findings}
    try:
        insert(con, "verifications", [{**row, "arrivals": last_arrival(con)}])
    except (duckdb.CatalogException, duckdb.BinderException):
        return False
    return True


def verified(con: Any, paths: Paths, store: Store, phase: str | None, deep: bool) -> Verified:
    """Run all checks, of one phase or of all, and store what they find, unless the disk is read-only.

    Args:
        deep: also read all attachments, and compute metrics and verdicts again.
    """
    found = Verified()
    checks.check_schema(con, found)
    checks.check_plans(con, found)
    stored = not is_read_only(con)
    if stored:
        summaries.refresh(con)
        comparisons.refresh(con)
    checks.check_summaries(con, found)
    attached = checks.check_bundles(con, paths, found, phase)
    checks.check_records(paths, found)
    checks.check_units(con, found, phase)
    check_hosts(con, found, phase, deep)
    if deep:
        checks.check_files(store, attached, found)
        check_decided(con, store.get_file, found, phase)
    if stored:
        store_verification(con, found, phase, deep)
    return found
