"""What `lab verify` found, kept in the warehouse: pages say from it when the results were last proved, and how it came out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
from duckdb import DuckDBPyConnection as Connection

from experiments.environment import host_name
from experiments.identity import canonical
from warehouse.verify import Finding, Verified

MAX_FINDINGS = 100  # that are kept of one verification; `faults` and `notes` count all of them


def plain(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings as they are stored and printed for machines."""
    return [{"check": f.check, "about": f.about, "what": f.what} for f in findings]


def store(con: Connection, found: Verified, phase: str | None, deep: bool) -> bool:
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
                datetime.now(UTC), host_name(), phase, deep, canonical(found.counts), len(found.faults), len(found.notes),
                canonical(kept[:MAX_FINDINGS]),
            ],
        )  # fmt: skip
    except (duckdb.CatalogException, duckdb.BinderException):
        return False
    return True
