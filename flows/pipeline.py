"""The flow `pipeline`: the phases in order, their units as shards on the pools, gates in between."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from experiments.attempts import foretold
from experiments.contract import Verdict
from experiments.errors import LabError
from experiments.registry import PHASES
from flows.chain import Run, Step, advance, conclude, open_run, options, stops
from flows.dispatch import submit, wait_for
from warehouse import records
from warehouse.collector import collect
from warehouse.database import writing
from warehouse.durable import write_whole
from warehouse.places import Places
from warehouse.transport import Store

MAX_ATTEMPTS = 3  # DESIGN, "The way of the data" 6


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
                '%s stops the pipeline. To go on all the same: lab pipeline %s --override "why"',
                phase.upper(),
                options(scale, run.given),
            )
            break
    _progress(places, run, None, 0, 0, started)
    return decided


def _work_through(places: Places, store: Store, run: Run, phase: str, started: float) -> bool:
    """All rounds of one phase; True when something had to be computed.

    Raises:
        LabError: no worker fits, or a unit has no result after MAX_ATTEMPTS tries; with what its shards said.
    """
    attempts: dict[str, int] = {}
    wrong: list[str] = []
    worked = False
    while True:
        with writing(places) as con:
            step = advance(con, run, phase)
            records.save_prediction(con, run.run_id, phase, sum(u.cost for u in step.units))
        _progress(places, run, phase, len(step.units) - len(step.pending), len(step.units), started)
        if not step.pending:
            return worked
        if not worked and (seen := foretold(run.configs[phase])):
            get_run_logger().info("%s: %s", phase, seen)
        worked = True
        for unit in step.pending:
            attempts[unit.unit_id] = attempts.get(unit.unit_id, 0) + 1
            if attempts[unit.unit_id] > MAX_ATTEMPTS:
                said = f"; {wrong[-1]}" if wrong else ""
                raise LabError(
                    f"unit {unit.unit_id[:8]} of {phase} has no result after {MAX_ATTEMPTS} tries{said}",
                    f"mend it, then: lab pipeline {options(run.scale, run.given)}",
                )
        attempt = max(attempts[u.unit_id] for u in step.pending)
        shards = submit(store, run, phase, step.pending, attempt)
        wrong = wait_for(shards, partial(_collected, places, store, run, phase, step, started))


def _collected(places: Places, store: Store, run: Run, phase: str, step: Step, started: float) -> bool:
    """Take in what waits; whether every pending unit has a result now."""
    if not store.inbox.is_dir() or not any(store.inbox.glob("*.parquet")):
        return False
    with writing(places, publish=True) as con:
        collect(places, store, con)
        done = len(records.done_units(con, [u.unit_id for u in step.pending]))
    _progress(places, run, phase, len(step.units) - len(step.pending) + done, len(step.units), started)
    return done == len(step.pending)


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
