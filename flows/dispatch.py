"""Shards of a phase: cut, submitted to machines that fit, waited for, and given up when their machine goes silent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.states import Crashed

from experiments.contract import Unit
from experiments.errors import LabError
from experiments.registry import get_phase
from flows.chain import Run, put_job
from flows.forecast import registered
from warehouse.transport import Store
from workpools.hosts import HOST_TAG, UNNAMED, drained
from workpools.placement import Placement, fit_hosts, place
from workpools.pools import online_workers, queue_of
from workpools.report import CapabilityReport

POLL_S = 1.0
STATES_S = 2.0  # between two questions to the server about shards
WORKERS_S = 15.0  # between two about workers; Prefect calls one offline after about 80 s (measured)
WORKER_WAIT_S = 60.0  # workers that start together with the pipeline may be a little late
SHARD_SECONDS = 60.0  # a shard's overhead is about ten seconds (measured), so smaller ones do not pay
SHARDS_A_WORKER = 3  # where several share a pool: whoever is faster takes more of them
MOST_SHARDS = 24  # open at a time; 50 at once brought a server on SQLite to "database is locked" (measured)
SILENT = "its machine went silent"
GIVEN_BACK = "given back"  # begins what a shard says that ended without work, since its machine is the wrong one
OUT_OF_MEMORY = re.compile(r"out of memory|exited with status code: -9|can't allocate memory", re.IGNORECASE)


@dataclass(frozen=True)
class Shard:
    """A submitted shard."""

    flow_run_id: UUID
    pool: str
    unit_ids: tuple[str, ...] = ()
    host: str | None = None  # that it is meant for


@dataclass
class Outcome:
    """What went wrong with shards that ended, and what that means for their units."""

    wrong: list[str] = field(default_factory=list)
    given_back: set[str] = field(default_factory=set)  # units whose shard found itself on a machine that is not fit
    too_small: str | None = None  # the pool whose machine ran out of memory


def balance(units: Sequence[Unit], shards: int) -> list[list[Unit]]:
    """Units in `shards` parts of about equal cost (longest first onto the lightest part), each in its given order."""
    parts: list[list[int]] = [[] for _ in range(shards)]
    loads = [0.0] * shards
    for i in sorted(range(len(units)), key=lambda i: (-units[i].cost, i)):
        lightest = loads.index(min(loads))
        parts[lightest].append(i)
        loads[lightest] += units[i].cost
    return [[units[i] for i in sorted(part)] for part in parts if part]


def cut(units: Sequence[Unit], placed: Placement) -> list[tuple[list[Unit], str | None]]:
    """Parts of the units with the host that each is meant for; None where any worker of the pool may take it.

    Any worker may while all of the pool are fit: then there are more parts than workers, and the faster take more. Where
    some are not, parts are meant for those that are.
    """
    worth = max(1, round(sum(u.cost for u in units) / SHARD_SECONDS))
    if placed.unfit:
        parts = balance(units, min(len(placed.hosts), worth, MOST_SHARDS))
        return [(part, placed.hosts[i]) for i, part in enumerate(parts)]
    most = placed.workers if placed.workers == 1 else placed.workers * SHARDS_A_WORKER
    return [(part, None) for part in balance(units, min(most, len(units), worth, MOST_SHARDS))]


class Dispatcher:
    """Submits the shards of one pipeline run."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store = store
        self.run = run

    def hosts(self, phase: str) -> dict[str, Placement]:
        """Every host that the phase can be replicated on.

        Raises:
            LabError: no fit worker with a host's name is online.
        """
        module = get_phase(phase)
        return self._asked(lambda online, reports, off: fit_hosts(module.PROFILE, module.NEEDS, online, reports, off))

    def submit(self, phase: str, pending: Sequence[Unit], attempt: int, above: str | None = None) -> list[Shard]:
        """Cut the pending units into shards and submit them to the pool that fits.

        Raises:
            LabError: no worker that fits is online.
        """
        module = get_phase(phase)
        placed = self._asked(
            lambda online, reports, off: place(module.PROFILE, module.NEEDS, online, reports, above=above, drained=off)
        )
        return self._send(phase, placed, cut(pending, placed), attempt)

    def submit_to(self, phase: str, host: str, placed: Placement, units: Sequence[Unit], attempt: int) -> list[Shard]:
        """All units for one host, whoever has results of them already."""
        return self._send(phase, placed, [(list(units), host)], attempt, replicate=True)

    def _asked(self, choose: Callable[..., Any]) -> Any:
        deadline = time.monotonic() + WORKER_WAIT_S
        with get_client(sync_client=True) as client:
            while True:
                try:
                    return choose(online_workers(client), _reports(self.store), drained(client))
                except LabError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(POLL_S)

    def _send(
        self, phase: str, placed: Placement, parts: Sequence[tuple[list[Unit], str | None]], attempt: int,
        replicate: bool = False,
    ) -> list[Shard]:  # fmt: skip
        units = [u for part, _ in parts for u in part]
        job = put_job(self.store, self.run, phase, units)
        context = FlowRunContext.get()
        this = context.flow_run if context else None
        shards = []
        for i, (part, host) in enumerate(parts):
            ids = tuple(u.unit_id for u in part)
            submitted: Any = run_deployment(
                f"shard/{placed.pool}",
                parameters={
                    "run_id": self.run.run_id, "phase": phase, "label": f"shard {i + 1} of {len(parts)}", "job": job,
                    "unit_ids": list(ids), "attempt": attempt, "host": host, "quantized": placed.quantized,
                    "replicate": replicate,
                },
                timeout=0, tags=[self.run.run_id, phase, placed.pool],
                work_queue_name=queue_of(host) if host else None,
                # The pipeline's own retry must make a new shard, while a repeated call in one try must not.
                idempotency_key=f"{this.id if this else self.run.run_id}-{this.run_count if this else 0}-{job[:16]}-"
                f"{placed.pool}-{host or i}-{attempt}",
            )  # fmt: skip
            shards.append(Shard(submitted.id, placed.pool, ids, host))
        meant = sorted({host for _, host in parts if host})
        get_run_logger().info(
            "%s: %d units in %d shards to pool %s%s (%s)", phase, len(units), len(parts), placed.pool,
            f" for {', '.join(meant)}" if meant else "", placed.reason,
        )  # fmt: skip
        return shards


