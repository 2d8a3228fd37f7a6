"""Authentication on a LAN: the proxy before Prefect's server, and the gate before the page."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.gate import COOKIE, Gate, link, signed
from common.errors import LabError
from lab.network import auth_proxy
from lab.network.auth_proxy import AuthProxy, Refused, check_body

Message = MutableMapping[str, Any]
ID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
PASSWORD = "p" * 43


class Recorded:
    """An ASGI application that keeps what reaches it and answers 200."""

    def __init__(self) -> None:
        self.scopes: list[Message] = []
        self.messages: list[Message] = []

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.messages.append(await receive())
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"inside"})


def ask(
    app: Any, method: str, path: str, *, user: str | None = None, cookie: str = "", body: bytes = b"{}", query: str = ""
) -> tuple[int, dict[bytes, bytes], bytes]:
    """(status, headers, body) of a request to an ASGI application."""
    headers = [(b"authorization", b"Basic " + base64.b64encode(user.encode()))] if user else []
    headers += [(b"cookie", cookie.encode())] if cookie else []
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": query.encode()}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_workers_come_through_under_the_coordinators_name_and_others_as_they_are() -> None:
    """Prefect itself decides on everybody but joined machines, whose password it does not know."""
    inside = Recorded()
    proxy = AuthProxy(inside, "coordinator:c", "worker:w")
    assert (
        ask(proxy, "POST", "/api/work_pools/weak/get_scheduled_flow_runs", user="worker:w", body=b'{"a": 1}')[0] == 200
    )
    assert dict(inside.scopes[0]["headers"])[b"authorization"] == b"Basic " + base64.b64encode(b"coordinator:c")
    assert inside.messages[0]["body"] == b'{"a": 1}'
    for user in (None, "worker:x", "coordinator:c"):
        ask(proxy, "POST", "/api/deployments/", user=user)
        found = dict(inside.scopes[-1]["headers"]).get(b"authorization")
        assert found == (b"Basic " + base64.b64encode(user.encode()) if user else None)


# What would let a machine that joined run commands on others, or read or change what is not its business.
FORBIDDEN = [
    ("POST", "/api/deployments/"),
    ("PATCH", f"/api/deployments/{ID}"),
    ("DELETE", f"/api/deployments/{ID}"),
    ("POST", f"/api/deployments/{ID}/create_flow_run"),
    ("POST", "/api/flow_runs/"),
    ("DELETE", f"/api/flow_runs/{ID}"),
    ("POST", "/api/work_pools/"),
    ("PATCH", "/api/work_pools/weak"),
    ("DELETE", "/api/work_pools/weak"),
    ("POST", "/api/work_pools/coordinator/get_scheduled_flow_runs"),
    ("POST", "/api/work_pools/coordinator/workers/heartbeat"),
    ("POST", "/api/automations/"),
    ("POST", "/api/variables/"),
    ("POST", "/api/artifacts/"),
    ("PATCH", f"/api/artifacts/{ID}"),
    ("PATCH", f"/api/variables/{ID}"),
    ("POST", "/api/block_documents/"),
    ("POST", "/api/block_documents/filter"),
    ("GET", f"/api/block_documents/{ID}"),
    ("GET", "/api/admin/settings"),
    ("POST", "/api/admin/database/clear"),
    ("POST", "/api/admin/database/drop"),
    ("POST", "/api/logs/filter"),
    ("POST", "/api/ui/flow_runs/history"),
    ("GET", "/api/work_pools/weak/../coordinator"),
    ("POST", "//api/deployments/"),
    ("POST", "/api/flow_runs/filter/../"),
    ("PUT", f"/api/flow_runs/{ID}"),
]


@pytest.mark.parametrize(("method", "path"), FORBIDDEN)
def test_what_a_worker_may_not_ask_never_reaches_the_server(method: str, path: str) -> None:
    """With one deployment of its own a stolen worker's password would run any command on the coordinator."""
    inside = Recorded()
    status, _, body = ask(AuthProxy(inside, "coordinator:c", "worker:w"), method, path, user="worker:w")
    assert status == 403 and b"a worker may not" in body
    assert inside.scopes == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from(["name", "tags", "job_variables", "parameters", "work_queue_name", "state"]), JSON)
)
def test_a_worker_renames_runs_and_changes_nothing_that_is_executed(change: dict[str, Any]) -> None:
    """job_variables hold the command line that the run's worker starts."""
    body = json.dumps(change).encode()
    if set(change) <= auth_proxy.MAY_CHANGE:
        check_body("PATCH", f"/api/flow_runs/{ID}", body)
        return
    with pytest.raises(Refused, match="may not change"):
        check_body("PATCH", f"/api/flow_runs/{ID}", body)


