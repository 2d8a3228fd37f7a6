"""The chain of phases without Prefect: open a run, ask for the next units, run one, decide a phase.

The pipeline flow and `lab run` both use it. The warehouse alone holds which units have a result.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from common.canonical_json import canonical
from common.environment import ALL_HOSTS, code_commit, host_name, package_versions
from common.errors import LabError
from experiments.contract import Status, Unit, Verdict
from experiments.domains import share_data
from experiments.findings import Earlier, PhaseFindings
from experiments.protocol import leakage_gate
from experiments.registry import PHASES, get_phase
from flows.plan import Plan, Run, defaulted, options, pipeline_command, steps_of
from flows.second_look import refuse_second_look
from warehouse.database import records
from warehouse.database.metrics import flat, measure, results, whole_hosts
from warehouse.delivery.results_store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """The state of a phase: the units asked for so far, and those of them without a result."""

    units: tuple[Unit, ...]
    pending: tuple[Unit, ...]


def open_run(con: duckdb.DuckDBPyConnection, planned: Plan, source: str | None = None) -> Run:
    """Store a plan and its run, and return the run; storing the same again changes nothing.

    Args:
        source: the file that has the user's values, and its digest, if there is one.
    """
    run, content = planned.run, planned.content
    more = {"source": source, "specification_of": planned.specification_of}
    commit = code_commit()
    record = records.RunRecord(
        run_id=run.run_id,
        plan_id=run.plan_id,
        scale=run.scale,
        domain=content["domain"],
        model=content["model"],
        host=host_name(),
        code_commit=commit.sha,
        dirty=commit.dirty,
        versions=package_versions(),
        arguments_given={"scale": run.scale, "config": dict(run.given)} | {k: v for k, v in more.items() if v},
        arguments_defaulted=defaulted(run.configs, run.given),
    )
    records.save_plan(con, run.plan_id, content)
    records.save_run(con, record)
    return run


def findings_for(con: duckdb.DuckDBPyConnection, run: Run, phase: str) -> Earlier:
    """Return the findings of the phases before `phase`; refuse if one that it needs has no verdict yet, or no findings."""
    findings = records.findings_of(con, run.run_id)
    if (lacking := _lacking(findings, phase)) is None:
        return findings
    by = lacking.PHASE
    what, verdict = f"{phase} needs {by}'s {lacking.WHAT}, but {by}", records.verdict_of(con, run.run_id, by)
    if verdict is None:
        raise LabError(f"{what} has no verdict in run {run.run_id}", f"lab run {by} {options(run.scale, run.given)}")
    raise LabError(
        f"{what} has none to give in run {run.run_id}: {verdict.status.value}, {verdict.reason}",
        str(verdict.next_steps[0].command) if verdict.next_steps else "lab results",
    )


def _lacking(findings: Earlier, phase: str) -> type[PhaseFindings] | None:
    """Return the first findings that `phase` needs and that are not there."""
    return next((kind for kind in get_phase(phase).READS if findings.find(kind) is None), None)


def _needed(phase: str) -> set[str]:
    """Return the phases whose findings `phase` needs, and those that they need."""
    direct = {kind.PHASE for kind in get_phase(phase).READS}
    return direct.union(*map(_needed, direct))


def advance(con: duckdb.DuckDBPyConnection, run: Run, phase: str) -> Step:
    """Ask a phase for its next units once all earlier ones have results; nothing is pending when the phase is done."""
    while True:
        asked = records.units_of(con, run.run_id, phase)
        done = records.done_units(con, [u.unit_id for u in asked])
        done |= {u.unit_id for u, _ in records.given_up_of(con, run.run_id, phase)}
        pending = [u for u in asked if u.unit_id not in done]
        if pending:
            return Step(tuple(asked), tuple(pending))
        so_far = results(con, run.run_id, phase)
        if so_far and _decided_by_look(con, run, phase):
            return Step(tuple(asked), ())
        new = leakage_gate.next_units(phase, run.configs[phase], findings_for(con, run, phase), so_far)
        known = {u.unit_id for u in asked}
        fresh = [u for u in new if u.unit_id not in known]
        if not fresh:
            return Step(tuple(asked), ())
        records.save_units(con, run.run_id, phase, fresh)


def _decided_by_look(con: duckdb.DuckDBPyConnection, run: Run, phase: str) -> bool:
    """Return True if the phase is looked at between its rounds, and what it has decides it: PASS or FAIL."""
    config = run.configs[phase]
    if not getattr(config, "look_every", 0):
        return False
    found = leakage_gate.measured(phase, config, findings_for(con, run, phase), flat(results(con, run.run_id, phase)))
    return leakage_gate.decided(phase, config, found).status is not Status.INCONCLUSIVE


def conclude(con: duckdb.DuckDBPyConnection, run: Run, phase: str, override: str | None = None) -> Verdict:
    """Compute and store a phase's metrics, over all hosts and by host, and its verdict; an override where it was needed.

    Raises:
        LabError: no unit has a result, so there is nothing to decide.
    """
    config, findings = run.configs[phase], findings_for(con, run, phase)
    _refuse_nothing(con, run, phase, override)
    found = measure(con, run.run_id, phase, config, findings)
    for host, metrics in found.items():
        records.save_metrics(con, run.run_id, phase, host, metrics)
    overall = found[ALL_HOSTS]
    verdict = leakage_gate.decided(phase, config, overall)
    # With one host its metrics are those over all hosts, the same object.
    of_hosts = {
        host: verdict if found[host] is overall else leakage_gate.decided(phase, config, found[host])
        for host in whole_hosts(con, run.run_id, phase)
    }
    records.save_host_verdicts(con, run.run_id, phase, of_hosts)
    verdict = replace(verdict, next_steps=steps_of(run, verdict.next_steps))
    needed = override if stops(phase, verdict) else None
    records.save_verdict(con, run.run_id, phase, verdict, host_name() if needed else None, needed)
    return verdict


def _refuse_nothing(con: duckdb.DuckDBPyConnection, run: Run, phase: str, override: str | None) -> None:
    lost = records.given_up_of(con, run.run_id, phase)
    own = [u.unit_id for u in records.units_of(con, run.run_id, phase) if u.spec.get("role") != leakage_gate.LEAKAGE]
    if lost and not records.done_units(con, own):
        what = f"no unit of {phase} has a result, so nothing is decided: {lost[0].why}"
        raise LabError(what, f"remove the cause, then: {pipeline_command(run, override)}")


def stops(phase: str, verdict: Verdict) -> bool:
    """Return True if this verdict stops the chain unless overridden: anything but PASS of a prerequisite."""
    return get_phase(phase).BLOCKING and verdict.status is not Status.PASS


def put_job(store: Store, run: Run, phase: str, units: Sequence[Unit]) -> str:
    """Put units into the store as one file named by its SHA-256, so that a shard's parameters stay small; return the hash.

    The user's own data go there as well, for hosts that lack them.
    """
    share_data(run.configs[phase].domain, store.put_file)
    job = {"run_id": run.run_id, "phase": phase, "units": [u.to_json() for u in units]}
    return store.put_file(canonical(job).encode())


def open_phase(con: duckdb.DuckDBPyConnection, planned: Plan, phase: str) -> Run:
    """Open the run at `phase`: decide earlier phases whose units all have results from other runs.

    Refuse if an earlier phase has to run first. A run that cannot start is not stored.
    """
    known = records.has_run(con, planned.run.run_id)
    refuse_second_look(con, planned.run, [phase])
    run = open_run(con, planned)
    try:
        needed, gap = _needed(phase), False
        for earlier in list(PHASES)[: list(PHASES).index(phase)]:
            # Beyond a phase that has to run first, only those are looked at whose findings this one needs.
            if records.verdict_of(con, run.run_id, earlier) is not None or (gap and earlier not in needed):
                continue
            if _lacking(records.findings_of(con, run.run_id), earlier) or advance(con, run, earlier).pending:
                gap = True
            else:
                conclude(con, run, earlier)
        findings_for(con, run, phase)
    except LabError:
        if not known:
            records.forget_run(con, run.run_id, run.plan_id)
        raise
    return run
