"""The flow `pipeline`: the phases in order, their units as shards on the pools, gates in between."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from duckdb import DuckDBPyConnection
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal

from common.system_errors import explained, system_error
from common.text import with_interval
from experiments.contract import Unit, Verdict
from experiments.protocol.forecast import foretold
from experiments.registry import PHASES
from flows.attempts import Attempts
from flows.chain import Step, conclude, open_run, stops
from flows.dispatch import Dispatcher, UnitOnHost
from flows.forecast import forecast
from flows.intake import existing, not_taken_in, take_in
from flows.plan import Run, checked_why, pipeline_command, plan, up_to
from flows.progress import ProgressTable
from flows.reports import registered
from flows.reuse import reuse_of
from flows.second_look import refuse_second_look
from warehouse.database import durations, records
from warehouse.database.agreement import agreement_of, of_phase
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.placement import Placement
from workpools.pools import online_workers
from workpools.roles import checked_pins

Mode = Literal["split", "replicate"]


@flow(name="pipeline", flow_run_name="pipeline · {scale}", persist_result=False)
def pipeline(
    scale: str = "demo",
    override: str | None = None,
    config: dict[str, dict[str, Any]] | None = None,
    mode: Mode = "split",
    until: str | None = None,
    on: dict[str, str] | None = None,
    source: str | None = None,
) -> dict[str, str]:
    """Run P1, P2, P3, E0, E1 and E2; only units without a result are computed.

    Args:
        scale: smoke, demo or full.
        override: the reason to go on after a gate of P1, P2 or P3 that is not PASS; stored with the verdict.
        config: values that differ from the scale's, by phase.
        mode: split runs each unit once, somewhere; replicate runs the phases on every host that fits them.
        until: the last phase to run; all unless given.
        on: the host or tier that gets a phase, by phase.
        source: the file that has the values, and its digest; stored with the run.

    Returns:
        The verdict of each phase that was decided.
    """
    checked_why(override)
    wanted = up_to(until)
    pins = checked_pins(on or {}, list(PHASES))
    paths = Paths.local()
    store = Store.configured(paths)
    log = get_run_logger()
    with writing(paths, publish=True) as con:
        planned = plan(scale, config, wanted)
        refuse_second_look(con, planned.run, wanted)
        run = open_run(con, planned, source)
        records.try_again(con, run.run_id)
        collect(paths, store, con)
        dispatcher = Dispatcher(store, run, pins)
        _predict(con, dispatcher)
    log.info("run %s, plan %s", run.run_id, run.plan_id)
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if flow_run and run.run_id not in flow_run.tags:  # it was started by Prefect's pages or its command
        dispatcher.client.update_flow_run(flow_run.id, tags=[*flow_run.tags, run.run_id])
    progress = ProgressTable(dispatcher.client, run.run_id, flow_run.id if flow_run else None)
    try:
        return _PhaseRunner(paths, dispatcher, progress, mode, override).run_phases(until)
    except TerminationSignal:
        if flow_run:
            dispatcher.cancel(flow_run.id)
        raise


def _predict(con: DuckDBPyConnection, dispatcher: Dispatcher) -> None:
    """Store the expected duration of each phase on the machines that are online, to be compared with the real one."""
    run, reports = dispatcher.run, registered(dispatcher.store).reports
    online = online_workers(dispatcher.client)
    there = [r for r in reports if any(r.host in names for names in online.values())]
    planned = forecast(run, there or reports, con, online if there else None, dispatcher.pins)
    for phase, stages in planned.phases.items():
        if all(stage.pool for stage in stages):
            durations.save_prediction(con, run.run_id, phase, sum(stage.seconds for stage in stages))


@dataclass(frozen=True)
class _PhaseRunner:
    """Runs the phases of one pipeline: submits their units, waits, collects and decides."""

    paths: Paths
    dispatcher: Dispatcher
    progress: ProgressTable
    mode: Mode
    override: str | None

    def run_phases(self, until: str | None) -> dict[str, str]:
        """Run one phase after the other until a gate stops the chain or `until` is decided; return the verdicts."""
        run, log, decided, override = self.dispatcher.run, get_run_logger(), dict[str, str](), self.override
        for phase in PHASES:
            began = time.monotonic()
            worked = self.run_units(phase)
            with writing(self.paths, publish=True) as con:
                verdict = conclude(con, run, phase, override)
                differs = of_phase(agreement_of(con, run.run_id).of(phase))
                if worked:
                    durations.finish_prediction(con, run.run_id, phase, time.monotonic() - began)
                if phase == list(PHASES)[-1]:
                    records.finish_run(con, run.run_id)
            decided[phase] = verdict.status.value
            log.info("%s %s: %s", phase.upper(), verdict.status.value, verdict.reason)
            if differs:
                log.warning("%s: %s", phase.upper(), differs)
            self.progress.decide(phase, verdict.status.value, verdict.reason)
            _artifact(run, phase, verdict, override if stops(phase, verdict) else None, differs)
            if stops(phase, verdict) and not override:
                again = f'{pipeline_command(run, None, self.mode)} --override "why"'
                log.warning("%s stops the pipeline. To go on all the same: %s", phase.upper(), again)
                break
            if phase == until:
                break
        return decided

    def run_units(self, phase: str) -> bool:
        """Run all rounds of one phase; return True if something had to be computed."""
        run, dispatcher = self.dispatcher.run, self.dispatcher
        again = pipeline_command(run, self.override, self.mode)
        attempts = Attempts(run, phase, again)
        hosts: dict[str, Placement] = {}
        reported: set[str] = set()
        looked_again = False
        while True:
            lines: list[str] = []
            with writing(self.paths) as con:
                # What a shard delivered just before it ended is known before anything is asked for again.
                found = take_in(con, self.paths, dispatcher.store, run, phase)
                step = found.step
                if len(step.units) > len(reported):
                    lines = reuse_of(con, run, phase, step, reported).lines()
                hosts = {h: placed for h, placed in hosts.items() if not dispatcher.left_out(h, phase)}
                if self.mode == "replicate" and step.units and not hosts:
                    hosts = dispatcher.hosts(phase)
                under_way = dispatcher.under_way()
                lacking = {
                    h: left for h in hosts if (left := attempts.left(_lacking(con, step.units, h), h, under_way))
                }
            for line in lines:
                get_run_logger().info("%s", line)
            self.progress.report(phase, len(step.units) - len(step.pending), len(step.units), lines)
            if not step.pending and not lacking:
                return attempts.worked
            free = [u for u in step.pending if UnitOnHost(u.unit_id) not in under_way]
            given_up = attempts.exhausted(free)
            if given_up.units and not lacking:
                if there := existing(self.paths, dispatcher.store, given_up.units):
                    if looked_again:
                        raise not_taken_in(phase, there[0], found, again)
                    looked_again = True  # it may have come just now
                    continue
                get_run_logger().error("%s: %d units are given up, %s", phase, len(given_up.units), given_up.reason)
                with writing(self.paths, publish=True) as con:  # also where nothing is decided after it
                    records.give_up_units(con, run.run_id, [u.unit_id for u in given_up.units], given_up.reason)
                continue
            if not attempts.worked and (seen := foretold(phase, run.configs[phase])):
                get_run_logger().info("%s: %s", phase, seen)
            for host, units in lacking.items():
                if idle := [u for u in units if UnitOnHost(u.unit_id, host) not in under_way]:
                    dispatcher.submit_to(phase, host, hosts[host], idle, attempts.begin(idle, host))
            looked_again = False
            if not lacking:
                for above, units in attempts.by_too_small_pool(free).items():
                    dispatcher.submit(phase, units, attempts.begin(units), above)
            self.progress.report(
                phase, len(step.units) - len(step.pending), len(step.units), hosts=dispatcher.at_work()
            )
            attempts.record(dispatcher.wait(partial(self.collected, phase, step, lacking)))

    def collected(self, phase: str, step: Step, wanted: Mapping[str, Sequence[Unit]]) -> bool:
        """Ingest arrived bundles; return True once every pending unit has a result, and every host those wanted of it."""
        store = self.dispatcher.store
        if not store.arrived():
            self.progress.flush()
            return False
        try:
            with writing(self.paths, publish=True) as con:
                collect(self.paths, store, con)
                done = len(records.done_units(con, [u.unit_id for u in step.pending]))
                whole = not any(_lacking(con, units, host) for host, units in wanted.items())
        except Exception as error:
            if (refused := system_error(error)) is None:
                raise
            # It may pass; if not, it ends the pipeline once the shards have ended.
            get_run_logger().warning("results are not collected now: %s", explained(refused))
            return False
        at_work = self.dispatcher.at_work()
        self.progress.report(phase, len(step.units) - len(step.pending) + done, len(step.units), hosts=at_work)
        return whole and done == len(step.pending)


def _lacking(con: DuckDBPyConnection, units: Sequence[Unit], host: str) -> list[Unit]:
    """Return the units of which this host has no bundle."""
    done = records.done_units(con, [u.unit_id for u in units], host)
    return [u for u in units if u.unit_id not in done]


def _artifact(run: Run, phase: str, verdict: Verdict, override: str | None, differs: str) -> None:
    """Show a verdict in Prefect's pages; `differs` names hosts that gave other answers to the same trials."""
    m = verdict.main
    needs = "" if verdict.threshold is None else f"{verdict.threshold:g}"
    steps = "".join(f"\n- `{s}`" for s in verdict.next_steps)
    text = (
        f"# {phase.upper()} {verdict.status.value}\n\n{verdict.reason}\n\n"
        f"| metric | of | value | threshold | n |\n|---|---|---|---|---|\n"
        f"| {m.metric} | {m.condition.replace('|', '/')} | {with_interval(m.value, m.low, m.high)} | {needs} | {m.n} |\n"
        + (f"\n{differs}.\n" if differs else "")
        + (f"\nOverridden: {override}\n" if override else "")
        + (f"\nWhat to try:{steps}\n" if steps else "")
    )
    create_markdown_artifact(
        text, key=f"verdict-{run.run_id}-{phase}", description=f"{phase.upper()} of run {run.run_id}"
    )
