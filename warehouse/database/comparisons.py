"""Second and later results of units, compared with the earlier ones trial by trial when they come in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from common.errors import LabError
from experiments.contract import Trial, Unit
from experiments.domains import get_domain
from experiments.protocol.agreement import Outcome, compare_trials
from warehouse.database.records import trials_in
from warehouse.database.statements import insert_arrow, transaction

TABLE = "comparisons"
MOST_COMPARED = (
    4  # earlier results of a unit that a later one is compared with: all pairs of five hosts, a part of more
)
BATCH = 50  # units whose trials are in memory at once
# The results that come after the first of their unit and were not compared yet, with the earlier ones.
LEFT = """
SELECT any_value(u.spec) AS spec, b.sha256, list(DISTINCT e.sha256) AS earlier
FROM bundles b JOIN bundles e ON e.unit_id = b.unit_id AND e.replicate < least(b.replicate, ?) JOIN units u ON u.unit_id = b.unit_id
WHERE b.replicate > 0 AND b.sha256 NOT IN (SELECT second_sha256 FROM comparisons) GROUP BY b.sha256 ORDER BY b.sha256
"""
COLUMNS = {Outcome.EQUAL: "equal", Outcome.WITHIN_TOLERANCE: "within_tolerance"}
COLUMNS |= {Outcome.NEAR_TIE: "near_ties", Outcome.DIFFERENT: "differing"}
Row = dict[str, Any]


def refresh(con: Connection) -> int:
    """Compare the results that were not compared yet; return their number.

    Those of a user's data that are not on this machine are left for another time.
    """
    found = con.execute(LEFT, [MOST_COMPARED]).fetchall()
    left = [
        (unit, sha256, earlier) for spec, sha256, earlier in found if _known(unit := Unit.from_json(json.loads(spec)))
    ]
    for start in range(0, len(left), BATCH):
        some = left[start : start + BATCH]
        trials = trials_in(con, sorted({s for _, sha256, earlier in some for s in (sha256, *earlier)}))
        rows = [
            {"unit_id": unit.unit_id, "first_sha256": first, "second_sha256": sha256, **row}
            for unit, sha256, earlier in some
            for first in sorted(earlier)
            for row in compared(unit, trials[first], trials[sha256])
        ]
        if rows:
            with transaction(con):
                insert_arrow(con, TABLE, pa.Table.from_pylist(rows))
    return len(left)


def compared(unit: Unit, first: Sequence[Trial], second: Sequence[Trial]) -> list[Row]:
    """Compare two results of a unit.

    Returns:
        Rows of the table `comparisons`, without unit and bundles: one for each condition and problem.
    """
    rows: dict[tuple[str, str], Row] = {}
    for i, (trial, one) in enumerate(zip(first, compare_trials(first, second, unit), strict=False)):
        key = (trial.condition, trial.problem_id)
        new = {"condition": key[0], "problem_id": key[1], "trials": 0, **dict.fromkeys(COLUMNS.values(), 0)}
        row = rows.setdefault(key, {**new, "ordinal": i, "difference": None})
        if one.outcome is Outcome.DIFFERENT and not row["differing"]:
            row["ordinal"], row["difference"] = i, one.where.lstrip(".")
        row["trials"] += 1
        row[COLUMNS[one.outcome]] += 1
    return list(rows.values())


def forget(con: Connection, sha256: str) -> None:
    """Delete the comparisons of a bundle; those that are still wanted are made again when the warehouse is closed."""
    con.execute("DELETE FROM comparisons WHERE first_sha256 = $1 OR second_sha256 = $1", [sha256])


def _known(unit: Unit) -> bool:
    try:
        get_domain(unit.config["domain"])
    except LabError:
        return False
    except KeyError:
        pass  # a unit that guesses nothing
    return True
