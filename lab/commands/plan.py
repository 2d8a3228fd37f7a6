"""The command `plan`: the machines, shares and durations of a run before it starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, NamedTuple

import typer

from common.errors import LabError
from common.text import duration, printable
from flows import plan as plans
from flows.forecast import forecast, in_each_precision, rounds_of
from flows.reports import registered
from lab.commands.options import AsJson, Config, Data, Domain, On, Scale, Settings, chosen
from lab.services.up import connected, known_api_url
from lab.tables import print_table
from warehouse.database.connection import writing
from warehouse.database.durations import predictions_of
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.assess import CapabilityReport
from workpools.example import example_reports
from workpools.hosts import HostState, host_states
from workpools.plan import REFERENCE_GFLOPS, UNMEASURED, Schedule, Stage, dominant, schedule
from workpools.roles import Pins
from workpools.tiers import TIERS

LISTED = 8  # machines of a phase that the table names, those that take longest; --json has all
LastRun = Mapping[str, tuple[float, float | None]]
Example = Annotated[bool, typer.Option("--example", help="Use three made-up machines instead of the registered ones.")]


def plan(
    context: typer.Context,
    scale: Scale = "demo",
    domain: Domain = None,
    data: Data = None,
    settings: Settings = None,
    as_json: AsJson = False,
    example: Example = False,
    on: On = None,
    config: Config = None,
) -> None:
    """Show how long each phase will take and on which machine; after a run, how long it took.

    Durations are computed from the measured speeds of the registered machines, and from recorded durations once a machine
    has run the phase.

    Example: lab plan --scale smoke --set p2.n_test=8
    """
    given = chosen(context, config, settings, domain, data, on)
    run, pins = plans.plan(given.scale, given.given).run, given.pins
    if example:
        _show_example(run, as_json, pins)
        return
    paths = Paths.local()
    store = Store.configured(paths)
    reports, wrong = registered(store)
    for text in wrong:
        print(printable(text), file=sys.stderr)
    if not reports:
        raise LabError(f"no machine is registered in {store.root}", "on each machine: lab assess")
    there = present(reports)
    # Without a warehouse there are no records of earlier work, and writing would create one.
    with writing(paths) if paths.warehouse.is_file() else nullcontext() as con:
        planned = forecast(run, there.reports, con, there.online, pins)
        free = forecast(run, there.reports, con, there.online) if pins else planned
        each = in_each_precision(run, there.reports, con, there.online, pins)
        last: LastRun = predictions_of(con, run.run_id) if con else {}
    if as_json:
        content = _as_json(run.run_id, planned, there.reports, last) | {"without_pins_s": free.seconds}
        print(json.dumps(content | {"by_precision_s": each, "left_out": there.left_out}, indent=1))
        return
    machines = f"{len(there.reports)} {there.kind} machine{'s' if len(there.reports) > 1 else ''}"
    _print_plan(f"run {run.run_id} on {machines}", planned, there.reports, last)
    if pins:
        print(cost_of_pins(planned, free))
    if there.left_out:
        print(printable(f"Not planned with: {'; '.join(f'{h} {why}' for h, why in there.left_out.items())}."))
    if there.remark:
        print(there.remark)
    if each:
        lasts = ", in ".join(f"{precision} {duration(seconds)}" for precision, seconds in each.items())
        print(f"In {lasts}: choose with --set precision=bfloat16 or auto.")


class Present(NamedTuple):
    """The machines that a plan counts on, and those that it does not."""

    reports: list[CapabilityReport]
    online: Mapping[str, Sequence[str]] | None  # by pool; None where that is not known
    left_out: Mapping[str, str]  # registered machines, with the reason
    remark: str = ""

    @property
    def kind(self) -> str:
        return "registered" if self.online is None else "online"


def present(reports: list[CapabilityReport]) -> Present:
    """Return the machines that would get work now; all registered ones where no server says which those are."""
    if known_api_url() is None:
        return Present(reports, None, {})
    try:
        rows = host_states(connected(), reports)
    except LabError as error:
        return Present(reports, None, {}, f"All registered machines are planned with: {error.what}.")
    registered_hosts = {r.host for r in reports}
    out = {row.host: why for row in rows if row.host in registered_hosts and (why := _absence(row))}
    if len(out) == len(reports):
        return Present(reports, None, {}, "None of them is online; the plan is for when all are.")
    online: dict[str, Sequence[str]] = {
        tier: [row.host for row in rows if tier in row.pools and row.host not in out] for tier in TIERS
    }
    return Present([r for r in reports if r.host not in out], online, out)


def _absence(row: HostState) -> str:
    """Return why a machine gets no work, "" if it does."""
    if row.status in ("draining", "drained"):
        return f"is drained (lab undrain {row.host})"
    if row.status == "offline":
        return "is offline"
    return f"was left out: {row.fault}" if row.fault else ""


def cost_of_pins(planned: Schedule, free: Schedule) -> str:
    """Return the sentence about what --on costs: where a pinned phase has no machine, that is the cost."""
    more = planned.seconds - free.seconds
    if _missing(planned) != _missing(free):
        return f"With --on {_listed([p for p in _missing(planned) if p not in _missing(free)])} has no machine."
    if more < 0:
        return f"With --on the run is {duration(-more)} shorter."
    return f"With --on the run is {duration(more)} longer: {duration(free.seconds)} without it."


def _show_example(run: Any, as_json: bool, pins: Pins) -> None:
    reports, rounds = example_reports(), rounds_of(run.configs)
    planned = schedule(rounds, reports, pins=pins)
    alone = {r.host: schedule(rounds, [r]) for r in reports}
    if as_json:
        content = _as_json(run.run_id, planned, reports, {})
        content["alone"] = {
            host: {"expected_s": None if _missing(own) else own.seconds, "no_machine": _missing(own)}
            for host, own in alone.items()
        }
        print(json.dumps(content, indent=1))
        return
    _print_plan(f"scale {run.scale} on three made-up machines of 4, 8 and 16 GB", planned, reports, {})
    if pins:
        print(cost_of_pins(planned, schedule(rounds, reports)))
    print("\nThe same on one machine alone:")
    for host, own in alone.items():
        if missing := _missing(own):
            print(f"  {host:<8} cannot run {_listed(missing)}")
            continue
        saved = 1 - planned.seconds / own.seconds
        print(f"  {host:<8} {duration(own.seconds)}; the three together save {100 * saved:.0f} %")


def _missing(planned: Schedule) -> list[str]:
    """Return the phases that no machine can run, in order."""
    return list(dict.fromkeys(s.round.phase for s in planned.stages if s.pool is None))


def _listed(phases: Sequence[str]) -> str:
    return ", ".join(p.upper() for p in phases)


def _idle(planned: Schedule, reports: Sequence[CapabilityReport]) -> list[str]:
    busy = {share.host for stage in planned.stages for share in stage.shares}
    return [r.host for r in reports if r.host not in busy]


class MachineShare(NamedTuple):
    """The part of a phase that one machine does."""

    machine: str
    shards: int
    units: int
    expected_s: float
    speed_from: list[str]  # the basis of its speed in each round, without repetition
    speed: float  # over all rounds, as a multiple of the reference machine's


def _machines(stages: Sequence[Stage]) -> list[MachineShare]:
    """Return each machine's share of a phase, the longest first."""
    found = []
    for host in dict.fromkeys(share.host for stage in stages for share in stage.shares):
        own = [(stage, share) for stage in stages for share in stage.shares if share.host == host]
        shares = [share for _, share in own]
        work = [sum(stage.round.costs[i] for i in share.units) for stage, share in own]
        found.append(
            MachineShare(
                machine=host,
                shards=sum(s.shards for s in shares),
                units=sum(len(s.units) for s in shares),
                expected_s=sum(s.seconds for s in shares),
                speed_from=list(dict.fromkeys(s.speed.basis for s in shares)),
                speed=sum(work) / sum(w / s.speed.factor for w, s in zip(work, shares, strict=True)),
            )
        )
    return sorted(found, key=lambda share: (-share.expected_s, share.machine))


