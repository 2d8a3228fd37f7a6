"""Shards of a phase: cut, submitted to machines that fit, waited for, and given up when their machine goes silent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.states import Crashed

from common.errors import LabError
from experiments.contract import Unit
from experiments.registry import get_phase
from flows.chain import put_job
from flows.forecast import registered, speeds_at
from flows.plan import Run
from warehouse.database.connection import writing
from warehouse.database.records import Assignment, assign
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.hosts import HOST_TAG, UNNAMED, drained
from workpools.needs import needs_of
from workpools.placement import Placement, fit_hosts, place
from workpools.pools import online_workers, queue_of
from workpools.report import CapabilityReport
from workpools.shards import cut

POLL_S = 1.0
STATES_S = 2.0  # between two questions to the server about shards
WORKERS_S = 15.0  # between two about workers; Prefect calls one offline after about 80 s (measured)
NOT_BEGUN_S = 90.0  # a free worker begins within about ten; longer, and the machine it is meant for is busy or stuck
WORKER_WAIT_S = 60.0  # workers that start together with the pipeline may be a little late
SILENT = "its machine went silent"
GIVEN_BACK = "given back"  # begins what a shard says that ended without work, since its machine is the wrong one
OUT_OF_MEMORY = re.compile(r"out of memory|exited with status code: -9|can't allocate memory", re.IGNORECASE)

Try = tuple[str, str | None]  # a unit, and the host that it is replicated on or None


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
    def tried(self) -> set[Try]:
        """Its units, each with the host whose own results are asked for; None where anybody's will do."""
        return {(unit_id, self.host if self.replicate else None) for unit_id in self.unit_ids}


@dataclass
class Outcome:
    """What went wrong with shards that ended, and what that means for their units."""

    wrong: list[str] = field(default_factory=list)
    failed: bool = False  # one of them at least was not only given back
    given_back: set[Try] = field(default_factory=set)  # of shards that found themselves on a machine that is not fit
    too_small: dict[str, str] = field(default_factory=dict)  # by unit, the pool whose machine ran out of memory


class Dispatcher:
    """Submits the shards of one pipeline run, and waits for them.

    One client throughout: it asks again, ever more slowly, while a server that answered it before is gone.
    """

    def __init__(self, store: Store, run: Run) -> None:
        self.client = get_client(sync_client=True)
        self.store = store
        self.run = run
        self._open: dict[UUID, Shard] = {}  # submitted, and neither ended nor given up
        self._sent: set[str] = set()  # units that were submitted before

    def under_way(self) -> set[Try]:
        """What a shard is at work on, or waits to be."""
        return {one for shard in self._open.values() for one in shard.tried}

    def hosts(self, phase: str) -> dict[str, Placement]:
        """Every host that the phase can be replicated on.

        Raises:
            LabError: no fit worker with a host's name is online.
        """
        profile, needs = self._asks(phase)
        return self._asked(lambda online, reports, off: fit_hosts(profile, needs, online, reports, off))

    def submit(self, phase: str, pending: Sequence[Unit], attempt: int, above: str | None = None) -> None:
        """Cut the pending units into shards and submit them to the pool that fits.

        Args:
            above: a tier that was too small for them. Where no bigger one has a worker they are tried there again: what
                ended them may have been something else.

        Raises:
            LabError: no worker that fits is online.
        """
        profile, needs = self._asks(phase)

        def choose(online: Any, reports: Any, off: Any) -> Placement:
            if above is not None:
                with suppress(LabError):
                    return place(profile, needs, online, reports, above=above, drained=off)
            return place(profile, needs, online, reports, drained=off)

        placed = self._asked(choose)
        with writing(Paths.local()) as con:
            speeds = speeds_at(self.run, phase, pending, _reports(self.store), con)
        again = any(u.unit_id in self._sent for u in pending)
        parts = cut([u.cost for u in pending], placed, speeds, len(self._open), again)
        self._send(phase, placed, [([pending[i] for i in p.units], p.host) for p in parts], attempt)

    def submit_to(self, phase: str, host: str, placed: Placement, units: Sequence[Unit], attempt: int) -> None:
        """All units for one host, whoever has results of them already."""
        self._send(phase, placed, [(list(units), host)], attempt, replicate=True)

    def _asks(self, phase: str) -> tuple[str, tuple[str, ...]]:
        """(profile, needs) of a phase with this run's model."""
        module = get_phase(phase)
        return module.PROFILE, needs_of(module.NEEDS, self.run.configs[phase].model)

    def _asked(self, choose: Callable[..., Any]) -> Any:
        deadline, said = time.monotonic() + WORKER_WAIT_S, False
        while True:
            try:
                return choose(online_workers(self.client), _reports(self.store), drained(self.client))
            except LabError as error:
                if time.monotonic() > deadline:
                    raise
                if not said:
                    get_run_logger().warning("%s; it may still come within %.0f s", error, WORKER_WAIT_S)
                said = True
                time.sleep(POLL_S)

    def _send(
        self,
        phase: str,
        placed: Placement,
        parts: Sequence[tuple[list[Unit], str | None]],
        attempt: int,
        replicate: bool = False,
    ) -> None:
        units = [u for part, _ in parts for u in part]
        job = put_job(self.store, self.run, phase, units)
        context = FlowRunContext.get()
        this = context.flow_run if context else None
        for i, (part, host) in enumerate(parts):
            ids = tuple(u.unit_id for u in part)
            submitted: Any = run_deployment(
                f"shard/{placed.pool}",
                parameters={
                    "run_id": self.run.run_id,
                    "phase": phase,
                    "label": f"shard {i + 1} of {len(parts)}",
                    "job": job,
                    "unit_ids": list(ids),
                    "attempt": attempt,
                    "host": host,
                    "quantized": placed.quantized,
                    "replicate": replicate,
                },
                timeout=0,
                tags=[self.run.run_id, phase, placed.pool],
                work_queue_name=queue_of(host) if host else None,
                # The pipeline's own retry must make a new shard, while a repeated call in one try must not.
                idempotency_key=f"{this.id if this else self.run.run_id}-{this.run_count if this else 0}-{job[:16]}-"
                f"{placed.pool}-{host or i}-{attempt}",
            )
            self._open[submitted.id] = Shard(submitted.id, placed.pool, ids, host, replicate, time.monotonic())
            self._sent.update(ids)
        with writing(Paths.local()) as con:
            assign(con, self.run.run_id, [Assignment(u, placed.pool, host, attempt) for u, host in parts])
        meant = sorted({host for _, host in parts if host})
        get_run_logger().info(
            "%s: %d units in %d shards to pool %s%s (%s)",
            phase,
            len(units),
            len(parts),
            placed.pool,
            f" for {', '.join(meant)}" if meant else "",
            placed.reason,
        )

    def wait(self, collected: Callable[[], bool]) -> Outcome:
        """Wait until `collected()` says that all is there, or a shard has failed, or all have ended.

        With a failed one the others are not waited for, or its units would lie until the slowest is done. What was given back
        is asked for again with the next that ends: the machine that is too busy now would only take it at once. A shard's own
        word is not what counts: units are asked for again by whether they have a result. One whose machine has no worker
        online any more is marked as crashed and waited for no longer; should it wake up, its bundles do no harm. One that the
        machine it is meant for does not begin is taken back, for whoever is free.
        """
        states_at = workers_at = time.monotonic()
        outcome = Outcome()
        while not collected():
            if not self._open or outcome.failed:
                # They delivered before they ended, and it was collected after that: there is no more to come of these.
                return outcome
            if time.monotonic() - states_at > STATES_S:
                states_at = time.monotonic()
                runs = {i: self.client.read_flow_run(i) for i in self._open}
                _ended(self._open, runs, outcome)
                if time.monotonic() - workers_at > WORKERS_S:
                    workers_at = time.monotonic()
                    _give_up_silent(self.client, self._open, runs, outcome)
                    _take_back(self.client, self._open, runs, outcome)
            time.sleep(POLL_S)
        self._open.clear()
        return outcome


