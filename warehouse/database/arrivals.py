"""The order in which bundles came in, by numbers: clocks are set, and may be wrong by a day."""

from __future__ import annotations

from datetime import datetime

from duckdb import DuckDBPyConnection as Connection

from warehouse.database.statements import number_of

# A number is not used again where its bundle is gone and another row still tells of it.
LAST = """
SELECT greatest(
  (SELECT coalesce(max(arrival), 0) FROM bundles), (SELECT coalesce(max(arrival), 0) FROM rejections),
  (SELECT coalesce(max(arrivals), 0) FROM plans), (SELECT coalesce(max(arrivals), 0) FROM verdicts),
  (SELECT coalesce(max(arrivals), 0) FROM assignments), (SELECT coalesce(max(arrivals), 0) FROM verifications))
"""


def arrival_at(con: Connection, at: datetime) -> int:
    """Return the number of the bundle that came in last before a time; for a bundle that lost its own number with its row."""
    return number_of(con, "SELECT max(arrival) FROM bundles WHERE received_at <= ? AND transport <> 'archive'", [at])


def last_arrival(con: Connection) -> int:
    """Return the number of the bundle that came in last; 0 before the first."""
    return number_of(con, LAST)
