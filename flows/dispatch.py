"""Cut the units of a phase into shards, submit them to machines that fit, and wait for them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from common.environment import is_host
from common.errors import LabError
from experiments.backends.placement import TOO_BIG
from experiments.contract import Unit
from flows.chain import put_job
from flows.forecast import speeds_at
from flows.plan import Run
from flows.reports import registered
from flows.unit_run import OUT_OF_MEMORY
from warehouse.database.connection import writing
from warehouse.database.records import Assignment, assign
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.faults import GIVEN_BACK, Fault, fault_in
from workpools.hosts import HOST_TAG, UNNAMED, drained
from workpools.needs import demand
from workpools.placement import Placement, fit_hosts, out_of_use, place
from workpools.pools import online_workers, queue_of
from workpools.report import CapabilityReport
from workpools.roles import Pins, elsewhere, with_roles
from workpools.server_rows import StateRow, flow_run
from workpools.shards import cut

POLL_S = 0.25  # between two looks at what has arrived, a list of a folder
STATES_S = 2.0  # between two questions to the server about shards
WORKERS_S = 15.0  # between two about workers; Prefect calls one offline after about 80 s (measured)
NOT_BEGUN_S = 90.0  # a free worker takes it within about ten; longer, and the machine it is meant for is busy or stuck
# From being taken to the flow's first line: 22 s on two busy cores (measured), of which a Raspberry Pi has a ninth of the speed.
BEGINNING = timedelta(minutes=10)
WORKER_WAIT_S = 60.0  # workers that start together with the pipeline may be a little late
NO_HEARTBEATS = "its machine sends no heartbeats"
STRAY = re.compile(rf"{GIVEN_BACK} by ([a-z0-9-]{{1,63}}): meant for ")
Chosen = TypeVar("Chosen")


class UnitOnHost(NamedTuple):
    """A unit, and the host that it is replicated on; None where any host's result will do."""

    unit_id: str
    host: str | None = None


@dataclass(frozen=True)
class Shard:
    """A submitted shard."""

    flow_run_id: UUID
    pool: str
    unit_ids: tuple[str, ...] = ()
    host: str | None = None  # that it is meant for
    replicate: bool = False
    at: float = 0.0  # when it was submitted, by the monotonic clock

    @property
    def attempted(self) -> set[UnitOnHost]:
        """Its units, each with the host whose own result is asked for."""
        return {UnitOnHost(unit_id, self.host if self.replicate else None) for unit_id in self.unit_ids}


class Stray(NamedTuple):
    """A shard that came to another machine than it was meant for."""

    meant_for: str
    taken_by: str


@dataclass
class Outcome:
    """Errors of shards that ended, and what follows for their units."""

    errors: list[str] = field(default_factory=list)
    failed: bool = False  # at least one shard was not only given back
    given_back: set[UnitOnHost] = field(default_factory=set)  # of shards that ran on a machine that does not fit
    too_small: dict[str, str] = field(default_factory=dict)  # by unit, the pool whose machine has too little memory
    faults: list[Fault] = field(default_factory=list)  # of machines that gave shards back
    strays: list[Stray] = field(default_factory=list)


