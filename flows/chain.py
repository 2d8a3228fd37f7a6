"""The chain of phases without Prefect: plan a run, ask for the next units, run one, conclude a phase.

The pipeline flow and `lab run` both drive it; which units have a result is read from the warehouse, nowhere else.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb

from experiments import leakage_gate
from experiments.backends.base import Backends
from experiments.code_version import code_version
from experiments.contract import Json, PhaseConfig, Status, Unit, Verdict
from experiments.data import universe
from experiments.domains import bring_data, share_data, shown
from experiments.environment import code_commit, host_name, package_versions
from experiments.errors import LabError
from experiments.identity import canonical, check_unit, sha256_of
from experiments.registry import PHASES, configure, get_phase, module_of
from flows.forecast import rounds_of
from warehouse import records
from warehouse.bundles import write_bundle
from warehouse.measuring import ALL_HOSTS, measure, results
from warehouse.places import Places
from warehouse.signing import key_of
from warehouse.transport import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A plan being carried out. The same plan has the same run_id, so starting again goes on where it stopped."""

    run_id: str
    plan_id: str
    scale: str
    configs: Mapping[str, PhaseConfig]
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what the user set, by phase


@dataclass(frozen=True)
class Step:
    """Where a phase stands: the units asked for so far, and those of them without a result."""

    units: tuple[Unit, ...]
    pending: tuple[Unit, ...]


def plan(scale: str, given: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Run, Json]:
    """The run that `scale` and the user's values name, and the plan's content as it is stored before the first trial.

    Raises:
        LabError: unknown scale, phase or key, a value out of range, or a model that is not installed.
    """
    from experiments.backends.catalog import backend, digest_of

    for name in given or {}:
        module_of(name)
    configs = {name: configure(name, scale, (given or {}).get(name)) for name in PHASES}
    for model in {c.model for c in configs.values()}:
        backend(model).digest(model)
    used = {name: tuple(sorted({c.model, *getattr(c, "embedders", ())} - {"hybrid"})) for name, c in configs.items()}
    content: Json = {
        "scale": scale,
        "domain": shown(configs["p1"].domain),
        "model": configs["p1"].model,
        "analyses": {name: list(get_phase(name).PLANNED) for name in PHASES},
        "configs": {name: c.model_dump(mode="json") for name, c in configs.items()},
        "code_versions": {
            name: code_version(name, c.domain, analysis=True, models=used[name]) for name, c in configs.items()
        },
        "data_version": sorted({universe(c).version for c in configs.values()}),
        "digests": {name: digest_of(name) for name in sorted({m for models in used.values() for m in models})},
    }
    plan_id = sha256_of(content)[:16]
    return Run(f"{scale}-{plan_id[:8]}", plan_id, scale, configs, given or {}), content


def options(scale: str, given: Mapping[str, Mapping[str, Any]]) -> str:
    """--scale smoke --set p2.n_test=8: what names the same plan on the command line, quoted for a shell."""
    # What all phases share is written once: domain=equations.
    shared = [
        (key, value)
        for key, value in next(iter(given.values()), {}).items()
        if all((key, value) in given.get(phase, {}).items() for phase in PHASES)
    ]
    values = [f"{key}={json.dumps(value)}" for key, value in shared]
    values += [
        f"{phase}.{key}={json.dumps(value)}"
        for phase, keys in given.items()
        for key, value in keys.items()
        if (key, value) not in shared
    ]
    return " ".join([f"--scale {scale}", *(f"--set {shlex.quote(v)}" for v in values)])


def _named(key: str, phase: str) -> tuple[str, str]:
    """(phase, field) that a --set of `lab run <phase>` names; "" for a field that all phases share."""
    other, dot, field_ = key.partition(".")
    return (other, field_) if dot else ("" if key in PhaseConfig.model_fields else phase, key)


