"""Authentication in front of Prefect's server on a LAN: joined machines may only send a worker's requests.

Prefect has one password, and whoever has it can create a deployment that runs any command on any machine of any pool.
Joined machines therefore get another password, which allows only the requests below. Served by uvicorn:

    uvicorn --factory lab.network.auth_proxy:app --host 192.168.1.10 --port 4200
    uvicorn --factory lab.network.auth_proxy:app_without_keys --host 127.0.0.1 --port 4200
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
import re
from collections.abc import Iterable
from typing import Any

from common.errors import LabError
from common.same_origin import Message, Receive, SameOrigin, Send, Server, machine_names
from lab.network import state_data
from workpools.tiers import TIERS

COORDINATOR_AUTH, WORKER_AUTH = "PREFECT_SERVER_API_AUTH_STRING", "LAB_WORKER_AUTH_STRING"
MAX_BODY_BYTES = 8 * 2**20  # Prefect's own limit for a run's parameters is far below
log = logging.getLogger("uvicorn.error")

ID, POOL, NAME = "[0-9a-f-]{32,36}", f"(?:{'|'.join(TIERS)})", "[A-Za-z0-9._-]{1,100}"
LISTED = "flow_runs|task_runs|flows|deployments|work_pools|work_queues|artifacts|variables|automations"
# Requests of a worker, a flow process, `lab join` and `lab hosts` of another machine (observed, Prefect 3.8.8).
ASKED = re.compile(
    "|".join(
        f"(?:{method} /api/(?:{path}))"
        for method, path in (
            ("GET", r"(?:admin/)?version|admin/storage|health|ready|csrf-token"),
            ("GET", rf"(?:flow_runs|task_runs|flows|deployments|work_queues)/{ID}"),
            ("GET", rf"work_pools/(?:{POOL}|coordinator)(?:/queues/{NAME})?"),
            ("GET", rf"(?:variables|flows|concurrency_limits/tag)/(?:name/)?{NAME}"),
            ("GET", rf"deployments/name/{NAME}/{NAME}"),
            ("POST", rf"(?:{LISTED})/(?:filter|count)"),
            ("POST", rf"work_pools/(?:{POOL}|coordinator)/(?:workers|queues)/filter"),
            ("POST", rf"work_pools/{POOL}/queues/?|work_pools/{POOL}/workers/heartbeat"),
            ("POST", rf"work_pools/{POOL}/get_scheduled_flow_runs|deployments/get_scheduled_flow_runs"),
            ("POST", r"flows/|task_runs/|logs/?|events/?"),
            ("POST", rf"(?:flow_runs|task_runs)/{ID}/set_state"),
            ("PATCH", rf"(?:flow_runs|task_runs)/{ID}"),
            ("PATCH", rf"flow_runs/{ID}/labels"),
        )
    )
)
SOCKETS = re.compile(rf"/api/(?:events/(?:in|out)|logs/out|work_pools/{POOL}/workers/connect)")
# Fields of an existing run; not job_variables, which hold the command that its worker starts, nor parameters.
MAY_CHANGE = {"name", "tags", "flow_version", "infrastructure_pid", "empirical_policy"}


class Refused(Exception):
    """A worker's request that is not forwarded."""


class AuthProxy:
    """Forward to `server` the requests that the worker's password allows, with the coordinator's password."""

    def __init__(self, server: Server, coordinator: str, worker: str) -> None:
        if not coordinator or not worker or coordinator == worker:
            raise LabError("the server on a LAN needs its passwords", "lab up --lan")
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
        """Return a `receive` that gives the body of an allowed request again; Refused for any other."""
        asked = f"{scope['method']} {scope['path']}"
        if not ASKED.fullmatch(asked):
            raise Refused(f"a worker may not {asked!r:.200}")
        if scope["method"] == "GET":
            return receive
        body = await _body(receive)
        check_body(scope["method"], scope["path"], body)
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return messages.pop() if messages else await receive()

        return again

    def _socket(self, path: str, receive: Receive) -> Receive:
        """Replace a worker's password in the first message of a socket by the coordinator's, if the socket is allowed."""
        first, checked = True, False

        async def received() -> Message:
            nonlocal first, checked
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            content = _json(message.get("text") or message.get("bytes") or b"") if first or checked else None
            if first:
                first = False
                greeting = content if isinstance(content, dict) else {}
                token = greeting.get("token")
                if isinstance(token, str) and hmac.compare_digest(token.encode(), self.worker.encode()):
                    checked = bool(SOCKETS.fullmatch(path))
                    if not checked:
                        log.warning("refused a worker: socket %r", path[:200])
                    greeting["token"] = self.coordinator if checked else ""
                    return {"type": "websocket.receive", "text": json.dumps(greeting)}
            elif checked and (why := state_data.problem_of_event(content)):
                log.warning("refused a worker: %s", why)
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        return received


def check_body(method: str, path: str, body: bytes) -> None:
    """Raise Refused if a worker's request would change what a run executes, or names a result in another format than JSON."""
    content = _json(body)
    if not isinstance(content, dict | list):
        raise Refused("the body is not JSON")
    if method == "PATCH" and re.fullmatch(rf"/api/flow_runs/{ID}", path) and (more := set(content) - MAY_CHANGE):
        raise Refused(f"a worker may not change {', '.join(sorted(map(str, more)))!r:.200} of a run")
    if path.endswith("/set_state") or path == "/api/task_runs/":
        state = content.get("state") if isinstance(content, dict) else None
        if why := state_data.problem(state) if state is not None or path.endswith("/set_state") else None:
            raise Refused(why)
    if path.startswith("/api/events"):
        for event in content if isinstance(content, list) else [content]:
            if why := state_data.problem_of_event(event):
                raise Refused(why)


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


def app() -> SameOrigin:
    """Return Prefect's server behind the proxy, for a LAN; both passwords come from the environment."""
    coordinator, worker = os.environ.get(COORDINATOR_AUTH, ""), os.environ.pop(WORKER_AUTH, "")
    if not coordinator or not worker:
        raise LabError("the server on a LAN needs its passwords", "lab up --lan")
    return SameOrigin(AuthProxy(_prefect(), coordinator, worker), machine_names())


def app_without_keys() -> SameOrigin:
    """Return Prefect's server for loopback, where it asks for no password unless the user has set one."""
    return SameOrigin(_prefect())


def _prefect() -> Server:
    from prefect.server.api.server import create_app

    return create_app(final=True)