class Dispatcher:
    """Submits the shards of one pipeline run, and waits for them.

    One client throughout: it retries, ever more slowly, while a server that answered before is gone.
    """

    def __init__(self, store: Store, run: Run, pins: Pins | None = None) -> None:
        self.client = get_client(sync_client=True)
        self.store = store
        self.run = run
        self.pins = pins or {}
        self.open_shards: dict[UUID, Shard] = {}  # submitted, and neither ended nor given up
        self.faults: dict[str, Fault] = {}  # of machines that get no more work in this run
        self._sent: set[str] = set()  # units that were submitted before
        self._named: set[str] = set()  # workers whose name no machine can have, and of which the log has a line

    def under_way(self) -> set[UnitOnHost]:
        """Return the units of open shards."""
        return {one for shard in self.open_shards.values() for one in shard.attempted}

    def at_work(self) -> list[str]:
        """Return the hosts that open shards are meant for, by name."""
        return sorted({shard.host for shard in self.open_shards.values() if shard.host})

    def hosts(self, phase: str) -> dict[str, Placement]:
        """Return every online host that the phase can be replicated on, each with its placement; refuse if there is none."""
        profile, needs = demand(phase, self.run.configs[phase])
        return self._when_online(phase, lambda online, reports, off: fit_hosts(profile, needs, online, reports, off))

    def left_out(self, host: str, phase: str) -> bool:
        """Return True if this machine gets no units of the phase in this run, since something is wrong with it."""
        return host in self.faults and self.faults[host].concerns(phase)

    def submit(self, phase: str, pending: Sequence[Unit], attempt: int, above: str | None = None) -> None:
        """Cut the pending units into shards and submit them to the pool that fits; refuse if no fit worker is online.

        The tier `above` was too small for them. Where no bigger one has a worker they are submitted there again: something
        else may have ended them.
        """
        profile, needs = demand(phase, self.run.configs[phase])

        def choose(online: Any, reports: Any, off: Any) -> Placement:
            if above is not None:
                with suppress(LabError):
                    return place(profile, needs, online, reports, above=above, excluded=off)
            return place(profile, needs, online, reports, excluded=off)

        placed, reports = self._when_online(phase, choose), _reports(self.store)
        with writing(Paths.local()) as con:
            speeds = speeds_at(self.run, phase, pending, reports, con)
        again = any(u.unit_id in self._sent for u in pending)
        if not again:
            placed = with_roles(placed, [u.cost for u in pending], speeds, {r.host: r.tier for r in reports})
        parts = cut([u.cost for u in pending], placed, speeds, len(self.open_shards), again)
        shards = [Assignment([pending[i] for i in p.units], placed.pool, p.host, attempt) for p in parts]
        self._send(phase, placed, shards)

    def submit_to(self, phase: str, host: str, placed: Placement, units: Sequence[Unit], attempt: int) -> None:
        """Submit all units to one host, whoever has results of them already."""
        self._send(phase, placed, [Assignment(list(units), placed.pool, host, attempt)], replicate=True)

    def _when_online(self, phase: str, choose: Callable[[Any, Any, Any], Chosen]) -> Chosen:
        """Return choose(online workers, reports, excluded hosts); wait WORKER_WAIT_S for a worker that fits."""
        deadline, logged = time.monotonic() + WORKER_WAIT_S, False
        while True:
            online, reports = online_workers(self.client), _reports(self.store)
            self._log_nameless(online)
            workers = {name for names in online.values() for name in names}
            off = (
                elsewhere(self.pins, phase, workers, reports)
                | out_of_use(drained(self.client))
                | {f.host: f"is left out of {f.of}: {f.why}" for f in self.faults.values() if f.concerns(phase)}
            )
            try:
                return choose(online, reports, off)
            except LabError as error:
                if time.monotonic() > deadline:
                    raise
                if not logged:
                    get_run_logger().warning("%s; waiting up to %.0f s for one", error, WORKER_WAIT_S)
                logged = True
                time.sleep(STATES_S)

    def _log_nameless(self, online: Mapping[str, Sequence[str]]) -> None:
        """Log each worker once whose name no machine can have: nothing can be meant for it, or compared by it."""
        for pool, names in online.items():
            for name in {n for n in names if not is_host(n) and n not in self._named}:
                self._named.add(name)
                how = "takes part in no comparison of machines" if name.startswith(UNNAMED) else "gets no work"
                mend = f"prefect worker start --pool {pool} --name HOST, as lab hosts names the machine"
                get_run_logger().warning("worker %r %s, since that is no name of a host. %s", name[:80], how, mend)

    def _send(self, phase: str, placed: Placement, shards: Sequence[Assignment], replicate: bool = False) -> None:
        units = [u for shard in shards for u in shard.units]
        job = put_job(self.store, self.run, phase, units)
        context = FlowRunContext.get()
        this = context.flow_run if context else None
        same = {"run_id": self.run.run_id, "phase": phase, "job": job}
        for i, shard in enumerate(shards):
            ids, host = tuple(u.unit_id for u in shard.units), shard.host
            own = {"label": f"shard {i + 1} of {len(shards)}", "unit_ids": list(ids), "attempt": shard.attempt}
            submitted: Any = run_deployment(
                f"shard/{placed.pool}",
                parameters=same | own | {"host": host, "replicate": replicate},
                timeout=0,
                tags=[self.run.run_id, phase, placed.pool],
                work_queue_name=queue_of(host) if host else None,
                # A retry of the pipeline must make a new shard, while a repeated call in one attempt must not.
                idempotency_key=f"{this.id if this else self.run.run_id}-{this.run_count if this else 0}-{job[:16]}-"
                f"{placed.pool}-{host or i}-{shard.attempt}",
            )
            self.open_shards[submitted.id] = Shard(submitted.id, placed.pool, ids, host, replicate, time.monotonic())
            self._sent.update(ids)
        with writing(Paths.local()) as con:
            assign(con, self.run.run_id, shards)
        hosts = ", ".join(sorted({shard.host for shard in shards if shard.host}))
        where = f"pool {placed.pool}{f' for {hosts}' if hosts else ''} ({placed.reason})"
        get_run_logger().info("%s: %d units in %d shards to %s", phase, len(units), len(shards), where)

    def wait(self, collected: Callable[[], bool]) -> Outcome:
        """Wait until `collected()` is true, or a shard has failed, or all have ended.

        After a failure the other shards are not waited for, or the failed units would lie until the slowest is done. Units
        that were given back are submitted with the next that end: submitted at once, the same busy machine would take them
        again. A shard's state does not count as a result: units are submitted again by whether they have a bundle. A shard
        whose machine has no worker online is marked as crashed; should it wake up, its bundles do no harm. A shard that its
        machine does not begin is taken back, for whoever is free.
        """
        states_at = workers_at = time.monotonic()
        outcome = Outcome()
        while not collected():
            if not self.open_shards or outcome.failed:
                # Ended shards delivered before they ended, and that was collected since: no more bundles come of them.
                return outcome
            if time.monotonic() - states_at > STATES_S:
                states_at = time.monotonic()
                runs = {i: flow_run(self.client, i) for i in self.open_shards}
                take_ended(self.open_shards, runs, outcome)
                if len(self.open_shards) < len(runs):
                    self.store.look_soon()  # what an ended shard has computed is there
                self._leave_out([*outcome.faults, *self._misnamed(outcome.strays)])
                if time.monotonic() - workers_at > WORKERS_S:
                    workers_at = time.monotonic()
                    _crash_abandoned(self.client, self.open_shards, runs, outcome)
                    _take_back(self.client, self.open_shards, runs, outcome)
            time.sleep(POLL_S)
        self.open_shards.clear()
        return outcome

    def cancel(self, own: UUID) -> None:
        """Cancel the open shards if their pipeline, the flow run `own`, is being cancelled.

        The server itself would do so up to 20 s after the pipeline's process has ended.
        """
        with get_client(sync_client=True) as client:  # the other one may have been interrupted in a request
            state = flow_run(client, own).state
            if state is None or state.type != "CANCELLING":
                return
            for run_id in self.open_shards:
                with suppress(ObjectNotFound):
                    client.set_flow_run_state(run_id, Cancelling(message="its pipeline was cancelled"))

    def _misnamed(self, strays: Sequence[Stray]) -> list[Fault]:
        """Return the workers that are named after another machine than theirs: it gives back what is meant for the name."""
        online = {name for names in online_workers(self.client).values() for name in names} if strays else set()
        if any(name.startswith(UNNAMED) for name in online):
            return []  # it polls all queues, and may have taken them
        return [
            Fault(meant, f"the worker of this name is on {by}. on {by}: prefect worker start --name {by}")
            for meant, by in strays
            if by not in online
        ]

    def _leave_out(self, faults: Sequence[Fault]) -> None:
        """Remember machines that get no more work, the whole run before one phase, and log each once."""
        for fault in faults:
            before = self.faults.get(fault.host)
            if before is None or not before.concerns(fault.of):
                self.faults[fault.host] = fault
                get_run_logger().error("%s is left out of %s: %s", fault.host, fault.of, fault.why)