def steps_of(run: Run, steps: Sequence[str]) -> tuple[str, ...]:
    """A gate's next steps as they are typed for this run: with its scale and values, without what is so already."""
    found = []
    for step in steps:
        command, gap, why = step.partition("  (")
        words = shlex.split(command)
        if words[:2] != ["lab", "run"] or len(words) < 3:
            found.append(step)
            continue
        if "--scale" in words and words[words.index("--scale") + 1] == run.scale:
            continue
        changed = {_named(w.partition("=")[0], words[2]) for w in words if "=" in w}
        kept = {p: {k: v for k, v in own.items() if not {(p, k), ("", k)} & changed} for p, own in run.given.items()}
        own = options("", kept).removeprefix("--scale ").strip()
        scale = "" if "--scale" in words else f" --scale {run.scale}"
        found.append(f"{command}{scale}{' ' if own else ''}{own}{gap}{why}")
    return tuple(found)


def open_run(con: duckdb.DuckDBPyConnection, scale: str, given: Mapping[str, Mapping[str, Any]] | None = None) -> Run:
    """Plan and store plan and run; storing the same again changes nothing."""
    run, content = plan(scale, given)
    host, (commit, dirty) = host_name(), code_commit()
    records.save_plan(con, run.plan_id, content)
    records.save_run(
        con, run.run_id, run.plan_id, scale, content["domain"], content["model"], host, commit, dirty,
        package_versions(), {"scale": scale, "config": dict(given or {})}, _defaulted(run.configs, given or {}),
    )  # fmt: skip
    return run


def _defaulted(configs: Mapping[str, PhaseConfig], given: Mapping[str, Mapping[str, Any]]) -> Json:
    return {
        name: {k: v for k, v in c.model_dump(mode="json").items() if k not in given.get(name, {})}
        for name, c in configs.items()
    }


def carried_into(con: duckdb.DuckDBPyConnection, run: Run, phase: str) -> Json:
    """What the phases before `phase` carried.

    Raises:
        LabError: one that it needs has no verdict yet, or carried nothing.
    """
    carried = records.carried_of(con, run.run_id)
    if (by := _lacking(carried, phase)) is None:
        return carried
    what, verdict = f"{phase} needs what {by} carries, and {by}", records.verdict_of(con, run.run_id, by)
    if verdict is None:
        raise LabError(f"{what} has no verdict in run {run.run_id}", f"lab run {by} {options(run.scale, run.given)}")
    raise LabError(
        f"{what} carried nothing in run {run.run_id}: {verdict.status.value}, {verdict.reason}",
        verdict.next_steps[0] if verdict.next_steps else "lab results",
    )


def _lacking(carried: Json, phase: str) -> str | None:
    """The phase whose finding `phase` needs and has not got."""
    for needed, by, wanted in (
        ("embedder", "p1", ("p2",)),
        ("retrieval", "e0", ("e1", "e2")),
        ("memos", "e1", ("e2",)),
    ):
        if phase in wanted and needed not in carried:
            return by
    return None


def advance(con: duckdb.DuckDBPyConnection, run: Run, phase: str) -> Step:
    """Ask the phase for its next units once all earlier ones have results; pending is empty when the phase is done."""
    while True:
        asked = records.units_of(con, run.run_id, phase)
        done = records.done_units(con, [u.unit_id for u in asked])
        done |= {u.unit_id for u, _ in records.given_up_of(con, run.run_id, phase)}
        pending = [u for u in asked if u.unit_id not in done]
        if pending:
            return Step(tuple(asked), tuple(pending))
        so_far = results(con, run.run_id, phase)
        new = leakage_gate.next_units(phase, run.configs[phase], carried_into(con, run, phase), so_far)
        known = {u.unit_id for u in asked}
        fresh = [u for u in new if u.unit_id not in known]
        if not fresh:
            return Step(tuple(asked), ())
        records.save_units(con, run.run_id, phase, fresh)


