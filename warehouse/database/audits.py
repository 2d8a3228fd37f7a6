"""Audits in the warehouse: units that can be audited, and the agreement of their second results."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from experiments.contract import Json, Unit
from experiments.protocol.agreement import TOLERANCES, compare, precision_of
from warehouse.database.records import trials_in
from warehouse.database.statements import column_of, insert, number_of, rows_of

NO_RESULT = "no second result"


@dataclass(frozen=True)
class Finished:
    """A unit with the bundle that counts for it."""

    unit: Unit
    host: str  # that computed it
    sha256: str
    attempts: int  # the highest attempt of any of its bundles


@dataclass(frozen=True)
class Audit:
    """Units drawn to be run again."""

    audit_id: str
    run_id: str
    seed: int
    fraction: float
    finished: int  # units that could have been drawn
    left_out: int  # finished ones that this code, these data or models cannot repeat
    sample: tuple[Finished, ...]


def latest_run(con: Connection) -> str | None:
    """Return the run decided last, else the one started last, of those with results; None when there is none."""
    row = con.execute(
        """
        SELECT r.run_id FROM runs r LEFT JOIN
        (SELECT run_id, max(arrivals) AS arrivals, max(decided_at) AS decided_at FROM verdicts GROUP BY 1) v
        USING (run_id) WHERE EXISTS (FROM units u JOIN bundles b USING (unit_id) WHERE u.run_id = r.run_id)
        ORDER BY v.arrivals DESC NULLS LAST, v.decided_at DESC NULLS LAST, r.started_at DESC LIMIT 1
        """
    ).fetchone()
    return None if row is None else str(row[0])


def finished(con: Connection, run_id: str) -> list[Finished]:
    """Return all units of the run that have a result, in the order asked."""
    rows = con.execute(
        """
        SELECT u.spec, b.host, b.sha256, (SELECT max(attempt) FROM bundles o WHERE o.unit_id = u.unit_id)
        FROM units u
        JOIN bundles b USING (unit_id) WHERE u.run_id = ? AND b.replicate = 0 ORDER BY u.phase, u.position
        """,
        [run_id],
    ).fetchall()
    return [Finished(Unit.from_json(json.loads(spec)), *others) for spec, *others in rows]


def audits_before(con: Connection, run_id: str) -> int:
    """Count the stored audits of the run."""
    return number_of(con, "SELECT count(DISTINCT audit_id) FROM audits WHERE run_id = ?", [run_id])


def bundles_known(con: Connection, unit_ids: Collection[str]) -> set[str]:
    """Return the SHA-256 of every bundle of these units."""
    sql = "SELECT sha256 FROM bundles WHERE unit_id IN (SELECT unnest(?::VARCHAR[]))"
    return set(column_of(con, sql, [list(unit_ids)]))


def second_results(con: Connection, where: Mapping[str, str], before: Collection[str]) -> dict[str, str]:
    """Find the second bundles of units.

    Args:
        where: unit id -> the host that was to compute it again; another host's bundle is not taken for it.
        before: SHA-256 of the bundles that were there before.

    Returns:
        unit id -> SHA-256 of its new bundle.
    """
    sql = "SELECT unit_id, host, sha256 FROM bundles WHERE unit_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY replicate"
    rows = con.execute(sql, [list(where)]).fetchall()
    return {unit_id: sha256 for unit_id, host, sha256 in rows if host == where[unit_id] and sha256 not in before}


def conclude(
    con: Connection, audit: Audit, where: Mapping[str, str], before: Collection[str], wrong: Mapping[str, str]
) -> None:
    """Compare both results of each unit of the sample and store how far they agree.

    Args:
        where: unit id -> host that was to compute it again.
        before: SHA-256 of the bundles that were there before.
        wrong: unit id -> why there is no second result, where that is known.
    """
    again = second_results(con, where, before)
    trials = trials_in(con, [f.sha256 for f in audit.sample] + list(again.values()))
    at = datetime.now(UTC)
    drawn = {name: getattr(audit, name) for name in ("audit_id", "run_id", "seed", "fraction")}
    rows = []
    for one in audit.sample:
        unit_id, first = one.unit.unit_id, trials[one.sha256]
        of_unit = {"unit_id": unit_id, "phase": one.unit.phase, "host": one.host, "other": where[unit_id]}
        results = {"bundle_sha256": one.sha256, "again_sha256": again.get(unit_id), "trials": len(first)}
        found: Json = {"deviating": None, "deviation": wrong.get(unit_id, NO_RESULT), "largest_difference": None}
        if unit_id in again:
            same = compare(first, trials[again[unit_id]], one.unit)
            ties = f"{same.ties} near ties" if same.ties else None
            found = {"deviating": same.deviating, "deviation": same.first or ties, "largest_difference": same.largest}
        tolerance = TOLERANCES[precision_of(one.unit)].nats
        rows.append({**drawn, **of_unit, **results, **found, "tolerance": tolerance, "audited_at": at})
    insert(con, "audits", rows)


def pairs_of(con: Connection, run_id: str) -> list[dict[str, Any]]:
    """Return the run's rows of audit_agreement, the latest audit first."""
    sql = "SELECT * FROM audit_agreement WHERE run_id = ? ORDER BY last_at DESC, audit_id, host, other"
    return rows_of(con, sql, [run_id])


def tied(con: Connection, run_id: str) -> list[dict[str, Any]]:
    """Return the run's rows of audits of units that agree but for near ties, the latest audit first."""
    wanted = "FROM audits WHERE run_id = ? AND deviating = 0 AND deviation IS NOT NULL"
    return rows_of(con, f"{wanted} ORDER BY audited_at DESC, audit_id, phase, unit_id", [run_id])


def disagreeing(con: Connection, run_id: str) -> list[dict[str, Any]]:
    """Return the run's rows of audits of units that deviate or have no second result, the latest audit first."""
    wanted = "FROM audits WHERE run_id = ? AND deviating IS DISTINCT FROM 0"
    return rows_of(con, f"{wanted} ORDER BY audited_at DESC, audit_id, phase, unit_id", [run_id])
