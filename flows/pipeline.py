"""The flow `pipeline`: the phases in order, their units as shards on the pools, gates in between."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from duckdb import DuckDBPyConnection
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from common.files import write_whole
from common.text import with_interval
from experiments.analysis.attempts import foretold
from experiments.contract import Unit, Verdict
from experiments.registry import PHASES
from flows.attempts import Tries
from flows.chain import Step, advance, conclude, open_run, stops
from flows.dispatch import Dispatcher
from flows.forecast import forecast, registered
from flows.plan import Run, options, plan
from flows.reuse import REUSE_FILE, reuse_of, told_lines
from warehouse.database import durations, records
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.placement import Placement

Mode = Literal["split", "replicate"]


@flow(name="pipeline", flow_run_name="pipeline · {scale}", persist_result=False)
def pipeline(
    scale: str = "demo",
    override: str | None = None,
    config: dict[str, dict[str, Any]] | None = None,
    mode: Mode = "split",
) -> dict[str, str]:
    """Run P1, P2, P3, E0, E1 and E2; only units without a result are computed.

    Args:
        scale: smoke, demo or full.
        override: why to go on after a gate of P1, P2 or P3 that does not say PASS; stored with the verdict.
        config: values that differ from the scale's, by phase.
        mode: split runs each unit once, somewhere; replicate runs the phases on every host that fits them.

    Returns:
        The verdict of each phase that was decided.
    """
    paths = Paths.local()
    store = Store.configured(paths)
    log = get_run_logger()
    with writing(paths, publish=True) as con:
        run = open_run(con, plan(scale, config))
        records.try_again(con, run.run_id)
        collect(paths, store, con)
        _predict(con, store, run)
    log.info("run %s, plan %s", run.run_id, run.plan_id)
    started = time.time()
    decided = _phases(paths, Dispatcher(store, run), override, started, mode)
    _progress(paths, run, None, 0, 0, started)
    return decided


def _phases(paths: Paths, dispatcher: Dispatcher, override: str | None, started: float, mode: Mode) -> dict[str, str]:
    """One phase after the other until a gate stops the chain; the verdicts."""
    run, log, decided = dispatcher.run, get_run_logger(), dict[str, str]()
    for phase in PHASES:
        began = time.monotonic()
        worked = _work_through(paths, dispatcher, phase, started, mode)
        with writing(paths, publish=True) as con:
            verdict = conclude(con, run, phase, override)
            if worked:
                durations.finish_prediction(con, run.run_id, phase, time.monotonic() - began)
            if phase == list(PHASES)[-1]:
                records.finish_run(con, run.run_id)
        decided[phase] = verdict.status.value
        log.info("%s %s: %s", phase.upper(), verdict.status.value, verdict.reason)
        _artifact(run, phase, verdict, override if stops(phase, verdict) else None)
        if stops(phase, verdict) and not override:
            log.warning(
                '%s stops the pipeline. To go on all the same: lab pipeline %s --override "why"',
                phase.upper(),
                options(run.scale, run.given),
            )
            break
    return decided


def _predict(con: DuckDBPyConnection, store: Store, run: Run) -> None:
    """Keep what each phase is expected to take on the registered machines, to be held against what it took."""
    for phase, stages in forecast(run, registered(store)[0], con).phases.items():
        if all(stage.pool for stage in stages):
            durations.save_prediction(con, run.run_id, phase, sum(stage.seconds for stage in stages))


def _work_through(paths: Paths, dispatcher: Dispatcher, phase: str, started: float, mode: Mode) -> bool:
    """All rounds of one phase; True when something had to be computed.

    Raises:
        LabError: no worker fits, or nobody takes a unit; with what its shards said.
    """
    run = dispatcher.run
    tries = Tries(run, phase)
    hosts: dict[str, Placement] = {}
    told: set[str] = set()
    while True:
        with writing(paths) as con:
            # What a shard delivered just before it ended is known before anything is asked for again.
            collect(paths, dispatcher.store, con)
            step = advance(con, run, phase)
            if len(step.units) > len(told):
                _tell(paths, run, reuse_of(con, run, phase, step, told).lines())
            if mode == "replicate" and step.units and not hosts:
                hosts = dispatcher.hosts(phase)
            under_way = dispatcher.under_way()
            lacking = {h: left for h in hosts if (left := tries.left(_lacking(con, step, h), h, under_way))}
        _progress(paths, run, phase, len(step.units) - len(step.pending), len(step.units), started)
        if not step.pending and not lacking:
            return tries.worked
        free = [u for u in step.pending if (u.unit_id, None) not in under_way]
        given_up, why = tries.hopeless(free)
        if given_up and not lacking:
            get_run_logger().error("%s: %d units are given up, %s", phase, len(given_up), why)
            with writing(paths) as con:
                records.give_up_units(con, run.run_id, [u.unit_id for u in given_up], why)
            continue
        if not tries.worked and (seen := foretold(run.configs[phase])):
            get_run_logger().info("%s: %s", phase, seen)
        for host, units in lacking.items():
            if idle := [u for u in units if (u.unit_id, host) not in under_way]:
                dispatcher.submit_to(phase, host, hosts[host], idle, tries.begin(idle, host))
        if not lacking:
            for above, units in tries.above(free).items():
                dispatcher.submit(phase, units, tries.begin(units), above)
        tries.ended(dispatcher.wait(partial(_collected, paths, dispatcher, phase, step, lacking, started)))


def _tell(paths: Paths, run: Run, lines: Sequence[str]) -> None:
    """What is reused and why the rest is not: to the log, and to the command that follows this flow run."""
    for line in lines:
        get_run_logger().info("%s", line)
    context = FlowRunContext.get()
    flow_run = str(context.flow_run.id) if context and context.flow_run else run.run_id
    path = paths.home / REUSE_FILE
    write_whole(path, json.dumps([flow_run, [*told_lines(path, flow_run), *lines]]).encode())


def _lacking(con: DuckDBPyConnection, step: Step, host: str) -> list[Unit]:
    """Units of which this host has no bundle."""
    done = records.done_units(con, [u.unit_id for u in step.units], host)
    return [u for u in step.units if u.unit_id not in done]


def _collected(
    paths: Paths, dispatcher: Dispatcher, phase: str, step: Step, wanted: Mapping[str, Sequence[Unit]], started: float
) -> bool:
    """Take in what waits; whether every pending unit has a result now, and every host those wanted of it."""
    store, run = dispatcher.store, dispatcher.run
    if not store.arrived():
        return False
    with writing(paths, publish=True) as con:
        collect(paths, store, con)
        done = len(records.done_units(con, [u.unit_id for u in step.pending]))
        whole = all(
            len(records.done_units(con, [u.unit_id for u in units], host)) == len(units)
            for host, units in wanted.items()
        )
    _progress(paths, run, phase, len(step.units) - len(step.pending) + done, len(step.units), started)
    return whole and done == len(step.pending)


def _progress(paths: Paths, run: Run, phase: str | None, done: int, total: int, started: float) -> None:
    """A small file that the command line follows; the warehouse itself is the truth."""
    row = {
        "run_id": run.run_id,
        "phase": phase,
        "done": done,
        "total": total,
        "started": started,
        "at": datetime.now(UTC).isoformat(),
    }
    write_whole(paths.home / "progress.json", json.dumps(row).encode())


def _artifact(run: Run, phase: str, verdict: Verdict, override: str | None) -> None:
    """The verdict table in Prefect's pages."""
    m = verdict.main
    needs = "" if verdict.threshold is None else f"{verdict.threshold:g}"
    steps = "".join(f"\n- `{s}`" for s in verdict.next_steps)
    text = (
        f"# {phase.upper()} {verdict.status.value}\n\n{verdict.reason}\n\n"
        f"| metric | of | value | threshold | n |\n|---|---|---|---|---|\n"
        f"| {m.metric} | {m.condition.replace('|', '/')} | {with_interval(m.value, m.low, m.high)} | {needs} | {m.n} |\n"
        + (f"\nOverridden: {override}\n" if override else "")
        + (f"\nWhat to try:{steps}\n" if steps else "")
    )
    create_markdown_artifact(
        text, key=f"verdict-{run.run_id}-{phase}", description=f"{phase.upper()} of run {run.run_id}"
    )
