"""Summaries of trials for the pages: attempts of each bundle and condition, and one row a problem."""

from __future__ import annotations

from duckdb import DuckDBPyConnection as Connection

from warehouse.database.statements import number_of, transaction

TABLES = ("bundle_numbers", "attempt_counts", "problem_results")
NEWEST = "SELECT max(number) FROM bundle_numbers"
NUMBERS = """
INSERT INTO bundle_numbers (sha256, number)
SELECT sha256, (SELECT coalesce(max(number), 0) FROM bundle_numbers) + row_number() OVER (ORDER BY arrival, sha256)
FROM bundles WHERE sha256 NOT IN (SELECT sha256 FROM bundle_numbers)
"""
# Trials are appended, so what came in lies at the end. Found by a scan of one column: to join by the column alone would
# unpack the details of every row to look at them.
FIRST = """
SELECT min(rowid) FROM trials WHERE bundle_sha256 IN (SELECT sha256 FROM bundle_numbers WHERE number > ?)
"""
COUNTS = """
INSERT INTO attempt_counts (number, condition, attempts, solved, failed, trials, first_right)
SELECT n.number, t.condition, round(t.attempts)::INTEGER, t.solved, t.error IS NOT NULL, count(*), sum(t.first_right)
FROM bundle_numbers n JOIN trials t ON t.bundle_sha256 = n.sha256 WHERE n.number > ? AND t.rowid >= ?
GROUP BY ALL ORDER BY ALL
"""
RESULTS = """
INSERT INTO problem_results (number, condition, problem_id, truth, attempts, relevance, tokens, first_right)
SELECT n.number, t.condition, t.problem_id, any_value(t.truth), median(t.attempts),
       avg(TRY_CAST(t.details ->> 'relevance' AS DOUBLE)), avg(t.tokens_in + coalesce(t.tokens_out, 0)),
       avg(t.first_right)
FROM bundle_numbers n JOIN trials t ON t.bundle_sha256 = n.sha256
WHERE n.number > ? AND t.rowid >= ? AND t.attempts IS NOT NULL
GROUP BY n.number, t.condition, t.problem_id ORDER BY ALL
"""


def refresh(con: Connection) -> int:
    """Summarise the bundles that have no summary yet, in one transaction, and return their number."""
    last = number_of(con, NEWEST)
    with transaction(con):
        con.execute(NUMBERS)
        newest = number_of(con, NEWEST)
        if newest > last:
            first = number_of(con, FIRST, [last])
            con.execute(COUNTS, [last, first])
            con.execute(RESULTS, [last, first])
    return newest - last
