"""The flow `pipeline`: the phases in order, their units as shards on the pools, gates in between."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import flow, get_client, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.states import State

from experiments.contract import Unit, Verdict
from experiments.errors import LabError
from experiments.registry import PHASES, get_phase
from flows.chain import Run, Step, advance, conclude, open_run, put_job, stops
from warehouse import records
from warehouse.collector import collect
from warehouse.database import writing
from warehouse.durable import write_whole
from warehouse.places import Places
from warehouse.transport import Store
from workpools.assess import CapabilityReport, parse_report
from workpools.placement import place
from workpools.pools import online_workers

POLL_S = 1.0
MAX_ATTEMPTS = 3  # DESIGN, "The way of the data" 6
WORKER_WAIT_S = 60.0  # workers that start together with the pipeline may be a little late
SHARD_SECONDS = 60.0  # a shard's overhead is about ten seconds (measured), so smaller ones do not pay


@flow(name="pipeline", flow_run_name="pipeline · {scale}", persist_result=False)
def pipeline(
    scale: str = "demo", override: str | None = None, config: dict[str, dict[str, Any]] | None = None
) -> dict[str, str]:
    """Run P1, P2, P3, E0, E1 and E2; only units without a result are computed.

    Args:
        scale: smoke, demo or full.
        override: why to go on after a gate of P1, P2 or P3 that does not say PASS; stored with the verdict.
        config: values that differ from the scale's, by phase.

    Returns:
        The verdict of each phase that was decided.
    """
    places = Places.here()
    store = Store.here(places)
    log = get_run_logger()
    with writing(places, publish=True) as con:
        run = open_run(con, scale, config)
        collect(places, store, con)
    log.info("run %s, plan %s", run.run_id, run.plan_id)
    decided: dict[str, str] = {}
    started = time.time()
    for phase in PHASES:
        began = time.monotonic()
        worked = _work_through(places, store, run, phase, started)
        with writing(places, publish=True) as con:
            verdict = conclude(con, run, phase, override)
            if worked:
                records.finish_prediction(con, run.run_id, phase, time.monotonic() - began)
            if phase == list(PHASES)[-1]:
                records.finish_run(con, run.run_id)
        decided[phase] = verdict.status.value
        log.info("%s %s: %s", phase.upper(), verdict.status.value, verdict.reason)
        _artifact(run, phase, verdict, override if stops(phase, verdict) else None)
        if stops(phase, verdict) and not override:
            log.warning(
                '%s stops the pipeline. To go on all the same: lab pipeline --scale %s --override "why"', phase, scale
            )
            break
    _progress(places, run, None, 0, 0, started)
    return decided


def _work_through(places: Places, store: Store, run: Run, phase: str, started: float) -> bool:
    """All rounds of one phase; True when something had to be computed."""
    attempts: dict[str, int] = {}
    worked = False
    while True:
        with writing(places) as con:
            step = advance(con, run, phase)
            records.save_prediction(con, run.run_id, phase, sum(u.cost for u in step.units))
        _progress(places, run, phase, len(step.units) - len(step.pending), len(step.units), started)
        if not step.pending:
            return worked
        worked = True
        for unit in step.pending:
            attempts[unit.unit_id] = attempts.get(unit.unit_id, 0) + 1
            if attempts[unit.unit_id] > MAX_ATTEMPTS:
                raise LabError(
                    f"unit {unit.unit_id[:8]} of {phase} failed {MAX_ATTEMPTS} times",
                    "see its shards' logs, mend, then retry",
                )
        attempt = max(attempts[u.unit_id] for u in step.pending)
        shards = _submit(store, run, phase, step, attempt)
        _await(places, store, run, phase, step, shards, started)


def _submit(store: Store, run: Run, phase: str, step: Step, attempt: int) -> list[UUID]:
    """Cut the pending units into shards, at most one a worker, and submit them to the pool that fits."""
    module = get_phase(phase)
    reports = _reports(store)
    deadline = time.monotonic() + WORKER_WAIT_S
    with get_client(sync_client=True) as client:
        while True:
            try:
                placed = place(module.PROFILE, module.NEEDS, online_workers(client), reports)
                break
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
    count = max(1, min(placed.workers, len(step.pending), round(sum(u.cost for u in step.pending) / SHARD_SECONDS)))
    job = put_job(store, run, phase, step.pending)
    context = FlowRunContext.get()
    parent = str(context.flow_run.id)[:8] if context and context.flow_run else "local"
    shards = []
    for i, part in enumerate(balance(step.pending, count)):
        label = f"shard {i + 1} of {count} · round {part[0].round}"
        submitted: Any = run_deployment(
            f"shard/{placed.pool}",
            parameters={
                "run_id": run.run_id, "phase": phase, "label": label, "job": job, "unit_ids": [u.unit_id for u in part],
                "attempt": attempt,
            },
            timeout=0, as_subflow=False, tags=[run.run_id, phase, placed.pool],
            # The pipeline's own retry must make a new shard, while a repeated call in one try must not.
            idempotency_key=f"{parent}-{context.flow_run.run_count if context and context.flow_run else 0}-{job[:16]}-{i}-{attempt}",
        )  # fmt: skip
        shards.append(submitted.id)
    get_run_logger().info(
        "%s: %d units in %d shards to pool %s (%s)", phase, len(step.pending), count, placed.pool, placed.reason
    )
    return shards


def balance(units: tuple[Unit, ...], shards: int) -> list[list[Unit]]:
    """Units in `shards` parts of about equal cost (longest first onto the lightest part), each in its given order."""
    parts: list[list[int]] = [[] for _ in range(shards)]
    loads = [0.0] * shards
    for i in sorted(range(len(units)), key=lambda i: (-units[i].cost, i)):
        lightest = loads.index(min(loads))
        parts[lightest].append(i)
        loads[lightest] += units[i].cost
    return [[units[i] for i in sorted(part)] for part in parts if part]


def _await(places: Places, store: Store, run: Run, phase: str, step: Step, shards: list[UUID], started: float) -> None:
    """Collect until every pending unit has a result, or every shard has ended. A shard's own word is not what counts."""
    wanted = {u.unit_id for u in step.pending}
    before = len(step.units) - len(wanted)
    checked = 0.0
    with get_client(sync_client=True) as client:
        while True:
            ended = False
            if time.monotonic() - checked > 2 * POLL_S:
                states = [client.read_flow_run(shard).state for shard in shards]
                ended = all(s is not None and s.is_final() for s in states)
                checked = time.monotonic()
            if any(store.inbox.glob("*.parquet")) if store.inbox.is_dir() else False:
                with writing(places, publish=True) as con:
                    collect(places, store, con)
                    done = len(records.done_units(con, sorted(wanted)))
                _progress(places, run, phase, before + done, len(step.units), started)
                if done == len(wanted):
                    return
            elif ended:
                _explain(states)
                return
            time.sleep(POLL_S)