def _reports(store: Store) -> list[CapabilityReport]:
    """Registered reports that can be believed; what is wrong with the others goes to the log."""
    found, wrong = registered(store)
    for line in wrong:
        get_run_logger().warning("%s", line)
    return found


def wait_for(shards: Sequence[Shard], collected: Callable[[], bool]) -> Outcome:
    """Wait until `collected()` says that all is there, or every shard has ended; what went wrong with them.

    A shard's own word is not what counts: units are asked for again by whether they have a result. One whose machine has
    no worker online any more is marked as crashed and waited for no longer; should it wake up, its bundles do no harm.
    """
    states_at = workers_at = time.monotonic()
    open_shards = {s.flow_run_id: s for s in shards}
    outcome = Outcome()
    with get_client(sync_client=True) as client:
        while not collected():
            if not open_shards:
                # They delivered before they ended, and it was collected after that: there is no more to come.
                return outcome
            if time.monotonic() - states_at > STATES_S:
                states_at = time.monotonic()
                runs = {i: client.read_flow_run(i) for i in open_shards}
                _ended(open_shards, runs, outcome)
                if time.monotonic() - workers_at > WORKERS_S:
                    workers_at = time.monotonic()
                    _give_up_silent(client, open_shards, runs, outcome)
            time.sleep(POLL_S)
    return outcome


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
        if GIVEN_BACK in said:
            outcome.given_back.update(shard.unit_ids)
        elif OUT_OF_MEMORY.search(said):
            outcome.too_small = shard.pool
        get_run_logger().warning("%s", outcome.wrong[-1])


def _give_up_silent(client: Any, open_shards: dict[UUID, Shard], runs: dict[UUID, Any], outcome: Outcome) -> None:
    online = online_workers(client)
    for run_id, shard in list(open_shards.items()):
        if silent(runs[run_id].tags, online.get(shard.pool, []), shard.host):
            client.set_flow_run_state(run_id, Crashed(message=SILENT), force=True)
            del open_shards[run_id]
            outcome.wrong.append(f"{runs[run_id].name} crashed: {SILENT}")
            get_run_logger().warning("%s", outcome.wrong[-1])


def silent(tags: Sequence[str], workers: Sequence[str], meant_for: str | None = None) -> bool:
    """Whether nobody can be working on a shard with these tags: no worker of its pool is online, or not its machine's.

    A worker with a name of Prefect's own making may be on any machine.
    """
    host = next((t.removeprefix(HOST_TAG) for t in tags if t.startswith(HOST_TAG)), meant_for)
    if not workers or host is None:
        return not workers
    return host not in workers and not any(w.startswith(UNNAMED) for w in workers)
