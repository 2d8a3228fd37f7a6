"""Where units were sent to be computed: kept so that it can be said of one without a result who was to compute it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from duckdb import DuckDBPyConnection as Connection

from experiments.contract import Unit


def assign(
    con: Connection, run_id: str, place: str, parts: Sequence[tuple[Sequence[Unit], str | None]], attempt: int
) -> None:
    """Note units that were sent to a work pool, each part with the machine that it was meant for or None."""
    at = datetime.now(UTC)
    rows = [[run_id, u.unit_id, u.phase, place, host, attempt, at] for units, host in parts for u in units]
    if rows:
        con.executemany("INSERT INTO assignments VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
