"""Authentication in front of Prefect's server on a LAN: joined machines may only send a worker's requests, the page may read.

Prefect has one password, and whoever has it can create a deployment that runs any command on any machine of any pool.
Joined machines and the page therefore get other passwords, which allow only the requests below. Served by uvicorn:

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
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Any

from app.commands import PAGE_AUTH
from common.errors import LabError
from common.same_origin import Message, Receive, SameOrigin, Send, Server, machine_names
from common.wrong_passwords import WrongPasswords, client_of
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
            ("GET", rf"(?:flow_runs|task_runs|flows|deployments|work_queues)/{ID}|flow_run_states/"),
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
# Requests of the page (app/prefect_api.py), which only reads: it starts and stops runs by commands of lab (app/commands.py).
PAGE_ASKED = re.compile(
    rf"POST /api/(?:(?:work_pools|flow_runs)|work_pools/(?:{POOL}|coordinator)/workers)/filter"
    r"|GET /api/(?:variables/name/drained_hosts|csrf-token)"
)
SOCKETS = re.compile(rf"/api/(?:events/(?:in|out)|logs/out|work_pools/{POOL}/workers/connect)")
# Fields of an existing run; not job_variables, which hold the command that its worker starts, nor parameters.
MAY_CHANGE = {"name", "tags", "flow_version", "infrastructure_pid", "empirical_policy"}


class Refused(Exception):
    """A request that is not forwarded, and its HTTP status."""

    def __init__(self, why: str, status: int = 403) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, repr=False)  # so that no traceback or log shows them
class Passwords:
    """user:password of each role: the coordinator may do everything, a worker ASKED, the page PAGE_ASKED."""

    coordinator: str
    worker: str
    page: str

    def role(self, given: bytes) -> str | None:
        """Return the name of the field that is `given`, or None."""
        fields = vars(self).items()
        return next((name for name, wanted in fields if hmac.compare_digest(given, wanted.encode())), None)


class AuthProxy:
    """Forward to `server` the requests that a password allows, with the coordinator's password.

    A request without a password is forwarded as it is: Prefect answers it with 401, or it is open.
    """

    def __init__(self, server: Server, passwords: Passwords) -> None:
        if len({*vars(passwords).values(), ""}) < 4:
            raise LabError("the server on a LAN needs its passwords", "lab up --lan")
        self.server, self.passwords, self.wrong = server, passwords, WrongPasswords()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self.server(scope, self._socket(scope, receive), send)
        given = [v for n, v in scope["headers"] if n == b"authorization"] if scope["type"] == "http" else []
        if not given:
            return await self.server(scope, receive, send)
        role = self._role(given)
        if role is None:
            await self._wrong(scope)
            return await _answer(send, 401, "Unauthorized")
        if role != "coordinator":
            try:
                receive = await self._checked(role, scope, receive)
            except Refused as error:
                log.warning("refused a %s: %s", role, error)
                return await _answer(send, error.status, str(error))
        own = (b"authorization", b"Basic " + base64.b64encode(self.passwords.coordinator.encode()))
        headers = [*((n, v) for n, v in scope["headers"] if n != b"authorization"), own]
        return await self.server({**scope, "headers": headers}, receive, send)

    def _role(self, given: list[bytes]) -> str | None:
        """Return whose HTTP Basic credentials these are, or None; two headers are nobody's."""
        scheme, _, coded = given[0].partition(b" ")
        if len(given) != 1 or scheme.lower() != b"basic":
            return None
        try:
            return self.passwords.role(base64.b64decode(coded, validate=True))
        except ValueError:
            return None

    def _role_of_token(self, token: object) -> str | None:
        """Return whose user:password the first message of a socket holds, or None."""
        return self.passwords.role(token.encode(errors="replace")) if isinstance(token, str) else None

    async def _wrong(self, scope: Message) -> None:
        log.warning("wrong password from %s", client_of(scope))
        await self.wrong.delay(scope)

    async def _checked(self, role: str, scope: Message, receive: Receive) -> Receive:
        """Return a `receive` that gives the body of an allowed request again; Refused for any other."""
        asked = f"{scope['method']} {scope['path']}"
        if not (ASKED if role == "worker" else PAGE_ASKED).fullmatch(asked):
            raise Refused(f"a {role} may not {asked!r:.200}")
        if scope["method"] == "GET":
            return receive
        body = await _body(receive)
        check_body(scope["method"], scope["path"], body)
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return messages.pop() if messages else await receive()

        return again

    def _socket(self, scope: Message, receive: Receive) -> Receive:
        """Put the coordinator's password into the first message of a socket, if its own password allows this socket."""
        first, checked = True, False

        async def received() -> Message:
            nonlocal first, checked
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            content = _json(message.get("text") or message.get("bytes") or b"") if first or checked else None
            if first:
                first = False
                greeting = content if isinstance(content, dict) else {"type": "auth"}
                role = self._role_of_token(greeting.get("token"))
                if role is None:
                    await self._wrong(scope)
                checked = role == "worker" and bool(SOCKETS.fullmatch(scope["path"]))
                if role in ("worker", "page") and not checked:
                    log.warning("refused a %s: socket %r", role, scope["path"][:200])
                # Prefect closes a socket whose token is empty.
                token = self.passwords.coordinator if checked or role == "coordinator" else ""
                return {"type": "websocket.receive", "text": json.dumps({**greeting, "token": token})}
            if checked and (why := state_data.problem_of_event(content)):
                log.warning("refused a worker: %s", why)
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        return received


def check_body(method: str, path: str, body: bytes) -> None:
    """Raise Refused if a worker's request would change what a run executes, or names a result in another format than JSON."""
    content = _json(body)
    if not isinstance(content, dict | list):
        raise Refused("the body is not JSON", 400)
    if isinstance(content, list) and (method == "PATCH" or path.endswith("/set_state")):
        raise Refused("the body is not a JSON object", 400)
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
            raise Refused("the request ended too early", 400)
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Refused(f"more than {MAX_BODY_BYTES} bytes", 413)
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int, why: str) -> None:
    content = json.dumps({"exception_message": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def app() -> SameOrigin:
    """Return Prefect's server behind the proxy, for a LAN; the passwords come from the environment."""
    passwords = Passwords(
        os.environ.get(COORDINATOR_AUTH, ""), *(os.environ.pop(n, "") for n in (WORKER_AUTH, PAGE_AUTH))
    )
    if not all(vars(passwords).values()):
        raise LabError("the server on a LAN needs its passwords", "lab up --lan")
    return SameOrigin(AuthProxy(_prefect(), passwords), machine_names())


def app_without_keys() -> SameOrigin:
    """Return Prefect's server for loopback, where it asks for no password unless the user has set one."""
    own = os.environ.get(COORDINATOR_AUTH)
    # Nobody has the other two.
    nobody = (token_urlsafe(), token_urlsafe())
    return SameOrigin(AuthProxy(_prefect(), Passwords(own, *nobody)) if own else _prefect())


def _prefect() -> Server:
    from prefect.server.api.server import create_app

    return create_app(final=True)