def test_a_worker_sends_no_more_than_a_run_needs() -> None:
    """A body that never ends would fill the memory of the server of everybody."""
    proxy = AuthProxy(Recorded(), "coordinator:c", "worker:w")
    status, _, body = ask(proxy, "POST", "/api/logs/", user="worker:w", body=b" " * (auth_proxy.MAX_BODY_BYTES + 1))
    assert status == 403 and b"more than" in body


@pytest.mark.parametrize(
    ("path", "token", "passed"),
    [
        ("/api/events/in", "worker:w", "coordinator:c"),
        ("/api/work_pools/weak/workers/connect", "worker:w", "coordinator:c"),
        ("/api/work_pools/coordinator/workers/connect", "worker:w", ""),
        ("/api/task_runs/subscriptions/scheduled", "worker:w", ""),
        ("/api/events/in", "worker:x", "worker:x"),
        ("/api/events/in", "coordinator:c", "coordinator:c"),
    ],
)
def test_sockets_are_kept_as_requests_are(path: str, token: str, passed: str) -> None:
    """Prefect's sockets take the password in their first message; one that was forgotten would be a page left open."""
    inside = Recorded()

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": token})}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    proxy = AuthProxy(inside, "coordinator:c", "worker:w")
    asyncio.run(proxy({"type": "websocket", "path": path, "headers": []}, receive, send))
    assert json.loads(inside.messages[0]["text"])["token"] == passed


# All that a worker may ask for which changes something at the server.
CHANGES = {
    "PATCH /api/flow_runs/{id}",
    "PATCH /api/flow_runs/{id}/labels",
    "PATCH /api/task_runs/{id}",
    "POST /api/deployments/get_scheduled_flow_runs",
    "POST /api/events",
    "POST /api/flow_runs/{id}/set_state",
    "POST /api/flows/",
    "POST /api/logs/",
    "POST /api/task_runs/",
    "POST /api/task_runs/{id}/set_state",
    "POST /api/work_pools/{name}/get_scheduled_flow_runs",
    "POST /api/work_pools/{work_pool_name}/queues",
    "POST /api/work_pools/{work_pool_name}/workers/heartbeat",
}


def test_each_request_that_prefect_knows_is_closed_to_strangers_and_changes_little_for_workers() -> None:
    """Another version brings other requests: one that nobody thought of must not be open, nor open to workers."""
    from prefect.server.api.server import create_app  # seconds, which no other test here needs
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, temporary_settings

    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: "coordinator:c"}):
        server = create_app(ignore_cache=True)
    (api,) = (r.app for r in server.routes if getattr(r, "path", None) == "/api")
    known = [(m.upper(), f"/api{path.removeprefix('/api')}") for path, ms in api.openapi()["paths"].items() for m in ms]
    assert len(known) > 150
    proxy, changes = AuthProxy(server, "coordinator:c", "worker:w"), set()
    for method, path in known:
        named = re.sub(r"\{(name|work_pool_name)\}", "weak", path) if "/work_pools/" in path else path
        asked = re.sub(r"\{[^}]*\}", ID, named)
        for user in (None, "worker:wrong"):
            assert (ask(proxy, method, asked, user=user)[0] == 200) is (path in ("/api/health", "/api/ready")), path
        if (
            method != "GET"
            and auth_proxy.ASKED.fullmatch(f"{method} {asked}")
            and not path.endswith(("/filter", "/count"))
        ):
            changes.add(f"{method} {path}")
    assert changes == CHANGES