def conclude(con: duckdb.DuckDBPyConnection, run: Run, phase: str, override: str | None = None) -> Verdict:
    """Metrics over all hosts and for each, the verdict, both stored. An override is recorded only where it was needed."""
    config, carried = run.configs[phase], carried_into(con, run, phase)
    found = measure(con, run.run_id, phase, config, carried)
    for host, metrics in found.items():
        records.save_metrics(con, run.run_id, phase, host, metrics)
    verdict = leakage_gate.decided(phase, config, found[ALL_HOSTS])
    verdict = replace(verdict, next_steps=steps_of(run, verdict.next_steps))
    needed = override if stops(phase, verdict) else None
    records.save_verdict(con, run.run_id, phase, verdict, host_name() if needed else None, needed)
    return verdict


def stops(phase: str, verdict: Verdict) -> bool:
    """Whether this verdict stops the chain unless it is overridden: anything but PASS of a prerequisite."""
    return get_phase(phase).BLOCKING and verdict.status is not Status.PASS


def run_unit(unit: Unit, backends: Backends, places: Places, store: Store, attempt: int) -> int:
    """Run one unit here and deliver its bundle; returns the number of trials.

    Raises:
        LabError: code, data or models differ from the plan's, or a file it needs is missing.
    """
    module = get_phase(unit.phase)
    config = module.Config(**unit.config)
    bring_data(config.domain, store.get_file)
    check_unit(unit, config)
    started = datetime.now(UTC)
    search = unit.spec.get("role") == leakage_gate.LEAKAGE
    trials = leakage_gate.run(unit, config, backends) if search else module.run(unit, backends)
    commit, dirty = code_commit()
    provenance: Json = {
        "code_commit": commit, "dirty": dirty, "versions": package_versions(), "identity": unit.identity,
    }  # fmt: skip
    write_bundle(
        places.spool, unit, trials, backends.take_attachments(), host=host_name(), attempt=attempt,
        started_at=started, finished_at=datetime.now(UTC), provenance=provenance, key=key_of(places, host_name()),
    )  # fmt: skip
    delivery = store.deliver(places.spool)
    if delivery.waiting:
        log.warning("%d bundles wait in the spool of %s: %s", delivery.waiting, host_name(), delivery.reason)
    return len(trials)


def put_job(store: Store, run: Run, phase: str, units: Sequence[Unit]) -> str:
    """Leave units in the store as one content-addressed file, so that a shard's parameters stay small.

    Data of the user's goes there as well, for hosts that have not got it.
    """
    share_data(run.configs[phase].domain, store.put_file)
    job = {"run_id": run.run_id, "phase": phase, "units": [u.to_json() for u in units]}
    return store.put_file(canonical(job).encode())


def started(
    con: duckdb.DuckDBPyConnection, scale: str, phase: str, given: Mapping[str, Mapping[str, Any]] | None
) -> Run:
    """The run, with the verdicts of earlier phases whose units all have results from other runs.

    Raises:
        LabError: an earlier phase has to run first. A run that cannot start leaves nothing.
    """
    planned, _ = plan(scale, given)
    known = records.has_run(con, planned.run_id)
    run = open_run(con, scale, given)
    try:
        for earlier in list(PHASES)[: list(PHASES).index(phase)]:
            if records.verdict_of(con, run.run_id, earlier) is None:
                # One that cannot begin is none's business but of the phases that need it themselves.
                if _lacking(records.carried_of(con, run.run_id), earlier) or advance(con, run, earlier).pending:
                    break
                conclude(con, run, earlier)
        carried_into(con, run, phase)
    except LabError:
        if not known:
            records.forget_run(con, run.run_id, run.plan_id)
        raise
    return run


def expected_seconds(scale: str, given: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, float]:
    """Rough work of each phase on two cores, from the costs that units state; later rounds by the same rates."""
    run, _ = plan(scale, given)
    found = dict.fromkeys(PHASES, 0.0)
    for one in rounds_of(run.configs):
        found[one.phase] += sum(one.costs)
    return found
