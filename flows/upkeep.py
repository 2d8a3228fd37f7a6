"""Small flows beside the pipeline: assess a host, collect bundles, deliver a spool."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_client, get_run_logger
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL

from common.environment import HOST_PATTERN, host_name
from common.files import write_whole
from common.logs import rotate
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.assess import assess
from workpools.hosts import unfinished
from workpools.pools import online_workers, queue_of
from workpools.server_rows import flow_runs
from workpools.tiers import TIERS

SYNC_TAG = "sync:"  # with the host that is meant to deliver


@flow(name="assess-host", persist_result=False)
def assess_host(quick: bool = False) -> dict[str, Any]:
    """Measure this host, write its report and register it."""
    paths = Paths.local()
    report = assess(quick, PREFECT_API_URL.value())
    content = report.model_dump_json(indent=1).encode()
    write_whole(paths.home / f"capability_report_{report.host}.json", content)
    Store.configured(paths).put_report(report.host, content)
    get_run_logger().info("%s: tier %s", report.host, report.tier)
    return {"host": report.host, "tier": report.tier}


@flow(name="collect", persist_result=False)
def collect_bundles() -> dict[str, int]:
    """Ingest the inbox into the warehouse and publish the snapshot."""
    paths = Paths.local()
    with writing(paths, publish=True) as con:
        taken = collect(paths, Store.configured(paths), con)
    return {"ingested": taken.ingested, "replicates": taken.replicates, "quarantined": len(taken.quarantined)}


@flow(name="sync", persist_result=False)
def sync(everywhere: bool = False) -> dict[str, Any]:
    """Deliver this host's spool, and rotate its logs.

    Args:
        everywhere: make every other online machine deliver its own as well.
    """
    paths, log = Paths.local(), get_run_logger()
    store = Store.configured(paths)
    found = store.deliver(paths.spool)
    reason = f": {found.reason}" if found.reason else ""
    delivered = f"delivered {found.delivered} ({found.size_bytes} bytes)"
    log.info("to %s: %s, waiting %d%s", store.where, delivered, found.waiting, reason)
    rotate(paths.home / "logs")
    asked = _ask_others() if everywhere else []
    return {"delivered": found.delivered, "waiting": found.waiting, "reason": found.reason, "asked": asked}


def _ask_others() -> list[str]:
    """Submit a sync run for each other machine; one with such a run under way is busy, and delivers as it works."""
    asked: list[str] = []
    with get_client(sync_client=True) as client:
        for pool, workers in online_workers(client).items():
            for host in workers:
                if pool not in TIERS or host in (*asked, host_name()) or not HOST_PATTERN.fullmatch(host):
                    continue
                tag = f"{SYNC_TAG}{host}"
                if next(flow_runs(client, unfinished(tags={"all_": [tag]})), None) is None:
                    run_deployment(
                        f"sync/{pool}", timeout=0, as_subflow=False, work_queue_name=queue_of(host), tags=["sync", tag]
                    )
                    asked.append(host)
    return asked
