"""Shards of a phase: cut, submitted to the pool that fits, waited for, and given up when their machine goes silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from warehouse.transport import Store
from workpools.assess import CapabilityReport, parse_report
from workpools.placement import Placement, place
from workpools.pools import online_workers

POLL_S = 1.0
STATES_S = 2.0  # between two questions to the server about shards
WORKERS_S = 15.0  # between two about workers; Prefect calls one offline after about 80 s (measured)
WORKER_WAIT_S = 60.0  # workers that start together with the pipeline may be a little late
SHARD_SECONDS = 60.0  # a shard's overhead is about ten seconds (measured), so smaller ones do not pay
SILENT = "its machine went silent"
HOST_TAG = "host:"  # a shard says with it where it runs


@dataclass(frozen=True)
class Shard:
    """A submitted shard."""

    flow_run_id: UUID
    pool: str


def balance(units: Sequence[Unit], shards: int) -> list[list[Unit]]:
    """Units in `shards` parts of about equal cost (longest first onto the lightest part), each in its given order."""
    parts: list[list[int]] = [[] for _ in range(shards)]
    loads = [0.0] * shards
    for i in sorted(range(len(units)), key=lambda i: (-units[i].cost, i)):
        lightest = loads.index(min(loads))
        parts[lightest].append(i)
        loads[lightest] += units[i].cost
    return [[units[i] for i in sorted(part)] for part in parts if part]


def submit(store: Store, run: Run, phase: str, pending: Sequence[Unit], attempt: int) -> list[Shard]:
    """Cut the pending units into shards, at most one a worker, and submit them to the pool that fits.

    Raises:
        LabError: no worker that fits is online.
    """
    with get_client(sync_client=True) as client:
        placed = _placed(client, phase, _reports(store))
    count = max(1, min(placed.workers, len(pending), round(sum(u.cost for u in pending) / SHARD_SECONDS)))
    job = put_job(store, run, phase, pending)
    context = FlowRunContext.get()
    this = context.flow_run if context else None
    shards = []
    for i, part in enumerate(balance(pending, count)):
        submitted: Any = run_deployment(
            f"shard/{placed.pool}",
            parameters={
                "run_id": run.run_id, "phase": phase, "label": f"shard {i + 1} of {count}", "job": job,
                "unit_ids": [u.unit_id for u in part], "attempt": attempt,
            },
            timeout=0, tags=[run.run_id, phase, placed.pool],
            # The pipeline's own retry must make a new shard, while a repeated call in one try must not.
            idempotency_key=f"{this.id if this else run.run_id}-{this.run_count if this else 0}-{job[:16]}-{i}-{attempt}",
        )  # fmt: skip
        shards.append(Shard(submitted.id, placed.pool))
    get_run_logger().info(
        "%s: %d units in %d shards to pool %s (%s)", phase, len(pending), count, placed.pool, placed.reason
    )
    return shards


def _placed(client: Any, phase: str, reports: Sequence[CapabilityReport]) -> Placement:
    module = get_phase(phase)
    deadline = time.monotonic() + WORKER_WAIT_S
    while True:
        try:
            return place(module.PROFILE, module.NEEDS, online_workers(client), reports)
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def _reports(store: Store) -> list[CapabilityReport]:
    found = []
    for _, content in store.reports():
        try:
            found.append(parse_report(content))
        except LabError as error:
            get_run_logger().warning("%s", error)
    return found


def wait_for(shards: Sequence[Shard], collected: Callable[[], bool]) -> list[str]:
    """Wait until `collected()` says that all is there, or every shard has ended; returns what went wrong with them.

    A shard's own word is not what counts: units are asked for again by whether they have a result. One whose machine has
    no worker online any more is marked as crashed and waited for no longer; should it wake up, its bundles do no harm.
    """
    states_at = workers_at = time.monotonic()
    open_shards = {s.flow_run_id: s for s in shards}
    wrong: list[str] = []
    with get_client(sync_client=True) as client:
        while not collected():
            if not open_shards:
                # They delivered before they ended, and it was collected after that: there is no more to come.
                return wrong
            if time.monotonic() - states_at > STATES_S:
                states_at = time.monotonic()
                runs = {i: client.read_flow_run(i) for i in open_shards}
                wrong += _ended(open_shards, runs)
                if time.monotonic() - workers_at > WORKERS_S:
                    workers_at = time.monotonic()
                    wrong += _give_up_silent(client, open_shards, runs)
            time.sleep(POLL_S)
    return wrong


def _ended(open_shards: dict[UUID, Shard], runs: dict[UUID, Any]) -> list[str]:
    """Take the shards that have ended out of the open ones; what those that failed say."""
    wrong = []
    for run_id, run in runs.items():
        if run.state is not None and run.state.is_final():
            del open_shards[run_id]
            if not run.state.is_completed():
                wrong.append(f"{run.name} {run.state.name.lower()}: {run.state.message or 'no message'}")
                get_run_logger().warning("%s", wrong[-1])
    return wrong


def _give_up_silent(client: Any, open_shards: dict[UUID, Shard], runs: dict[UUID, Any]) -> list[str]:
    online = online_workers(client)
    wrong = []
    for run_id, shard in list(open_shards.items()):
        if silent(runs[run_id].tags, online.get(shard.pool, [])):
            client.set_flow_run_state(run_id, Crashed(message=SILENT), force=True)
            del open_shards[run_id]
            wrong.append(f"{runs[run_id].name} crashed: {SILENT}")
            get_run_logger().warning("%s", wrong[-1])
    return wrong


def silent(tags: Sequence[str], workers: Sequence[str]) -> bool:
    """Whether nobody can be working on a shard with these tags: no worker of its pool is online, or not its machine's.

    A worker with a name of Prefect's own making ("ProcessWorker ...") may be on any machine.
    """
    host = next((t.removeprefix(HOST_TAG) for t in tags if t.startswith(HOST_TAG)), None)
    if not workers or host is None:
        return not workers
    return host not in workers and not any(w.startswith("ProcessWorker") for w in workers)
