"""Time that phases were expected to take, and took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from duckdb import DuckDBPyConnection as Connection

from warehouse.database.statements import insert


class Prediction(NamedTuple):
    """Seconds that a phase was expected to take, and took; `actual_s` is None until it was worked on to its end."""

    predicted_s: float
    actual_s: float | None


@dataclass(frozen=True)
class Durations:
    """Time that a host took for units of one round of a phase, over all runs of a scale."""

    phase: str
    round: int
    host: str
    domain: str
    model: str
    precision: str
    cost_s: float  # of its units, as they state it
    seconds: float  # that they took there


def save_prediction(con: Connection, run_id: str, phase: str, predicted_s: float) -> None:
    """Store how long the phase was expected to take, once."""
    insert(con, "predictions", [{"run_id": run_id, "phase": phase, "predicted_s": predicted_s}], "DO NOTHING")


def finish_prediction(con: Connection, run_id: str, phase: str, actual_s: float) -> None:
    """Store how long the phase took, the first time it was worked on to its end."""
    sql = "UPDATE predictions SET actual_s = ? WHERE run_id = ? AND phase = ? AND actual_s IS NULL"
    con.execute(sql, [actual_s, run_id, phase])


def predictions_of(con: Connection, run_id: str) -> dict[str, Prediction]:
    """Return the prediction of each phase that was started."""
    rows = con.execute("SELECT phase, predicted_s, actual_s FROM predictions WHERE run_id = ?", [run_id]).fetchall()
    return {phase: Prediction(predicted_s, actual_s) for phase, predicted_s, actual_s in rows}


def durations_of(con: Connection, scale: str) -> list[Durations]:
    """Return how long units took, from their bundles' manifests, repeats included.

    Bundles in which every trial failed are left out, since a refusal takes less time, and those of a clock that stood still
    or went back.
    """
    rows = con.execute(
        """
        WITH each AS (
          SELECT DISTINCT b.sha256, u.phase, u.round, b.host, u.spec -> 'config' ->> 'domain' AS domain,
                 u.spec -> 'config' ->> 'model' AS model,
                 coalesce(u.spec -> 'config' ->> 'precision', 'float32') AS precision, (u.spec ->> 'cost')::DOUBLE AS cost_s,
                 epoch(TRY_CAST(b.manifest ->> 'finished_at' AS TIMESTAMPTZ))
                   - epoch(TRY_CAST(b.manifest ->> 'started_at' AS TIMESTAMPTZ)) AS seconds
          FROM units u JOIN runs r USING (run_id) JOIN bundles b USING (unit_id) WHERE r.scale = ?
        )
        SELECT phase, round, host, domain, model, precision, sum(cost_s), sum(seconds) FROM each
        WHERE seconds > 0 AND sha256 IN (SELECT bundle_sha256 FROM trials WHERE error IS NULL)
        GROUP BY ALL ORDER BY ALL
        """,
        [scale],
    ).fetchall()
    return [Durations(*row) for row in rows]


def work_of(con: Connection, run_id: str) -> dict[str, float]:
    """Return the seconds that the counted units of each phase took, over all hosts."""
    rows = con.execute(
        "SELECT u.phase, sum(epoch(TRY_CAST(b.manifest ->> 'finished_at' AS TIMESTAMPTZ)) - "
        "epoch(TRY_CAST(b.manifest ->> 'started_at' AS TIMESTAMPTZ))) AS seconds FROM units u JOIN bundles b USING (unit_id) "
        "WHERE u.run_id = ? AND b.replicate = 0 GROUP BY u.phase HAVING seconds IS NOT NULL",
        [run_id],
    ).fetchall()
    return dict(rows)
