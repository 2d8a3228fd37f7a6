"""The flow `shard`: some units of one phase on one host, each unit a task with retries."""

from __future__ import annotations

import json
from typing import Any

from prefect import flow, get_client, get_run_logger, task
from prefect.context import FlowRunContext

from experiments.backends.base import Backends
from experiments.contract import Unit
from experiments.environment import host_name
from experiments.errors import LabError
from flows.chain import run_unit
from flows.dispatch import HOST_TAG
from warehouse.places import Places
from warehouse.transport import Store


def _may_pass(task: Any, run: Any, state: Any) -> bool:
    """Retry what may pass; a user's mistake (other code, a missing model) will not."""
    try:
        state.result()
    except LabError:
        return False
    except Exception:
        return True
    return False


@task(
    task_run_name="{label}", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=_may_pass, persist_result=False
)
def work(label: str, unit: dict[str, Any], backends: Any, attempt: int) -> int:
    """Run one unit and deliver its bundle."""
    places = Places.here()
    trials = run_unit(Unit.from_json(unit), backends, places, Store.here(places), attempt)
    get_run_logger().info("%s: %d trials delivered", label, trials)
    return trials


def _say_where(phase: str, label: str) -> None:
    """Name this machine in the run's name and tags: people read the one, the pipeline the other."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(
            context.flow_run.id,
            name=f"{phase} · {label} · {host_name()}",
            tags=[*context.flow_run.tags, f"{HOST_TAG}{host_name()}"],
        )


@flow(name="shard", flow_run_name="{phase} · {label}", persist_result=False)
def shard(run_id: str, phase: str, label: str, job: str, unit_ids: list[str], attempt: int = 1) -> dict[str, Any]:
    """Run those of `unit_ids` that have no bundle yet.

    Args:
        run_id, phase, label: what the run is called in Prefect's pages.
        job: SHA-256 of the file in the results store that holds the units.
        unit_ids: the units that are this shard's part.
    """
    places = Places.here()
    store = Store.here(places)
    _say_where(phase, label)
    units = {u["unit_id"]: u for u in json.loads(store.get_file(job))["units"]}
    backends = Backends(store.get_file)
    log = get_run_logger()
    log.info("%s of run %s: %d units on %s, attempt %d", phase, run_id, len(unit_ids), host_name(), attempt)
    trials = 0
    for unit_id in unit_ids:
        if store.has_bundle(unit_id):
            log.info("unit %s already has a bundle", unit_id[:8])
            continue
        role = "/".join(
            str(units[unit_id]["spec"][k])
            for k in ("role", "part", "dataset", "condition")
            if k in units[unit_id]["spec"]
        )
        trials += work(f"{phase} {role} {unit_id[:8]}".replace("  ", " "), units[unit_id], backends, attempt)
    return {"host": host_name(), "units": len(unit_ids), "trials": trials}