def _reports(store: Store) -> list[CapabilityReport]:
    """Return the valid registered reports; log the problems of the others."""
    found = registered(store)
    for line in found.problems:
        get_run_logger().warning("%s", line)
    return found.reports


def take_ended(open_shards: dict[UUID, Shard], runs: dict[UUID, Any], outcome: Outcome) -> None:
    """Remove ended shards from `open_shards`, and add the errors of failed ones to `outcome`."""
    for run_id, run in runs.items():
        if run.state is None or not run.state.is_final():
            continue
        shard = open_shards.pop(run_id)
        if run.state.is_completed():
            continue
        message = run.state.message or "no message"
        _log_error(outcome, f"{run.name} {run.state.name.lower()}: {message}")
        if GIVEN_BACK in message:
            outcome.given_back |= shard.attempted
            if shard.host and (stray := STRAY.search(message)):
                outcome.strays.append(Stray(shard.host, stray[1]))
            fault = fault_in(message)
            if fault and shard.host in (None, fault.host):
                outcome.faults.append(fault)
                outcome.failed = True  # its units are submitted again at once: they do not go there
            if TOO_BIG in message:
                outcome.too_small |= dict.fromkeys(shard.unit_ids, shard.pool)
            continue
        outcome.failed = True
        if OUT_OF_MEMORY.search(message):
            outcome.too_small |= dict.fromkeys(shard.unit_ids, shard.pool)