def _as_json(run_id: str, planned: Schedule, reports: Sequence[CapabilityReport], last: LastRun) -> dict[str, Any]:
    phases = []
    for phase, stages in planned.phases.items():
        predicted_s, actual_s = last.get(phase, (None, None))
        rounds = [
            {
                "round": s.round.number,
                "name": s.round.name,
                "pool": s.pool,
                "reason": s.reason,
                "precision": s.round.precision,
                "units": len(s.round.costs),
                "expected_s": s.seconds if s.pool else None,
                "lower_bound_s": s.lower_bound_s if s.pool else None,
                "shards": sum(x.shards for x in s.shares),
            }
            for s in stages
        ]
        phases.append(
            {
                "phase": phase,
                "pool": stages[0].pool,
                "machines": [m._asdict() for m in _machines(stages)],
                "rounds": rounds,
                "expected_s": sum(s.seconds for s in stages) if all(s.pool for s in stages) else None,
                "last_run": None if actual_s is None else {"predicted_s": predicted_s, "actual_s": actual_s},
            }
        )
    found = dominant(planned)
    return {
        "run_id": run_id,
        "machines": [{"machine": r.host, "tier": r.tier} for r in reports],
        "phases": phases,
        "expected_s": planned.seconds,
        "no_machine": _missing(planned),
        "idle": _idle(planned, reports),
        "dominates": found
        and {
            "phase": found.stage.round.phase,
            "round": found.stage.round.name,
            "share": found.of_all,
            "cause": found.cause,
            "machine": found.last.host,
        },
    }


