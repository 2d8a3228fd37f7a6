"""What pages count, kept up as trials come in: attempts of each bundle and condition, and one row a problem."""

from __future__ import annotations

from duckdb import DuckDBPyConnection as Connection

from warehouse.database.transactions import transaction

TABLES = ("bundle_numbers", "attempt_counts", "problem_results")
NUMBERS = """
INSERT INTO bundle_numbers
SELECT sha256, (SELECT coalesce(max(number), 0) FROM bundle_numbers) + row_number() OVER (ORDER BY received_at, sha256)
FROM bundles WHERE sha256 NOT IN (SELECT sha256 FROM bundle_numbers)
"""
# Trials are appended, so what came in lies at the end. Found by a scan of one column: to join by the column alone would
# unpack the details of every row to look at them.
FIRST = """
SELECT min(rowid) FROM trials WHERE bundle_sha256 IN (SELECT sha256 FROM bundle_numbers WHERE number > ?)
"""
COUNTS = """
INSERT INTO attempt_counts
SELECT n.number, t.condition, t.attempts, t.solved, t.error IS NOT NULL, count(*)
FROM bundle_numbers n JOIN trials t ON t.bundle_sha256 = n.sha256 WHERE n.number > ? AND t.rowid >= ?
GROUP BY ALL ORDER BY ALL
"""
RESULTS = """
INSERT INTO problem_results
SELECT n.number, t.condition, t.problem_id, any_value(t.truth), median(t.attempts),
       avg(TRY_CAST(t.details ->> 'relevance' AS DOUBLE)), avg(t.tokens_in + coalesce(t.tokens_out, 0))
FROM bundle_numbers n JOIN trials t ON t.bundle_sha256 = n.sha256
WHERE n.number > ? AND t.rowid >= ? AND t.attempts IS NOT NULL
GROUP BY n.number, t.condition, t.problem_id ORDER BY ALL
"""


def refresh(con: Connection) -> int:
    """Summarise the bundles that have no summary yet, in one transaction; returns how many those were."""
    (last,) = con.execute("SELECT coalesce(max(number), 0) FROM bundle_numbers").fetchone() or (0,)
    with transaction(con):
        con.execute(NUMBERS)
        (newest,) = con.execute("SELECT coalesce(max(number), 0) FROM bundle_numbers").fetchone() or (0,)
        if newest > last:
            (first,) = con.execute(FIRST, [last]).fetchone() or (None,)
            con.execute(COUNTS, [last, first])
            con.execute(RESULTS, [last, first])
    return int(newest - last)