def _log_error(outcome: Outcome, error: str) -> None:
    outcome.errors.append(error)
    get_run_logger().warning("%s", error)


def _crash_abandoned(client: Any, open_shards: dict[UUID, Shard], runs: dict[UUID, Any], outcome: Outcome) -> None:
    """Mark shards as crashed whose machine has no worker online."""
    online = online_workers(client)
    for run_id, shard in list(open_shards.items()):
        if without_worker(runs[run_id].tags, online.get(shard.pool, []), shard.host):
            _crash(client, open_shards, run_id, NO_HEARTBEATS, outcome)
            _log_error(outcome, f"{runs[run_id].name} crashed: {NO_HEARTBEATS}")


def _take_back(client: Any, open_shards: dict[UUID, Shard], runs: dict[UUID, Any], outcome: Outcome) -> None:
    """Take back shards that have not begun in time."""
    for run_id, shard in list(open_shards.items()):
        if why := not_begun(shard, runs[run_id].state):
            message = f"{GIVEN_BACK}: {why}"
            _crash(client, open_shards, run_id, message, outcome)
            outcome.given_back |= shard.attempted
            _log_error(outcome, f"{runs[run_id].name} {message}")


def not_begun(shard: Shard, state: StateRow | None) -> str | None:
    """Return why a shard is not waited for any longer; None while it is.

    One that a worker has taken, Pending, is beginning, which takes long on a slow machine. It is lost after BEGINNING: its worker
    was started anew meanwhile. One that no worker has taken waits NOT_BEGUN_S for the machine that it is meant for; in a
    comparison of machines for as long as it takes.
    """
    if state and state.type == "PENDING":
        lost = state.timestamp and datetime.now(UTC) - state.timestamp > BEGINNING
        return f"a worker took it and did not begin it within {BEGINNING.seconds // 60} min" if lost else None
    waits = state is None or state.type == "SCHEDULED"
    if shard.host is None or shard.replicate or not waits or time.monotonic() - shard.at < NOT_BEGUN_S:
        return None
    return f"{shard.host} did not take it within {NOT_BEGUN_S:.0f} s"


def _crash(client: Any, open_shards: dict[UUID, Shard], run_id: UUID, message: str, outcome: Outcome) -> None:
    client.set_flow_run_state(run_id, Crashed(message=message), force=True)
    del open_shards[run_id]
    outcome.failed = True  # its units are submitted again at once


def without_worker(tags: Sequence[str], workers: Sequence[str], meant_for: str | None = None) -> bool:
    """Return True if no worker that could be running a shard is online; one that Prefect named may be on any machine.

    The flow run's tags name the host that it runs on, once it has begun; until then `meant_for` is the one.
    """
    host = next((t.removeprefix(HOST_TAG) for t in tags if t.startswith(HOST_TAG)), meant_for)
    if not workers or host is None:
        return not workers
    return host not in workers and not any(w.startswith(UNNAMED) for w in workers)
