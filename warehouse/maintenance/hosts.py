"""Check the comparisons of results of one unit, and report hosts that do not agree."""

from __future__ import annotations

import json

from duckdb import DuckDBPyConnection as Connection

from common.errors import LabError
from experiments.contract import Unit
from warehouse.database import comparisons
from warehouse.database.agreement import agreement_of, of_phase
from warehouse.database.record_files import REBUILD
from warehouse.database.records import trials_in
from warehouse.database.statements import column_of, number_of, rows_of
from warehouse.maintenance.verify import Verified

OF_PAIR = "condition, problem_id, trials, equal, within_tolerance, near_ties, differing, ordinal, difference"


def check_hosts(con: Connection, done: Verified, phase: str | None = None, deep: bool = False) -> None:
    """Note phases whose hosts gave different answers to the same trials, and results that were not compared yet.

    Args:
        deep: also compare the results again; a stored comparison that says something else is a fault.
    """
    done.counts["pairs of results"] = number_of(
        con, "SELECT count(*) FROM (SELECT DISTINCT first_sha256, second_sha256 FROM comparisons)"
    )
    for run_id in column_of(con, "SELECT run_id FROM runs ORDER BY started_at, run_id"):
        for name, hosts in agreement_of(con, run_id).phases.items():
            if phase in (None, name) and (text := of_phase(hosts)):
                done.add("hosts", f"{run_id} {name}: {text}", run_id, fault=False)
    if left := number_of(con, f"SELECT count(*) FROM ({comparisons.LEFT})", [comparisons.MOST_COMPARED]):  # noqa: S608
        done.add("hosts", f"{left} second results are not compared: data that they need are not here", fault=False)
    if deep:
        _again(con, done, phase)


def _again(con: Connection, done: Verified, phase: str | None) -> None:
    pairs = con.execute(
        "SELECT first_sha256, second_sha256, any_value(u.spec) FROM comparisons JOIN units u USING (unit_id) "
        "WHERE ? IS NULL OR u.phase = ? GROUP BY 1, 2 ORDER BY 1, 2",
        [phase, phase],
    ).fetchall()
    for first, second, spec in pairs:
        trials = trials_in(con, [first, second])
        try:
            now = comparisons.compared(Unit.from_json(json.loads(spec)), trials[first], trials[second])
        except LabError:
            continue  # the user's data are not here
        sql = f"SELECT {OF_PAIR} FROM comparisons WHERE first_sha256 = ? AND second_sha256 = ?"  # noqa: S608 - fixed words
        stored = rows_of(con, sql, [first, second])
        if sorted(map(str, now)) != sorted(map(str, stored)):
            done.add("hosts", f"bundles {first[:12]} and {second[:12]} compare otherwise now: {REBUILD}", second)
