"""Progress of a pipeline: a table artifact of its flow run, which `lab pipeline` reads on any machine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from workpools.server_rows import artifacts

if TYPE_CHECKING:
    from uuid import UUID

UPDATE_S = 1.0  # at least, between two updates on the server


class PhaseProgress(BaseModel):
    """One row of the table: units done, hosts at work, the verdict once it is decided, and lines about reused units."""

    model_config = ConfigDict(frozen=True, strict=True)

    phase: str
    done: int = Field(ge=0)
    total: int
    verdict: str = ""
    reason: str = ""
    hosts: tuple[str, ...] = ()  # that have units of it now
    reuse: str = ""  # lines joined by line ends

    @model_validator(mode="after")
    def _ordered(self) -> PhaseProgress:
        if self.done > self.total:
            raise ValueError("more units are done than there are")
        return self


@dataclass(frozen=True)
class Progress:
    """The table of one attempt of a flow run, one row a phase in order."""

    artifact_id: str
    phases: Sequence[PhaseProgress]

    @property
    def lines(self) -> list[str]:
        """Lines about reused units, in the order in which they were reported."""
        return [line for row in self.phases for line in row.reuse.splitlines()]


ROWS = TypeAdapter(list[PhaseProgress])
KEY = "progress-{}"  # of the artifact, with the run's id


class ProgressTable:
    """Writes the table of this flow run: a new phase or line at once, counts at most every UPDATE_S.

    A server that does not answer is asked again by the next call: the table is only for people.
    """

    def __init__(self, client: Any, run_id: str, flow_run_id: UUID | None) -> None:
        self._client = client
        self._run_id = run_id
        self._flow_run_id = flow_run_id  # None outside a flow run: nothing is written
        self._artifact_id: UUID | None = None
        self._rows: dict[str, PhaseProgress] = {}
        self._written: list[PhaseProgress] = []
        self._written_at = float("-inf")

    def report(self, phase: str, done: int, total: int, lines: Sequence[str] = (), hosts: Sequence[str] = ()) -> None:
        """Set the counts of a phase and the hosts that are at work on it, and add lines about its units."""
        before = self._rows.get(phase)
        reuse = "\n".join(filter(None, (before.reuse if before else "", *lines)))
        self._rows[phase] = PhaseProgress(phase=phase, done=done, total=total, hosts=tuple(hosts), reuse=reuse)
        self.flush(at_once=before is None or bool(lines))

    def decide(self, phase: str, verdict: str, reason: str) -> None:
        """Add the verdict of a phase that was reported before."""
        self._rows[phase] = self._rows[phase].model_copy(update={"verdict": verdict, "reason": reason, "hosts": ()})
        self.flush(at_once=True)

    def flush(self, at_once: bool = False) -> None:
        """Write what changed since the last update, unless that was less than UPDATE_S ago."""
        rows = list(self._rows.values())
        early = not at_once and time.monotonic() - self._written_at < UPDATE_S
        if self._flow_run_id is None or rows == self._written or early:
            return
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        data = json.dumps([row.model_dump() for row in rows])
        self._written_at = time.monotonic()
        with suppress(httpx.HTTPError), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            if self._artifact_id is None:
                key, description = KEY.format(self._run_id), f"Progress of run {self._run_id}"
                artifact = ArtifactCreate(
                    key=key, type="table", description=description, data=data, flow_run_id=self._flow_run_id
                )
                self._artifact_id = self._client.create_artifact(artifact).id
            else:
                self._client.update_artifact(self._artifact_id, ArtifactUpdate(data=data))
            self._written = rows


def read_progress(client: Any, run_id: str, flow_run_id: UUID | None = None) -> Progress | None:
    """Return the newest progress table of a run.

    Args:
        client: a synchronous Prefect client.
        run_id: the run whose pipeline reports.
        flow_run_id: read only the tables of this flow run.

    Returns:
        None where there is none yet, or it cannot be read.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    for artifact in artifacts(client, KEY.format(run_id), flow_run_id):
        with suppress(ValidationError):
            return Progress(str(artifact.id), ROWS.validate_json(artifact.data))
    return None
