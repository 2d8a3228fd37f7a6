"""What the chain writes to the warehouse and reads back. Every function takes a connection from `writing`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import canonical, sha256_of
from experiments.contract import Json, Metric, Metrics, Status, Trial, Unit, Verdict
from warehouse.database.transactions import transaction
from warehouse.delivery.bundles import FIELDS

# Of trials, those of the bundles in a list. By their row ids, or the details of every trial would be unpacked to look at it:
# 2 million trials, 100,000 of them asked for, take half the time (measured, DuckDB 1.5); more the more there are.
OF_BUNDLES = "rowid IN (SELECT rowid FROM trials WHERE bundle_sha256 IN (SELECT unnest(?::VARCHAR[])))"
PHASE_ORDER = ("p1", "p2", "p3", "e0", "e1", "e2")


def save_plan(con: Connection, plan_id: str, content: Json) -> None:
    """Store a plan before its first trial; a plan never changes, another content is another plan."""
    con.execute(
        "INSERT INTO plans VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [plan_id, datetime.now(UTC), canonical(content), sha256_of(content)],
    )


def save_run(
    con: Connection,
    run_id: str,
    plan_id: str,
    scale: str,
    domain: str,
    model: str,
    host: str,
    commit: str,
    dirty: bool,
    versions: Mapping[str, str],
    given: Json,
    defaulted: Json,
) -> None:
    """Store where a run came from; starting it again keeps the first record."""
    con.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            run_id,
            plan_id,
            scale,
            domain,
            model,
            datetime.now(UTC),
            host,
            commit,
            dirty,
            canonical(dict(versions)),
            canonical(given),
            canonical(defaulted),
        ],
    )


def has_run(con: Connection, run_id: str) -> bool:
    """Whether the run is stored."""
    return con.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchone() is not None


def forget_run(con: Connection, run_id: str, plan_id: str) -> None:
    """Take back a run that could not start, and its plan where no other run stands under it; no trial is touched."""
    with transaction(con):
        for table in ("units", "metrics", "verdicts", "predictions", "given_up", "runs"):
            con.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])  # noqa: S608 - only fixed words are put in
        con.execute("DELETE FROM plans WHERE plan_id = ? AND plan_id NOT IN (SELECT plan_id FROM runs)", [plan_id])


def finish_run(con: Connection, run_id: str) -> None:
    """Note when the last phase was decided; the first time stays."""
    con.execute("UPDATE runs SET finished_at = ? WHERE run_id = ? AND finished_at IS NULL", [datetime.now(UTC), run_id])


def save_units(con: Connection, run_id: str, phase: str, units: Sequence[Unit]) -> None:
    """Store units in the order in which the phase asked for them; known ones stay as they are."""
    (start,) = con.execute(
        "SELECT coalesce(max(position) + 1, 0) FROM units WHERE run_id = ? AND phase = ?", [run_id, phase]
    ).fetchone() or (0,)
    rows = [
        [run_id, u.unit_id, phase, u.round, start + i, canonical(u.to_json()), canonical(list(u.depends_on))]
        for i, u in enumerate(units)
    ]
    if rows:
        con.executemany("INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)


def units_of(con: Connection, run_id: str, phase: str) -> list[Unit]:
    """All units that the phase asked for in this run, in order."""
    rows = con.execute(
        "SELECT spec FROM units WHERE run_id = ? AND phase = ? ORDER BY position", [run_id, phase]
    ).fetchall()
    return [Unit.from_json(json.loads(spec)) for (spec,) in rows]


def done_units(con: Connection, unit_ids: Sequence[str], host: str | None = None) -> set[str]:
    """Those of `unit_ids` that have a result, from whichever run it came; with `host`, one of that host."""
    rows = con.execute(
        "SELECT DISTINCT unit_id FROM bundles WHERE (host = ? OR ? IS NULL) AND unit_id IN (SELECT unnest(?::VARCHAR[]))",
        [host, host, list(unit_ids)],
    ).fetchall()
    return {unit_id for (unit_id,) in rows}


def give_up_units(con: Connection, run_id: str, unit_ids: Sequence[str], why: str) -> None:
    """Note that these units are not tried any more in this pipeline."""
    con.executemany(
        "INSERT INTO given_up VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET why = excluded.why",
        [[run_id, unit_id, why, datetime.now(UTC)] for unit_id in unit_ids],
    )


def try_again(con: Connection, run_id: str) -> None:
    """Forget what was given up: a pipeline that is started anew asks for it once more."""
    con.execute("DELETE FROM given_up WHERE run_id = ?", [run_id])


def given_up_of(con: Connection, run_id: str, phase: str, until: datetime | None = None) -> list[tuple[Unit, str]]:
    """Units of the phase that were given up and have no result (with `until`, had none then), with the reason, in the order asked."""
    rows = con.execute(
        "SELECT u.spec, g.why FROM given_up g JOIN units u USING (run_id, unit_id) WHERE g.run_id = ? AND u.phase = ? "
        "AND g.unit_id NOT IN (SELECT unit_id FROM bundles WHERE received_at <= ? OR ? IS NULL) ORDER BY u.position",
        [run_id, phase, until, until],
    ).fetchall()
    return [(Unit.from_json(json.loads(spec)), why) for spec, why in rows]


def trials_of(
    con: Connection, run_id: str, phase: str, host: str | None = None, until: datetime | None = None
) -> list[tuple[Unit, list[Trial]]]:
    """Units with results and their trials, in the order asked: counted bundles, or the first bundle of one host.

    With `until`, only what was here then.
    """
    chosen = con.execute(
        """
        SELECT u.spec, arg_min(b.sha256, b.replicate) FROM units u JOIN bundles b USING (unit_id)
        WHERE u.run_id = ? AND u.phase = ? AND (b.host = ? OR ? IS NULL) AND (b.received_at <= ? OR ? IS NULL)
        GROUP BY u.position, u.spec ORDER BY u.position
        """,
        [run_id, phase, host, host, until, until],
    ).fetchall()
    found = trials_in(con, [sha256 for _, sha256 in chosen])
    return [(Unit.from_json(json.loads(spec)), found[sha256]) for spec, sha256 in chosen]


def trials_in(con: Connection, bundles: Sequence[str]) -> dict[str, list[Trial]]:
    """The trials of each of these bundles, which are named by their SHA-256, in the order in which the unit gave them."""
    rows = con.execute(
        f"SELECT bundle_sha256, {', '.join(FIELDS)}, details FROM trials "  # noqa: S608 - only fixed words are put in
        f"WHERE {OF_BUNDLES} ORDER BY bundle_sha256, ordinal",
        [list(bundles)],
    ).fetchall()
    found: dict[str, list[Trial]] = {sha256: [] for sha256 in bundles}
    for sha256, *fields, details in rows:
        found[sha256].append(Trial(**dict(zip(FIELDS, fields, strict=True)), details=json.loads(details)))
    return found


def hosts_of(con: Connection, run_id: str, phase: str, until: datetime | None = None) -> list[str]:
    """Hosts that have bundles of this phase; with `until`, had them then."""
    rows = con.execute(
        "SELECT DISTINCT b.host FROM units u JOIN bundles b USING (unit_id) WHERE u.run_id = ? AND u.phase = ? "
        "AND (b.received_at <= ? OR ? IS NULL) ORDER BY 1",
        [run_id, phase, until, until],
    ).fetchall()
    return [host for (host,) in rows]


def save_metrics(con: Connection, run_id: str, phase: str, host: str, metrics: Metrics) -> None:
    """Replace all metrics of this phase and host, in one transaction."""
    rows = [
        [run_id, phase, host, i, m.metric, m.condition, m.value, m.low, m.high, m.n, m.failed, m.method, m.timing]
        for i, m in enumerate(metrics.values)
    ]
    with transaction(con):
        con.execute("DELETE FROM metrics WHERE run_id = ? AND phase = ? AND host = ?", [run_id, phase, host])
        if rows:
            con.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def save_verdict(
    con: Connection, run_id: str, phase: str, verdict: Verdict, overridden_by: str | None = None, why: str | None = None
) -> None:
    """Store what the gate decided. An override once given stays on record when the same is decided again without one."""
    m = verdict.main
    con.execute(
        """
        INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (run_id, phase) DO UPDATE SET status = excluded.status, reason = excluded.reason,
          findings = excluded.findings, next_steps = excluded.next_steps, main_metric = excluded.main_metric,
          main_condition = excluded.main_condition, value = excluded.value, low = excluded.low, high = excluded.high,
          n = excluded.n, threshold = excluded.threshold, decided_at = excluded.decided_at,
          overridden_by = coalesce(excluded.overridden_by, verdicts.overridden_by), why = coalesce(excluded.why, verdicts.why)
        """,
        [
            run_id,
            phase,
            verdict.status.value,
            verdict.reason,
            canonical(verdict.findings),
            canonical(list(verdict.next_steps)),
            m.metric,
            m.condition,
            m.value,
            m.low,
            m.high,
            m.n,
            verdict.threshold,
            datetime.now(UTC),
            overridden_by,
            why,
        ],
    )


def verdict_of(con: Connection, run_id: str, phase: str) -> Verdict | None:
    """The stored verdict, or None. Its override and why are in `chain_of`."""
    row = con.execute(
        "SELECT v.status, v.reason, v.findings, v.next_steps, v.main_metric, v.main_condition, v.value, v.low, v.high, v.n, "
        "v.threshold, coalesce(m.failed, 0), coalesce(m.method, ''), coalesce(m.timing, false) FROM verdicts v "
        "LEFT JOIN metrics m ON m.run_id = v.run_id AND m.phase = v.phase AND m.host = 'all' "
        "AND m.metric = v.main_metric AND m.condition = v.main_condition WHERE v.run_id = ? AND v.phase = ?",
        [run_id, phase],
    ).fetchone()
    if row is None:
        return None
    status, reason, findings, steps, metric, condition, value, low, high, n, threshold, failed, method, timing = row
    main = Metric(metric, value, low, high, n, failed, condition, method, timing)
    return Verdict(Status(status), reason, json.loads(findings), main, threshold, tuple(json.loads(steps)))


def findings_of(con: Connection, run_id: str, before: str | None = None) -> Json:
    """Return the findings of all phases of the run, or of those before one of them; later phases over earlier ones."""
    rows = dict(con.execute("SELECT phase, findings FROM verdicts WHERE run_id = ?", [run_id]).fetchall())
    merged: Json = {}
    for phase in PHASE_ORDER[: PHASE_ORDER.index(before) if before else None]:
        merged |= json.loads(rows[phase]) if phase in rows else {}
    return merged


def save_prediction(con: Connection, run_id: str, phase: str, predicted_s: float) -> None:
    """Store how long the phase was expected to take, once."""
    con.execute("INSERT INTO predictions VALUES (?, ?, ?, NULL) ON CONFLICT DO NOTHING", [run_id, phase, predicted_s])


def finish_prediction(con: Connection, run_id: str, phase: str, actual_s: float) -> None:
    """Store how long the phase took, the first time it was worked on to its end."""
    con.execute(
        "UPDATE predictions SET actual_s = ? WHERE run_id = ? AND phase = ? AND actual_s IS NULL",
        [actual_s, run_id, phase],
    )


def predictions_of(con: Connection, run_id: str) -> dict[str, tuple[float, float | None]]:
    """(predicted, actual) seconds of each phase that was started; the actual is None until it was worked on to its end."""
    rows = con.execute("SELECT phase, predicted_s, actual_s FROM predictions WHERE run_id = ?", [run_id]).fetchall()
    return {phase: (predicted_s, actual_s) for phase, predicted_s, actual_s in rows}


@dataclass(frozen=True)
class Durations:
    """What a host did of one round of a phase, over all runs of a scale."""

    phase: str
    round: int
    host: str
    domain: str
    model: str
    cost_s: float  # of its units, as they state it
    seconds: float  # that they took there


def durations_of(con: Connection, scale: str) -> list[Durations]:
    """How long units took, from their bundles' manifests, repeats included.

    Left out are bundles in which every trial failed, since they tell how long a refusal takes, and those of a clock that
    stood still or went back.
    """
    rows = con.execute(
        """
        WITH each AS (
          SELECT DISTINCT b.sha256, u.phase, u.round, b.host, u.spec -> 'config' ->> 'domain' AS domain,
                 u.spec -> 'config' ->> 'model' AS model, (u.spec ->> 'cost')::DOUBLE AS cost_s,
                 epoch(TRY_CAST(b.manifest ->> 'finished_at' AS TIMESTAMPTZ))
                   - epoch(TRY_CAST(b.manifest ->> 'started_at' AS TIMESTAMPTZ)) AS seconds
          FROM units u JOIN runs r USING (run_id) JOIN bundles b USING (unit_id) WHERE r.scale = ?
        )
        SELECT phase, round, host, domain, model, sum(cost_s), sum(seconds) FROM each
        WHERE seconds > 0 AND sha256 IN (SELECT bundle_sha256 FROM trials WHERE error IS NULL)
        GROUP BY ALL ORDER BY ALL
        """,
        [scale],
    ).fetchall()
    return [Durations(*row) for row in rows]


def stands_under(con: Connection, run_id: str) -> str:
    """The run's plan, and whether it was there before the trials: what makes it a pre-registration or does not."""
    row = con.execute("SELECT plan_id, units, units_before FROM plan_order WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        return "a plan without results"
    plan_id, units, before = row
    if not before:
        return f"plan {plan_id}, stored before the first trial"
    return f"plan {plan_id}, stored when {before} of its {units} units had results of an earlier plan already"


def work_of(con: Connection, run_id: str) -> dict[str, float]:
    """Seconds that the counted units of each phase took, on whatever machines."""
    rows = con.execute(
        "SELECT u.phase, sum(epoch(TRY_CAST(b.manifest ->> 'finished_at' AS TIMESTAMPTZ)) - "
        "epoch(TRY_CAST(b.manifest ->> 'started_at' AS TIMESTAMPTZ))) FROM units u JOIN bundles b USING (unit_id) "
        "WHERE u.run_id = ? AND b.replicate = 0 GROUP BY u.phase",
        [run_id],
    ).fetchall()
    return {phase: seconds for phase, seconds in rows if seconds is not None}


def metrics_of(con: Connection, run_id: str) -> list[dict[str, Any]]:
    """The run's metrics over all hosts as rows of phase_metrics, in order."""
    cursor = con.execute(
        "SELECT phase, metric, condition, value, low, high, n, failed, method, timing FROM phase_metrics "
        "WHERE run_id = ? ORDER BY phase, position",
        [run_id],
    )
    names = [d[0] for d in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def chain_of(con: Connection, run_id: str) -> list[dict[str, Any]]:
    """The run's verdicts as rows of gate_history, in the order of the phases."""
    cursor = con.execute("SELECT * FROM gate_history WHERE run_id = ?", [run_id])
    names = [d[0] for d in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return sorted(rows, key=lambda r: PHASE_ORDER.index(r["phase"]))


def assign(
    con: Connection, run_id: str, place: str, parts: Sequence[tuple[Sequence[Unit], str | None]], attempt: int
) -> None:
    """Note units that were sent to a work pool, each part with the machine that it was meant for or None."""
    at = datetime.now(UTC)
    rows = [[run_id, u.unit_id, u.phase, place, host, attempt, at] for units, host in parts for u in units]
    if rows:
        con.executemany("INSERT INTO assignments VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


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