def test_the_server_of_a_lan_does_not_start_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty password would let in whoever sends none."""
    for name in (auth_proxy.COORDINATOR_AUTH, auth_proxy.WORKER_AUTH):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LabError, match="needs its passwords"):
        auth_proxy.app()
    monkeypatch.setenv(auth_proxy.COORDINATOR_AUTH, "coordinator:c")
    with pytest.raises(LabError, match="needs its passwords"):
        auth_proxy.app()
    for pair in (("", "worker:w"), ("c:c", ""), ("same:s", "same:s")):
        with pytest.raises(LabError, match="needs its passwords"):
            AuthProxy(Recorded(), *pair)


@pytest.fixture
def gate() -> tuple[Gate, Recorded]:
    inside = Recorded()
    return Gate(inside, PASSWORD), inside


def test_the_page_answers_only_after_its_password(gate: tuple[Gate, Recorded]) -> None:
    """Results may be confidential; not even the page's scripts and its health are answered before."""
    page, inside = gate
    for path in ("/", "/_stcore/health", "/media/x", "/_stcore/host-config"):
        for user in (None, "page:wrong", f"other:{PASSWORD}", f"page:{PASSWORD}x"):
            assert ask(page, "GET", path, user=user)[0] == 401
    for cookie in (
        "",
        f"{COOKIE}=",
        f"{COOKIE}={PASSWORD}",
        f"{COOKIE}={signed('x' * 43, 'cookie')}",
        "\x00=;;",
        f"a={COOKIE}",
    ):
        assert ask(page, "GET", "/", cookie=cookie)[0] == 401
    for form in (b"", b"password=", b"password=wrong", b"\xff" * 9999, b"password=" + b"x" * 99999, b"=&&=%%"):
        assert ask(page, "POST", "/login", body=form)[0] == 401
    assert inside.scopes == []
    status, headers, _ = ask(page, "POST", "/login", body=f"password={PASSWORD}".encode())
    assert (status, headers[b"location"]) == (303, b"/")
    said = headers[b"set-cookie"].decode()
    assert "HttpOnly" in said and PASSWORD not in said
    assert ask(page, "GET", "/", cookie=said.partition(";")[0])[2] == b"inside"
    assert ask(page, "GET", "/", user=f"page:{PASSWORD}")[2] == b"inside"


def test_a_signed_link_opens_the_page_for_an_hour(gate: tuple[Gate, Recorded]) -> None:
    """It is sent to people, and forgotten in mails: late or altered it opens nothing."""
    page, inside = gate
    now = time.time()
    address = link("http://a:1", PASSWORD, now)
    query = address.partition("?")[2]
    assert PASSWORD not in address
    assert ask(page, "GET", "/", query=query)[0] == 303
    until, _, signature = query.removeprefix("key=").partition(".")
    old = link("http://a:1", PASSWORD, now - 3700).partition("?")[2]
    for bad in (
        old,
        f"key={int(until) + 9999}.{signature}",
        f"key={until}.{signature[:-1]}",
        "key=",
        "key=.",
        "key=²." + signature,
    ):
        assert ask(page, "GET", "/", query=bad.encode("utf-8").decode("latin-1"))[0] == 401
    assert inside.scopes == []


def test_sockets_of_the_page_are_closed_without_a_cookie(gate: tuple[Gate, Recorded]) -> None:
    """All that the page shows goes over its socket."""
    page, inside = gate
    sent: list[Message] = []

    def connect(cookie: str) -> None:
        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/_stcore/stream", "headers": [(b"cookie", cookie.encode())]}
        asyncio.run(page(scope, receive, send))

    connect("")
    assert sent == [{"type": "websocket.close", "code": 1008}] and inside.scopes == []
    connect(f"{COOKIE}={signed(PASSWORD, 'cookie')}")
    assert len(inside.scopes) == 1
    for short in ("", "short"):
        with pytest.raises(ValueError, match="lab up --lan sets it"):
            Gate(inside, short)
