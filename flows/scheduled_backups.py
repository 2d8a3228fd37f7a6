"""Backups that Prefect starts: the flow, and the schedule that `lab backup --every` gives its deployment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import flow, get_run_logger

from common.errors import LabError
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.backup import backed_up_within, backup_into
from warehouse.maintenance.clean import age_of
from warehouse.paths import Paths

DEPLOYMENT = "backup/coordinator"
SLUG = "lab-backup"  # of the schedule that `lab backup --every` makes; others of the deployment are left alone


def interval_of(every: str) -> timedelta:
    """Return the time span of --every; LabError if it is none."""
    interval = age_of(every, "--every")
    if not interval:
        raise LabError(f"--every {every!r:.40} is no time", "write 1h, 12h or 7d")
    return interval


@flow(name="backup", persist_result=False)
def backup(to: str, keep: int | None = None, every_s: float = 0) -> dict[str, Any]:
    """Write a backup of the warehouse into a folder or URL.

    Args:
        to: path or URL of the folder.
        keep: remove all but so many of this host's newest backups there.
        every_s: seconds between two scheduled backups. Where the newest is younger than half of that, none is written: of the
            runs that waited while the coordinator was off, only the first has something to do.
    """
    paths = Paths.local()
    if every_s and backed_up_within(paths, to, timedelta(seconds=every_s / 2)):
        get_run_logger().info("%s has a backup that is younger than %.0f s", to, every_s / 2)
        return {"path": None}
    store = Store.configured(paths)
    with writing(paths, publish=True) as con:
        collect(paths, store, con)
    done = backup_into(paths, store, to, keep)
    get_run_logger().info("%s: %d files, %d bytes; removed %s", done.path, done.files, done.size_bytes, done.removed)
    if done.damaged:
        raise LabError(f"{len(done.damaged)} files in {done.path} are damaged, first {done.damaged[0]}", "lab verify")
    return {"path": done.path, "removed": done.removed}


def schedule_backups(client: Any, to: str, every: str, keep: int | None) -> None:
    """Make this the schedule of the backups, in place of the one before.

    Args:
        client: a synchronous Prefect client.
        to: path or URL of the folder.
        every: 1h, 12h or 7d.
        keep: number of this host's backups that stay; None: all.

    Raises:
        LabError: the deployment is missing.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import IntervalSchedule

    stop_backups(client)
    interval = interval_of(every)
    given = {"to": to, "keep": keep, "every_s": interval.total_seconds()}
    made = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=interval), parameters=given, slug=SLUG)
    client.create_deployment_schedules(_deployment(client).id, [made])


def stop_backups(client: Any) -> bool:
    """Remove the schedule of the backups; return False if there was none.

    Raises:
        LabError: the deployment is missing.
    """
    deployment = _deployment(client)
    ours = [s for s in client.read_deployment_schedules(deployment.id) if s.slug == SLUG]
    for schedule in ours:
        client.delete_deployment_schedule(deployment.id, schedule.id)
    return bool(ours)


def _deployment(client: Any) -> Any:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(DEPLOYMENT)
    except ObjectNotFound:
        raise LabError(f"the server has no deployment {DEPLOYMENT}", "lab up, or prefect deploy --all") from None