def _print_plan(title: str, planned: Schedule, reports: Sequence[CapabilityReport], last: LastRun) -> None:
    columns = ["phase", "pool", "machine", "shards", "units", "speed", "on it", "in all"]
    if any(actual is not None for _, actual in last.values()):
        columns.append("last run")
    rows: list[list[str]] = []
    for phase, stages in planned.phases.items():
        if not all(s.pool for s in stages):
            rows.append([phase.upper(), "none fits"])
            continue
        precision = stages[0].round.precision
        first = [phase.upper(), f"{stages[0].pool}{'' if precision == 'float32' else f', {precision}'}"]
        ends = [duration(sum(s.seconds for s in stages)), _last(*last.get(phase, (0.0, None)))]
        machines = _machines(stages)
        for m in machines[:LISTED]:
            speed = f"{m.speed:.3g} ({', '.join(m.speed_from)})"
            rows.append([*first, m.machine, str(m.shards), str(m.units), speed, duration(m.expected_s), *ends])
            first, ends = ["", ""], []
        if len(machines) > LISTED:
            rows.append(["", "", f"and {len(machines) - LISTED} more"])
    cells = [[*row, *[""] * len(columns)][: len(columns)] for row in rows]
    print_table(title, columns, cells, right=("shards", "units"))
    for line in sentences(planned, reports):
        print(printable(line))


def _last(predicted_s: float, actual_s: float | None) -> str:
    return "" if actual_s is None else f"{duration(actual_s)}, expected {duration(predicted_s)}"


def sentences(planned: Schedule, reports: Sequence[CapabilityReport]) -> list[str]:
    """Return the lines below the table: total, longest part, phases without a machine, idle machines, missing measurements."""
    missing = _missing(planned)
    without = f", without {_listed(missing)}" if missing else ""
    found = [f"In all {duration(planned.seconds)}{without}."]
    if dominates := dominance(planned):
        found.append(dominates)
    found += _placements(planned)
    first = {s.round.phase: s for s in reversed(planned.stages)}
    for phase, stage in reversed(first.items()):
        if stage.pool is None:
            found.append(f"{phase.upper()} has no machine: {stage.reason}.")
    if idle := _idle(planned, reports):
        found.append(f"Not used, since it cannot run a phase or would save too little: {_some(idle)}.")
    shares = [share for stage in planned.stages for share in stage.shares]
    if unmeasured := list(dict.fromkeys(s.host for s in shares if s.speed.basis == UNMEASURED)):
        found.append(f"Not measured, so speed 1 is assumed: {_some(unmeasured)}. On these machines: lab assess")
    found.append(f"Speed 1 is the machine on which costs were measured: two cores, {REFERENCE_GFLOPS:.0f} GFLOPS.")
    return found


def _placements(planned: Schedule) -> list[str]:
    """Return a line for each reason why rounds go where they go, with their names."""
    reasons: dict[str, list[str]] = {}
    for stage in planned.stages:
        if stage.pool is not None and stage.fit > 1:
            reasons.setdefault(stage.reason, []).append(f"{stage.round.phase.upper()} {stage.round.name}")
    return [f"{', '.join(names)}: {reason}." for reason, names in reasons.items()]


def _some(hosts: Sequence[str]) -> str:
    more = f" and {len(hosts) - LISTED} more" if len(hosts) > LISTED else ""
    return ", ".join(hosts[:LISTED]) + more


def dominance(planned: Schedule) -> str:
    """Return the sentence about the part that takes longest and why; empty if no phase has a machine."""
    found = dominant(planned)
    if found is None:
        return ""
    stage, host = found.stage, found.last.host
    n = len(stage.shares)
    together = f"on {n} machines" if n > 1 else "on one machine, since dividing it would save too little"
    why = {
        "one machine": f"all of it on {host}, the only machine that can run it",
        "one unit": f"its longest unit alone takes that on {host}, and a unit is not divided",
        "all the work": f"{len(stage.round.costs)} units {together}, {host} ends last",
    }[found.cause]
    what = f"{stage.round.phase.upper()} {stage.round.name}"
    return f"The longest part: {what}, {duration(stage.seconds)} ({100 * found.of_all:.0f} %), {why}."
