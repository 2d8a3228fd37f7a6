"""States that a joined machine may set: none whose result a reader could trip over, import or unpickle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.network.auth_proxy import ASKED, AuthProxy, Passwords, Refused, check_body
from lab.network.state_data import problem

Message = MutableMapping[str, Any]
ID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
JSON_SERIALIZER = {
    "type": "json",
    "jsonlib": "json",
    "object_encoder": "prefect.serializers.prefect_json_object_encoder",
    "object_decoder": "prefect.serializers.prefect_json_object_decoder",
    "dumps_kwargs": {},
    "loads_kwargs": {},
}
GOOD = {"storage_key": "0f" * 16, "serializer": JSON_SERIALIZER, "prefect_version": "3.8.8", "expiration": None}
BAD = {
    "a key that is no text": {"storage_key": {"a": 1}},
    "no serializer, which means pickle": {"storage_key": "x"},
    "a pickle": GOOD | {"serializer": {"type": "pickle"}},
    "a compressed one": GOOD | {"serializer": {"type": "compressed/json"}},
    "another library": GOOD | {"serializer": JSON_SERIALIZER | {"jsonlib": "os"}},
    "another decoder": GOOD | {"serializer": JSON_SERIALIZER | {"object_decoder": "os.system"}},
    "arguments of the decoder": GOOD | {"serializer": JSON_SERIALIZER | {"loads_kwargs": {"object_hook": "os.system"}}},
    "a name for a serializer": GOOD | {"serializer": "pickle"},
    "none": GOOD | {"serializer": None},
    "a path": GOOD | {"storage_key": "../../../etc/passwd"},
    "an artifact": {"artifact_key": "verdict-r1-p1", "artifact_type": "markdown"},
    "an artifact besides": GOOD | {"artifact_key": "verdict-r1-p1"},
    "a text": "text",
    "a list": [],
    "zero": 0,
}


@pytest.mark.parametrize("name", BAD)
def test_a_result_that_is_no_reference_in_json_is_refused_wherever_it_is_sent(name: str) -> None:
    """With one such state lab up, hosts and drain ended in tracebacks for good, and an artifact had another's key."""
    state = {"type": "COMPLETED", "data": BAD[name]}
    payload = {"validated_state": state}
    for path, body in (
        (f"/api/flow_runs/{ID}/set_state", {"state": state}),
        (f"/api/task_runs/{ID}/set_state", {"state": state, "force": True}),
        ("/api/task_runs/", {"task_key": "a", "state": state}),
        ("/api/events", [{"event": "prefect.task-run.Completed", "payload": {}}, {"payload": payload}]),
        ("/api/events", [{"payload": {"task_run": {"state": state}}}]),
    ):
        assert ASKED.fullmatch(f"POST {path}")
        with pytest.raises(Refused, match="a result that is"):
            check_body("POST", path, json.dumps(body).encode())


def test_what_workers_really_send_passes() -> None:
    """Flows here store no result; a reference to one in JSON does no harm."""
    for state in ({"type": "RUNNING"}, {"type": "FAILED", "data": None}, {"type": "COMPLETED", "data": GOOD}):
        check_body("POST", f"/api/flow_runs/{ID}/set_state", json.dumps({"state": state}).encode())
        check_body("POST", "/api/events", json.dumps([{"payload": {"validated_state": state}}, {}]).encode())
    check_body("POST", "/api/task_runs/", b'{"task_key": "a"}')
    for none in (b"", b"[]", b"{}", b'{"state": 1}', b'{"state": null}', b"\xff"):
        with pytest.raises(Refused):
            check_body("POST", f"/api/flow_runs/{ID}/set_state", none)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=2) | st.dictionaries(st.sampled_from([*GOOD, *JSON_SERIALIZER, "artifact_key"]), x),
)


@settings(max_examples=150, deadline=None)
@given(data=st.fixed_dictionaries({}, optional={name: JSON | st.just(GOOD.get(name)) for name in (*GOOD, "other")}))
def test_prefects_client_can_read_each_state_that_passes(data: dict[str, Any]) -> None:
    """The client fails for a whole list of runs if it cannot read the state of one."""
    from prefect.client.schemas.objects import State
    from prefect.results import ResultRecordMetadata

    state = {"id": str(uuid4()), "type": "COMPLETED", "data": data}
    if problem(state) is None:
        read = State.model_validate_json(json.dumps(state)).data
        assert isinstance(read, ResultRecordMetadata) and read.serializer.type == "json"


@pytest.mark.parametrize("name", BAD)
def test_an_event_that_would_set_such_a_state_closes_the_socket(name: str) -> None:
    """The server makes the states of task runs from events, without a look at them."""
    messages = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": "worker:w"})},
        {
            "type": "websocket.receive",
            "text": json.dumps({"event": "a", "payload": {"validated_state": {"data": None}}}),
        },
        {"type": "websocket.receive", "text": json.dumps({"payload": {"validated_state": {"data": BAD[name]}}})},
    ]
    seen: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async def inside(_: Message, receive: Any, __: Any) -> None:
        seen.extend([await receive() for _ in range(4)])

    proxy = AuthProxy(inside, Passwords("coordinator:c", "worker:w", "page:p"))
    asyncio.run(proxy({"type": "websocket", "path": "/api/events/in", "headers": []}, receive, send))
    assert [m["type"] for m in seen] == ["websocket.connect", *["websocket.receive"] * 2, "websocket.disconnect"]


def test_workers_write_no_artifacts() -> None:
    """Verdicts and progress are artifacts under keys that anybody can form; no flow of a tier's pool writes one."""
    for request in ("POST /api/artifacts/", f"PATCH /api/artifacts/{ID}", f"DELETE /api/artifacts/{ID}"):
        assert not ASKED.fullmatch(request)
    assert ASKED.fullmatch("POST /api/artifacts/filter")
