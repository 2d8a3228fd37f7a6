"""Automations of the Prefect server that mark a flow run as crashed when its heartbeats stop.

A run in Prefect stays Running when its machine dies. The pipeline watches its own shards; these automations serve for a
process that is stopped while its worker lives, for a pipeline that died itself, for shards whose pipeline is gone, and for
the hourly sync of a machine that died in it: a host with a sync under way is not asked for another.
"""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

# By tag of the flow run. prefect.yaml sets a heartbeat every 30 s, Prefect's least. A shard whose heartbeat is only late is
# computed again; the command that follows a pipeline would end, so that one has longer. Nobody waits for a sync.
HEARTBEAT_WITHIN = {"shard": timedelta(seconds=90), "pipeline": timedelta(seconds=300), "sync": timedelta(seconds=300)}
HEARTBEAT = "prefect.flow-run.heartbeat"
# Events that start the waiting. The server itself emits Running: the process may die before its first heartbeat.
BEGUN = ("prefect.flow-run.Running", HEARTBEAT)
# Events after which a run is alive, or needs no heartbeat any more.
ALIVE = (
    HEARTBEAT,
    *(
        f"prefect.flow-run.{name}"
        for name in "Completed Failed Crashed Cancelling Cancelled Paused Suspended AwaitingRetry".split()
    ),
)


def name_of(tag: str) -> str:
    """Return the name of the automation for runs with this tag, as in Prefect's pages."""
    return f"silent {tag}s have crashed"


def create_watches(client: Any) -> list[str]:
    """Create the automations that are missing. Two machines may do so at once.

    Args:
        client: a synchronous Prefect client.

    Returns:
        The names of the automations created.
    """
    made = []
    for tag in HEARTBEAT_WITHIN:
        if client.read_automations_by_name(name_of(tag)):
            continue
        client.create_automation(_watch(tag))
        made.append(name_of(tag))
        # Names need not be unique; of two created at once, both machines leave the one with the lower id.
        for double in sorted(client.read_automations_by_name(name_of(tag)), key=lambda a: str(a.id))[1:]:
            _delete(client, double.id)
    return made


def _delete(client: Any, automation_id: UUID) -> None:
    """Delete an automation that another machine may have deleted already."""
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    try:
        client.delete_automation(automation_id)
    except ObjectNotFound:
        return
    except PrefectHTTPStatusError as error:  # Prefect 3.8 raises it for a 404
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise


def _watch(tag: str) -> Any:
    """Return the automation that marks runs with this tag as crashed HEARTBEAT_WITHIN after their last event."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    within = HEARTBEAT_WITHIN[tag]
    return AutomationCore(
        name=name_of(tag),
        description=f"No heartbeat for {within.seconds} s. Units with a result are not computed again.",
        trigger=EventTrigger(
            after=set(BEGUN),
            expect=set(ALIVE),
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
