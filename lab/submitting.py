"""Submit the pipeline to Prefect's server, and stop pipelines that are under way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from common.errors import LabError
from lab.services.serving import COORDINATOR
from workpools.pipelines import TAG, UNDER_WAY, run_of

if TYPE_CHECKING:
    from uuid import UUID

    from flows.plan import Run
    from workpools.server_rows import RunRow

STOP_S = 60.0  # a worker ends a flow within ten; later, nobody runs it
AGAIN_S = 0.5
BY_A_USER = "stopped by a user"


@dataclass(frozen=True)
class How:
    """A pipeline's parameters beside its plan."""

    override: str | None = None  # the reason to go on after a gate that is not PASS
    mode: str = "split"  # or replicate
    until: str | None = None  # the last phase to run; all unless given
    pins: Mapping[str, str] | None = None  # the host or tier that gets a phase, by phase
    source: str | None = None  # the file that has the values, and its digest


class Submitted(NamedTuple):
    """A flow run of the pipeline."""

    id: UUID
    name: str
    joined: bool  # it was under way already


class Stopped(NamedTuple):
    """The pipelines that were stopped, and the number of their shards."""

    pipelines: tuple[str, ...]  # ids of runs, or names of flow runs that have none yet
    shards: int


def submit(client: Any, run: Run, how: How) -> Submitted:
    """Submit the pipeline of a planned run, or find the same one under way.

    Args:
        client: a synchronous Prefect client.
        run: the planned run.
        how: its other parameters.

    Raises:
        LabError: the server has no such deployment.
    """
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Scheduled

    from workpools.hosts import unfinished
    from workpools.server_rows import flow_runs

    parameters: dict[str, Any] = {
        "scale": run.scale,
        "override": how.override,
        "config": run.given or None,
        "mode": how.mode,
    }
    parameters |= {"until": how.until} if how.until else {}
    parameters |= {"on": dict(how.pins)} if how.pins else {}
    parameters |= {"source": how.source} if how.source else {}
    try:
        deployment = client.read_deployment_by_name(f"pipeline/{run.scale}")
    except ObjectNotFound:
        raise LabError(f"pipeline/{run.scale} is not deployed on this server", "prefect deploy --all") from None
    under_way = flow_runs(client, unfinished(deployment_id={"any_": [str(deployment.id)]}))
    same = [r for r in under_way if all(r.parameters.get(k) == v for k, v in parameters.items())]
    if same:
        return Submitted(same[0].id, same[0].name, joined=True)
    new = client.create_flow_run_from_deployment(
        deployment.id, parameters=parameters, state=Scheduled(), tags=[run.run_id]
    )
    return Submitted(new.id, new.name, joined=False)


def start(client: Any, run: Run, how: How) -> Submitted:
    """Submit the pipeline as `submit` does, without following it.

    Raises:
        LabError: as for submit, or no worker is online that would begin it.
    """
    from workpools.pools import online_workers

    if not online_workers(client).get(COORDINATOR):
        raise untaken()
    return submit(client, run, how)


def untaken() -> LabError:
    """Return the error for a pipeline that no worker begins."""
    return LabError("no worker took the pipeline", "prefect worker start --pool coordinator, or lab up")


def stop(client: Any, run_id: str | None = None) -> Stopped:
    """Cancel a pipeline and its shards; results that are there stay, and starting it again goes on from them.

    Args:
        client: a synchronous Prefect client.
        run_id: the run; the only one under way unless given.

    Raises:
        LabError: it is not under way, or several are and none is named.
    """
    from workpools.hosts import unfinished
    from workpools.server_rows import flow_runs

    under_way = list(flow_runs(client, unfinished(UNDER_WAY, tags={"all_": [TAG]})))
    chosen = _chosen(under_way, run_id)
    # Its shards first, the pipeline would submit them again.
    _cancel(client, chosen)
    runs = [found for row in chosen if (found := run_of(row.tags))]
    shards = [s for r in runs for s in flow_runs(client, unfinished(UNDER_WAY, tags={"all_": ["shard", r]}))]
    _cancel(client, shards)
    return Stopped(tuple(run_of(row.tags) or row.name for row in chosen), len(shards))


def _chosen(under_way: Sequence[RunRow], run_id: str | None) -> list[RunRow]:
    names = list(dict.fromkeys(run_of(row.tags) or row.name for row in under_way))
    if not names:
        raise LabError("no pipeline is under way", "lab pipeline starts one")
    if run_id is None and len(names) > 1:
        raise LabError(f"{len(names)} pipelines are under way: {', '.join(names)}", f"lab stop {names[0]}")
    chosen = [row for row in under_way if run_id in (None, run_of(row.tags))]
    if not chosen:
        raise LabError(f"run {str(run_id)[:80]!r} is not under way, but {', '.join(names)}", f"lab stop {names[0]}")
    return chosen


def _cancel(client: Any, rows: Sequence[RunRow]) -> None:
    """Have workers end flow runs; what nobody ends within STOP_S is marked, since its machine is gone."""
    from prefect.states import Cancelled, Cancelling

    for row in rows:
        client.set_flow_run_state(row.id, Cancelling(message=BY_A_USER))
    left = _left_after(client, [row.id for row in rows], STOP_S)
    for flow_run_id in left:
        client.set_flow_run_state(flow_run_id, Cancelled(message=f"{BY_A_USER}; no worker ended it"), force=True)


def _left_after(client: Any, ids: Sequence[UUID], wait_s: float) -> list[UUID]:
    """Return which flow runs have not ended when the time is up."""
    from workpools.server_rows import flow_run

    deadline, left = time.monotonic() + wait_s, list(ids)
    while True:
        states = {i: flow_run(client, i).state for i in left}
        left = [i for i, state in states.items() if state is None or not state.is_final()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(AGAIN_S)
