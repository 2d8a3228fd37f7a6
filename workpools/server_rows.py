"""Flow runs, workers and artifacts as Prefect's server lists them, each read and checked by itself.

Joined machines write states, names and tags, and the server stores more than Prefect's client can read: with one such run in
a list, the client fails for the whole list. Here it costs a line in the log. Results of states (`data`) are not read at all,
since reading one may unpickle it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from common.errors import LabError
from common.text import printable

PAGE = 200  # rows that the server gives at once (PREFECT_SERVER_API_DEFAULT_LIMIT)
SHOWN = 2_000  # characters of a name or message; the server stores megabytes
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
Kind = Literal["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
Row = TypeVar("Row", bound=BaseModel)
log = logging.getLogger(__name__)


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)

    @field_validator("name", "message", mode="after", check_fields=False)
    @classmethod
    def _cut(cls, value: str | None) -> str | None:
        return value[:SHOWN] if value else value


class StateRow(_Row):
    """The state of a flow run, without its result."""

    type: Kind
    name: str
    message: str | None = None
    timestamp: AwareDatetime | None = None  # since when, by the server's clock

    def is_final(self) -> bool:
        """Return True for a run that has ended."""
        return self.type in FINAL

    def is_completed(self) -> bool:
        """Return True for a run that ended well."""
        return self.type == "COMPLETED"

    def is_waiting(self) -> bool:
        """Return True for a run that no process has begun."""
        return self.type in ("SCHEDULED", "PENDING")


class RunRow(_Row):
    """A flow run."""

    id: UUID
    name: str
    tags: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    state: StateRow | None = None
    auto_scheduled: bool = False
    infrastructure_pid: str | None = None
    work_pool_name: str | None = None
    start_time: AwareDatetime | None = None
    expected_start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None


class WorkerRow(_Row):
    """A worker of a pool."""

    name: str
    status: str  # ONLINE, OFFLINE
    last_heartbeat_time: AwareDatetime | None = None


class ArtifactRow(_Row):
    """An artifact."""

    id: UUID
    data: str


def readable(model: type[Row], rows: Any) -> list[Row]:
    """Return the rows that can be read; log a line for each other one, once.

    Args:
        model: of this module.
        rows: the server's answer, parsed from JSON.

    Raises:
        LabError: the answer is no list.
    """
    if not isinstance(rows, list):
        raise LabError("the Prefect server's answer is not a list", "lab status")
    found = []
    for row in rows:
        try:
            found.append(model.model_validate(row))
        except ValidationError as error:
            named = row.get("id") or row.get("name") if isinstance(row, dict) else row
            _log_once(model.__name__.removesuffix("Row").lower(), f"{named!r:.80}", _first(error))
    return found


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]


@lru_cache(maxsize=1024)
def _log_once(what: str, named: str, why: str) -> None:
    log.warning("%s", printable(f"{what} {named} of the Prefect server is left out, since it cannot be read: {why}"))


def flow_runs(client: Any, wanted: Mapping[str, Any], sort: str = "START_TIME_ASC") -> Iterator[RunRow]:
    """Read all flow runs that meet a condition, page by page.

    Args:
        client: a synchronous Prefect client.
        wanted: Prefect's filter of flow runs, as JSON.
        sort: one of Prefect's orders.
    """
    offset, more = 0, True
    while more:
        body = {"flow_runs": dict(wanted), "sort": sort, "limit": PAGE, "offset": offset}
        rows = client.request("POST", "/flow_runs/filter", json=body).json()
        yield from readable(RunRow, rows)
        offset, more = offset + len(rows), len(rows) == PAGE


def flow_run(client: Any, run_id: UUID) -> RunRow:
    """Read one flow run; one that cannot be read has no state, and a line is logged.

    Raises:
        ObjectNotFound: the server does not know it.
    """
    import httpx
    from prefect.exceptions import ObjectNotFound

    try:
        row = client.request("GET", f"/flow_runs/{run_id}").json()
    except httpx.HTTPStatusError as error:
        if error.response.status_code == HTTPStatus.NOT_FOUND:
            raise ObjectNotFound(error) from error
        raise
    return next(iter(readable(RunRow, [row])), RunRow(id=run_id, name=str(run_id)))


def states(client: Any, run_id: UUID) -> list[StateRow]:
    """Read all states that a flow run has had, the first one first."""
    rows = client.request("GET", "/flow_run_states/", params={"flow_run_id": str(run_id)}).json()
    return readable(StateRow, rows)


def workers(client: Any, pool: str) -> list[WorkerRow]:
    """Read the workers of a pool that exists, the 200 with the latest heartbeats."""
    return readable(WorkerRow, client.request("POST", f"/work_pools/{pool}/workers/filter", json={}).json())


def artifacts(client: Any, key: str, flow_run_id: UUID | None = None) -> list[ArtifactRow]:
    """Read the artifacts with this key, the newest first; only those of one flow run if it is given."""
    wanted: dict[str, Any] = {"key": {"any_": [key]}}
    if flow_run_id is not None:
        wanted["flow_run_id"] = {"any_": [str(flow_run_id)]}
    body = {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 1}
    return readable(ArtifactRow, client.request("POST", "/artifacts/filter", json=body).json())
