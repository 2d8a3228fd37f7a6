"""Prefect's server on a LAN: the coordinator may do everything there, machines that joined only what a worker must.

Prefect knows one password. Whoever has it can write a deployment that runs any command on any machine of any pool, so
machines that joined have another one, which is good for the requests below and no others. Served by uvicorn:

    uvicorn --factory lab.network.auth_proxy:app --host 192.168.1.10 --port 4200
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from common.errors import LabError
from workpools.tiers import TIERS

COORDINATOR_AUTH, WORKER_AUTH = "PREFECT_SERVER_API_AUTH_STRING", "LAB_WORKER_AUTH_STRING"
MAX_BODY_BYTES = 8 * 2**20  # Prefect's own limit for what a run carries is far below
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Server = Callable[[Message, Receive, Send], Awaitable[None]]
log = logging.getLogger("uvicorn.error")

ID, POOL, NAME = "[0-9a-f-]{32,36}", f"(?:{'|'.join(TIERS)})", "[A-Za-z0-9._-]{1,100}"
# What worker, flow process, `lab join` and `lab hosts` of another machine were seen to ask for (Prefect 3.8.8).
ASKED = re.compile(
    "|".join(
        f"(?:{method} /api/(?:{path}))"
        for method, path in (
            ("GET", r"(?:admin/)?version|admin/storage|health|ready|csrf-token"),
            ("GET", rf"(?:flow_runs|task_runs|flows|deployments|work_queues)/{ID}"),
            ("GET", rf"work_pools/(?:{POOL}|coordinator)(?:/queues/{NAME})?"),
            ("GET", rf"(?:variables|flows|concurrency_limits/tag)/(?:name/)?{NAME}"),
            ("GET", rf"deployments/name/{NAME}/{NAME}"),
            (
                "POST",
                r"(?:flow_runs|task_runs|flows|deployments|work_pools|work_queues|artifacts|variables|automations)/(?:filter|count)",
            ),
            ("POST", rf"work_pools/(?:{POOL}|coordinator)/(?:workers|queues)/filter"),
            ("POST", rf"work_pools/{POOL}/queues/?|work_pools/{POOL}/workers/heartbeat"),
            ("POST", rf"work_pools/{POOL}/get_scheduled_flow_runs|deployments/get_scheduled_flow_runs"),
            ("POST", r"flows/|task_runs/|logs/?|artifacts/|events/?"),
            ("POST", rf"(?:flow_runs|task_runs)/{ID}/set_state"),
            ("PATCH", rf"(?:flow_runs|task_runs|artifacts)/{ID}"),
            ("PATCH", rf"flow_runs/{ID}/labels"),
        )
    )
)
SOCKETS = re.compile(rf"/api/(?:events/(?:in|out)|logs/out|work_pools/{POOL}/workers/connect)")
# Of a run that is there: never its job_variables, which hold the command that its worker starts, nor its parameters.
MAY_CHANGE = {"name", "tags", "flow_version", "infrastructure_pid", "empirical_policy"}
# How a result may be said to be written: as JSON by Prefect's defaults. Other names are modules that a reader would import.
WRITTEN_AS = {
    "type": "json",
    "jsonlib": "json",
    "object_encoder": "prefect.serializers.prefect_json_object_encoder",
    "object_decoder": "prefect.serializers.prefect_json_object_decoder",
    "dumps_kwargs": {},
    "loads_kwargs": {},
}


class Refused(Exception):
    """A request of a worker that is not let through."""


class Doorkeeper:
    """Lets through to `server`, under the coordinator's name, what the worker's password is good for."""

    def __init__(self, server: Server, coordinator: str, worker: str) -> None:
        if not coordinator or not worker or coordinator == worker:
            raise LabError("the server of a LAN does not start without its passwords", "lab up --lan")
        self.server, self.coordinator, self.worker = server, coordinator, worker

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.server(scope, self._socket(scope["path"], receive), send)
        elif scope["type"] == "http" and self._is_worker(scope["headers"]):
            try:
                receive = await self._checked(scope, receive)
            except Refused as error:
                log.warning("refused a worker: %s", error)
                return await _answer(send, 403, str(error))
            await self.server({**scope, "headers": self._as_coordinator(scope["headers"])}, receive, send)
        else:
            await self.server(scope, receive, send)
        return None

    def _is_worker(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        wanted = b"Basic " + base64.b64encode(self.worker.encode())
        return any(name == b"authorization" and hmac.compare_digest(value, wanted) for name, value in headers)

    def _as_coordinator(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        own = (b"authorization", b"Basic " + base64.b64encode(self.coordinator.encode()))
        return [*((n, v) for n, v in headers if n != b"authorization"), own]

    async def _checked(self, scope: Message, receive: Receive) -> Receive:
        """`receive`, when the request may pass; what was read of it is given again.

        Raises:
            Refused: with the reason.
        """
        asked = f"{scope['method']} {scope['path']}"
        if not ASKED.fullmatch(asked):
            raise Refused(f"a worker may not {asked!r:.200}")
        if scope["method"] == "GET":
            return receive
        body = await _body(receive)
        check_body(scope["method"], scope["path"], body)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again

    def _socket(self, path: str, receive: Receive) -> Receive:
        """Messages of a socket; in the first, which is to hold the password, a worker's becomes the coordinator's."""
        first = True

        async def received() -> Message:
            nonlocal first
            message = await receive()
            if first and message["type"] == "websocket.receive":
                first = False
                said = _json(message.get("text") or message.get("bytes") or b"")
                token = said.get("token") if isinstance(said, dict) else None
                if isinstance(token, str) and hmac.compare_digest(token.encode(), self.worker.encode()):
                    allowed = SOCKETS.fullmatch(path)
                    if not allowed:
                        log.warning("refused a worker: socket %r", path[:200])
                    said["token"] = self.coordinator if allowed else ""
                    return {"type": "websocket.receive", "text": json.dumps(said)}
            return message

        return received


def check_body(method: str, path: str, body: bytes) -> None:
    """Whether a worker may send this.

    Raises:
        Refused: it would change what a run executes, or name a result that is read with anything but JSON.
    """
    said = _json(body)
    if not isinstance(said, dict | list):
        raise Refused("the body is no JSON")
    if method == "PATCH" and re.fullmatch(rf"/api/flow_runs/{ID}", path) and (more := set(said) - MAY_CHANGE):
        raise Refused(f"a worker may not change {', '.join(sorted(map(str, more)))!r:.200} of a run")
    if path.endswith("/set_state"):
        state = said.get("state") if isinstance(said, dict) else None
        if not isinstance(state, dict):
            raise Refused("no state")
        data = state.get("data")
        serializer = data.get("serializer", WRITTEN_AS) if isinstance(data, dict) else WRITTEN_AS
        if not isinstance(serializer, dict) or any(WRITTEN_AS.get(k, serializer) != v for k, v in serializer.items()):
            raise Refused("a result that is not JSON")


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("the request ended too early")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Refused(f"more than {MAX_BODY_BYTES} bytes")
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int, why: str) -> None:
    content = json.dumps({"exception_message": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def app() -> Doorkeeper:
    """Prefect's own server behind the doorkeeper; both passwords come from the environment.

    Raises:
        LabError: one is missing.
    """
    coordinator, worker = os.environ.get(COORDINATOR_AUTH, ""), os.environ.pop(WORKER_AUTH, "")
    if not coordinator or not worker:
        raise LabError("the server of a LAN does not start without its passwords", "lab up --lan")
    from prefect.server.api.server import create_app

    return Doorkeeper(create_app(final=True), coordinator, worker)
