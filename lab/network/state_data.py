"""What a joined machine may store as the result of a run: nothing, or a reference that names the JSON serializer.

Prefect's client takes each `data` with a storage_key for a reference to a result. It fails for one that it cannot read, and with
it every command that lists runs; without the name of a serializer it takes the result for a pickle; and the server makes an
artifact of it, under any key that `data` names.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError


class JsonSerializer(BaseModel):
    """Prefect's JSON serializer with its own defaults: another decoder would be a module that the reader imports."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json"]
    jsonlib: Literal["json"] = "json"
    object_encoder: Literal["prefect.serializers.prefect_json_object_encoder"] | None = None
    object_decoder: Literal["prefect.serializers.prefect_json_object_decoder"] | None = None
    dumps_kwargs: dict[str, Any] = Field(default_factory=dict, max_length=0)
    loads_kwargs: dict[str, Any] = Field(default_factory=dict, max_length=0)


class ResultReference(BaseModel):
    """The fields of Prefect's ResultRecordMetadata; the key is a plain name, never a path."""

    model_config = ConfigDict(extra="forbid")

    storage_key: str = Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")
    serializer: JsonSerializer
    expiration: AwareDatetime | None = None
    prefect_version: str = Field(default="", pattern=r"^[A-Za-z0-9.+-]{0,40}$")
    storage_block_id: UUID | None = None


def problem(state: Any) -> str | None:
    """Return why a joined machine may not set this state, None if it may.

    Args:
        state: as Prefect's API takes it, parsed from JSON.
    """
    if not isinstance(state, dict):
        return "no state"
    data = state.get("data")
    if data is None:
        return None
    if not isinstance(data, dict):
        return "a result that is no reference in JSON"
    try:
        ResultReference.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"a result that is not written as JSON: {'.'.join(map(str, first['loc']))!r:.80}"
    return None


def problem_of_event(event: Any) -> str | None:
    """Return why a joined machine may not send this event, None if it may: the server makes states of task runs from events."""
    payload = event.get("payload") if isinstance(event, dict) else None
    if not isinstance(payload, dict):
        return "an event without a payload" if payload is not None else None
    task_run = payload.get("task_run")
    states = [payload.get("validated_state"), payload.get("initial_state")]
    states += [task_run.get("state")] if isinstance(task_run, dict) else []
    return next(filter(None, map(problem, (s for s in states if s is not None))), None)
