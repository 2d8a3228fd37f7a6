"""What earlier runs asked for and have: to say why a unit is not reused, and to go on with the run that was worked on last."""

from __future__ import annotations

import json
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from experiments.contract import Json, Unit


def examples_of(con: Connection, phase: str, but: str) -> dict[str, Unit]:
    """One unit of the phase for each other run that has a result of it, the run started last first."""
    rows = con.execute(
        """
        SELECT u.run_id, arg_min(u.spec, u.position) FROM units u JOIN runs r USING (run_id) JOIN bundles b USING (unit_id)
        WHERE u.phase = ? AND u.run_id <> ? GROUP BY u.run_id, r.started_at ORDER BY r.started_at DESC, u.run_id
        """,
        [phase, but],
    ).fetchall()
    return {run_id: Unit.from_json(json.loads(spec)) for run_id, spec in rows}


def last_arguments(con: Connection, phase: str) -> tuple[str, Json] | None:
    """(run_id, what the user gave) of the run in which the phase was worked on last; None when it never was."""
    row = con.execute(
        """
        SELECT r.run_id, r.arguments_given FROM runs r JOIN units u USING (run_id) LEFT JOIN bundles b USING (unit_id)
        WHERE u.phase = ? GROUP BY r.run_id, r.arguments_given, r.started_at
        ORDER BY greatest(max(b.received_at), r.started_at) DESC LIMIT 1
        """,
        [phase],
    ).fetchone()
    return None if row is None else (str(row[0]), _dictionary(row[1]))


def _dictionary(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def forget_units(con: Connection, run_id: str, phase: str) -> None:
    """Take back what a phase asked for in a run, for one that was not to begin; no trial is touched."""
    con.execute("DELETE FROM units WHERE run_id = ? AND phase = ?", [run_id, phase])