def _explain(states: list[State | None]) -> None:
    for state in states:
        if state is not None and not state.is_completed():
            get_run_logger().warning("a shard ended as %s: %s", state.name, state.message)


def _reports(store: Store) -> list[CapabilityReport]:
    found = []
    for _, content in store.reports():
        try:
            found.append(parse_report(content))
        except LabError as error:
            get_run_logger().warning("%s", error)
    return found


def _progress(places: Places, run: Run, phase: str | None, done: int, total: int, started: float) -> None:
    """A small file that the command line follows; the warehouse itself is the truth."""
    row = {
        "run_id": run.run_id, "phase": phase, "done": done, "total": total, "started": started,
        "at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    write_whole(places.home / "progress.json", json.dumps(row).encode())


def _artifact(run: Run, phase: str, verdict: Verdict, override: str | None) -> None:
    """The verdict table in Prefect's pages."""
    m = verdict.main
    shown = "undefined" if m.value is None else f"{m.value:.3g}"
    interval = f" ({m.low:.3g} to {m.high:.3g})" if m.low is not None and m.high is not None else ""
    needs = "" if verdict.threshold is None else f"{verdict.threshold:g}"
    steps = "".join(f"\n- `{s}`" for s in verdict.next_steps)
    text = (
        f"# {phase.upper()} {verdict.status.value}\n\n{verdict.reason}\n\n"
        f"| metric | of | value | threshold | n |\n|---|---|---|---|---|\n"
        f"| {m.metric} | {m.condition.replace('|', '/')} | {shown}{interval} | {needs} | {m.n} |\n"
        + (f"\nOverridden: {override}\n" if override else "")
        + (f"\nWhat to try:{steps}\n" if steps else "")
    )
    create_markdown_artifact(
        text, key=f"verdict-{run.run_id}-{phase}", description=f"{phase.upper()} of run {run.run_id}"
    )
