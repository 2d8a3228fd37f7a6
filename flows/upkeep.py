"""Small flows around the pipeline: assess a host, collect bundles, sync a spool."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.settings import PREFECT_API_URL

from warehouse.collector import collect
from warehouse.database import writing
from warehouse.durable import write_whole
from warehouse.places import Places
from warehouse.transport import Store
from workpools.assess import assess


@flow(name="assess-host", persist_result=False)
def assess_host(quick: bool = False) -> dict[str, Any]:
    """Measure this host, write its report and register it."""
    places = Places.here()
    report = assess(quick, PREFECT_API_URL.value())
    content = report.model_dump_json(indent=1).encode()
    write_whole(places.home / f"capability_report_{report.host}.json", content)
    Store.here(places).put_report(report.host, content)
    get_run_logger().info("%s: tier %s", report.host, report.tier)
    return {"host": report.host, "tier": report.tier}


@flow(name="collect", persist_result=False)
def collect_bundles() -> dict[str, int]:
    """Take the inbox into the warehouse and publish the snapshot."""
    places = Places.here()
    with writing(places, publish=True) as con:
        taken = collect(places, Store.here(places), con)
    return {"ingested": taken.ingested, "replicates": taken.replicates, "quarantined": len(taken.quarantined)}


@flow(name="sync", persist_result=False)
def sync() -> dict[str, Any]:
    """Deliver what waits in this host's spool."""
    places = Places.here()
    delivery = Store.here(places).deliver(places.spool)
    get_run_logger().info("delivered %d, waiting %d %s", delivery.delivered, delivery.waiting, delivery.reason or "")
    return {"delivered": delivery.delivered, "waiting": delivery.waiting}
