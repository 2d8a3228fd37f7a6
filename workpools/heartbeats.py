"""The automations that mark runs as crashed whose process has gone silent, so that nobody waits for them for ever.

A run in Prefect stays Running when its machine dies. The pipeline watches its shards itself; these serve for a process that is
stopped while its worker lives, for a pipeline that died itself, for shards whose pipeline is gone, and for the hourly sync of a
machine that died in it: a host with a sync under way is not asked for another.
"""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

# prefect.yaml asks each run of these flows for a heartbeat every 30 s, Prefect's least.
# One that is only late costs a shard that is computed again, but a pipeline its follower: so that one is given longer. Nobody
# waits for a sync.
SILENT_AFTER = {"shard": timedelta(seconds=90), "pipeline": timedelta(seconds=300), "sync": timedelta(seconds=300)}
HEARTBEAT = "prefect.flow-run.heartbeat"
# What begins the waiting. The server itself says that a run is running: its process may die before its first heartbeat.
BEGUN = ("prefect.flow-run.Running", HEARTBEAT)
# Any of them says that the run is alive, or that it needs no heartbeat any more.
SIGNS = (
    HEARTBEAT,
    *(
        f"prefect.flow-run.{name}"
        for name in (
            "Completed",
            "Failed",
            "Crashed",
            "Cancelling",
            "Cancelled",
            "Paused",
            "Suspended",
            "AwaitingRetry",
        )
    ),
)


def name_of(tag: str) -> str:
    """What the automation for runs with this tag is called in Prefect's pages."""
    return f"silent {tag}s have crashed"


def create_watches(client: Any) -> list[str]:
    """Make the automations that are not there; the names of what was made. Two machines may do so at once."""
    made = []
    for tag in SILENT_AFTER:
        if client.read_automations_by_name(name_of(tag)):
            continue
        client.create_automation(_watch(tag))
        made.append(name_of(tag))
        # Names need not be unique, so of two that were made at once both machines keep the same one.
        for double in sorted(client.read_automations_by_name(name_of(tag)), key=lambda a: str(a.id))[1:]:
            _delete(client, double.id)
    return made


def _delete(client: Any, automation_id: UUID) -> None:
    """Gone is gone: the other machine may have been faster."""
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    try:
        client.delete_automation(automation_id)
    except ObjectNotFound:
        return
    except PrefectHTTPStatusError as error:  # what Prefect 3.8 raises here for a 404
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise


def _watch(tag: str) -> Any:
    """Crashed, for each run with the tag, when no sign of it came for a while after it began or after a heartbeat."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    within = SILENT_AFTER[tag]
    return AutomationCore(
        name=name_of(tag),
        description=f"No heartbeat for {within.seconds} s. What has a result is not computed again.",
        trigger=EventTrigger(
            after=set(BEGUN),
            expect=set(SIGNS),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
            ),
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {within.seconds} s")],
    )