def _reports(store: Store) -> list[CapabilityReport]:
    """Registered reports that can be believed; what is wrong with the others goes to the log."""
    found, wrong = registered(store)
    for line in wrong:
        get_run_logger().warning("%s", line)
    return found


def _ended(open_shards: dict[UUID, Shard], runs: dict[UUID, Any], outcome: Outcome) -> None:
    """Take the shards that have ended out of the open ones; what those that failed say."""
    for run_id, run in runs.items():
        if run.state is None or not run.state.is_final():
            continue
        shard = open_shards.pop(run_id)
        if run.state.is_completed():
            continue
        said = run.state.message or "no message"
        outcome.wrong.append(f"{run.name} {run.state.name.lower()}: {said}")
        get_run_logger().warning("%s", outcome.wrong[-1])
        if GIVEN_BACK in said:
            outcome.given_back |= shard.tried
            continue
        outcome.failed = True
        if OUT_OF_MEMORY.search(said):
            outcome.too_small |= dict.fromkeys(shard.unit_ids, shard.pool)


def _give_up_silent(client: Any, open_shards: dict[UUID, Shard], runs: dict[UUID, Any], outcome: Outcome) -> None:
    online = online_workers(client)
    for run_id, shard in list(open_shards.items()):
        if silent(runs[run_id].tags, online.get(shard.pool, []), shard.host):
            client.set_flow_run_state(run_id, Crashed(message=SILENT), force=True)
            del open_shards[run_id]
            outcome.failed = True
            outcome.wrong.append(f"{runs[run_id].name} crashed: {SILENT}")
            get_run_logger().warning("%s", outcome.wrong[-1])


def _take_back(client: Any, open_shards: dict[UUID, Shard], runs: dict[UUID, Any], outcome: Outcome) -> None:
    """Shards that the machine they are meant for has not begun. A comparison of machines waits for them."""
    for run_id, shard in list(open_shards.items()):
        state = runs[run_id].state
        waits = state is None or state.is_scheduled() or state.is_pending()
        if shard.host is None or shard.replicate or not waits or time.monotonic() - shard.at < NOT_BEGUN_S:
            continue
        said = f"{GIVEN_BACK}: {shard.host} did not begin it within {NOT_BEGUN_S:.0f} s"
        client.set_flow_run_state(run_id, Crashed(message=said), force=True)
        del open_shards[run_id]
        outcome.failed = True  # it is asked for at once
        outcome.given_back |= shard.tried
        outcome.wrong.append(f"{runs[run_id].name} {said}")
        get_run_logger().warning("%s", outcome.wrong[-1])


def silent(tags: Sequence[str], workers: Sequence[str], meant_for: str | None = None) -> bool:
    """Whether nobody can be working on a shard with these tags: no worker of its pool is online, or not its machine's.

    A worker with a name of Prefect's own making may be on any machine.
    """
    host = next((t.removeprefix(HOST_TAG) for t in tags if t.startswith(HOST_TAG)), meant_for)
    if not workers or host is None:
        return not workers
    return host not in workers and not any(w.startswith(UNNAMED) for w in workers)
