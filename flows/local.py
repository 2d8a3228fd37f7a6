"""Run one phase in this process, without a server: `lab run`."""

from __future__ import annotations

from collections.abc import Callable

from duckdb import DuckDBPyConnection

from common.errors import LabError
from experiments.backends import catalog, conversions
from experiments.backends.embedding_cache import backends_for
from experiments.backends.model_cache import Backends
from experiments.contract import Unit, Verdict
from experiments.registry import get_phase
from flows.chain import Step, conclude, open_phase
from flows.intake import not_taken_in, take_in
from flows.plan import Plan, Run, options
from flows.reuse import Reuse, reuse_of
from flows.unit_run import run_unit
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths


def run_local(
    paths: Paths,
    planned: Plan,
    phase: str,
    on_unit: Callable[[int, int, Unit], None],
    on_reuse: Callable[[Reuse], None] = lambda _: None,
    resume: bool = False,
    backends: Backends | None = None,
) -> Verdict:
    """Run one phase; what has a result, from whatever run, is not computed again.

    Args:
        paths: of this LAB_HOME.
        planned: the plan of the run.
        phase: one of p1 to e2.
        on_unit: called as on_unit(done, total, unit) after each unit and once before the first.
        on_reuse: called once for each round of units, before any of them runs.
        resume: refuse to begin the phase anew.
        backends: hands out the models; by default one of its own.

    Raises:
        LabError: this machine lacks the model's engine.
        LabError: with `resume`, the run has not begun the phase and no unit of it can be reused; with the reasons.
    """
    store = Store.configured(paths)
    store.deliver(paths.spool)  # what an earlier run computed and could not deliver is not computed again
    backends = backends or backends_for(phase, Backends(store.get_file))
    conversions.remove_unfinished()
    reported: set[str] = set()
    if "language_model" in get_phase(phase).NEEDS:
        # Else every trial would fail with it, and a verdict would have to say so.
        catalog.check_engine(planned.run.configs[phase].model)
    with writing(paths) as con:
        collect(paths, store, con)
        run, step = _begun(con, paths, store, planned, phase, reported, on_reuse, resume)
    while step.pending:
        unit = step.pending[0]
        on_unit(len(step.units) - len(step.pending), len(step.units), unit)
        run_unit(unit, backends, paths, store, attempt=1)
        with writing(paths) as con:
            found = take_in(con, paths, store, run, phase)
            step = found.step
            if unit in step.pending:
                # It would be computed again and again.
                raise not_taken_in(phase, unit, found, f"lab run {phase} {options(run.scale, run.given)}")
            if len(step.units) > len(reported):
                on_reuse(reuse_of(con, run, phase, step, reported))
    with writing(paths, publish=True) as con:
        return conclude(con, run, phase)


def _begun(
    con: DuckDBPyConnection,
    paths: Paths,
    store: Store,
    planned: Plan,
    phase: str,
    reported: set[str],
    on_reuse: Callable[[Reuse], None],
    resume: bool,
) -> tuple[Run, Step]:
    """Open the run at the phase and report reuse; store nothing if it was to be resumed and there is nothing to resume."""
    known = records.has_run(con, planned.run.run_id)
    begun = bool(records.units_of(con, planned.run.run_id, phase))
    run = open_phase(con, planned, phase)
    step = take_in(con, paths, store, run, phase).step
    found = reuse_of(con, run, phase, step, reported)
    if not resume or begun or found.reused:
        on_reuse(found)
        return run, step
    if known:
        records.forget_units(con, run.run_id, phase)
    else:
        records.forget_run(con, run.run_id, run.plan_id)
    raise LabError(
        f"nothing of {phase} to resume: {'; '.join(found.counts)}", f"lab run {phase} {options(run.scale, run.given)}"
    )
