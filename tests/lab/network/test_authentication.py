"""Authentication on a LAN: the proxy before Prefect's server."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from typing import Any

import pytest
from asgi_requests import Message, Recorded, ask
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from common.wrong_passwords import WrongPasswords, client_of
from lab.network import auth_proxy
from lab.network.auth_proxy import AuthProxy, Passwords, Refused, check_body

ID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
PASSWORDS = Passwords("coordinator:c", "worker:w", "page:p")


def test_workers_come_through_under_the_coordinators_name_and_strangers_not_at_all(delays: list[float]) -> None:
    """Prefect knows one password and decides on requests without any; it ends in a traceback for some that are wrong."""
    inside = Recorded()
    proxy = AuthProxy(inside, PASSWORDS)
    assert (
        ask(proxy, "POST", "/api/work_pools/weak/get_scheduled_flow_runs", user="worker:w", body=b'{"a": 1}')[0] == 200
    )
    assert dict(inside.scopes[0]["headers"])[b"authorization"] == b"Basic " + base64.b64encode(b"coordinator:c")
    assert inside.messages[0]["body"] == b'{"a": 1}'
    for user in (None, "coordinator:c"):
        ask(proxy, "POST", "/api/deployments/", user=user)
        found = dict(inside.scopes[-1]["headers"]).get(b"authorization")
        assert found == (b"Basic " + base64.b64encode(user.encode()) if user else None)
    assert len(inside.scopes) == 3 and delays == []
    for wrong in ("worker:x", "coordinator:ç", "рабочий:w", b"coordinator:\xff", "w", b"\x00"):
        assert ask(proxy, "POST", "/api/deployments/", user=wrong)[0] == 401
    assert len(inside.scopes) == 3 and len(delays) == 6 and sorted(set(delays)) == delays


def test_wrong_passwords_are_slowed_down_and_right_ones_are_not() -> None:
    """Who guesses would try thousands a second; who is delayed by the guesses of others would be locked out."""
    wrong = WrongPasswords()
    assert [round(wrong.seconds("a", now), 1) for now in (0, 10, 20, 30, 40, 50, 60)] == [0.1, 0.2, 0.4, 0.8, 1, 1, 1]
    # At the same time as others each waits for those before it, but never so long that they pile up.
    assert [round(wrong.seconds("b", 0.0), 1) for _ in range(5)] == [0.1, 0.3, 0.7, 1.5, 2.5]
    assert max(wrong.seconds("b", 0.0) for _ in range(99)) == 10
    assert wrong.seconds("c", 0.0) == pytest.approx(0.1)
    assert wrong.seconds("a", 1000.0) == pytest.approx(0.1)
    for i in range(4200):
        wrong.seconds(f"10.0.{i // 256}.{i % 256}", 1000.0)
    assert len(wrong._seen) <= 4097 and wrong.seconds("another", 1000.0) == 10
    proxy, began = AuthProxy(Recorded(), PASSWORDS), time.monotonic()
    assert [ask(proxy, "GET", "/api/flows/x", user=u)[0] for u in ("worker:x", "worker:y", "coordinator:c")] == [
        401,
        401,
        200,
    ]
    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize(
    ("client", "counted"),
    [(("10.0.0.1", 1), "10.0.0.1"), (("fe80::1", 1), "fe80::/64"), (None, ""), (("/run/x.sock", 0), "/run/x.sock")],
)
def test_a_client_is_an_address_or_the_network_of_a_machine(client: tuple[str, int] | None, counted: str) -> None:
    """One machine has 2**64 addresses of IPv6, each of which would begin without delay."""
    assert client_of({"client": client}) == counted


@pytest.mark.parametrize("body", [b"[]", b'["tags"]', b'[{"name": "x"}]', b"1", b"x", b""])
def test_a_list_as_body_is_a_bad_request(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It ended in a traceback of the server, one for each of a stranger's requests."""
    inside = Recorded()
    proxy = AuthProxy(inside, PASSWORDS)
    for method, path in (("PATCH", f"/api/flow_runs/{ID}"), ("POST", f"/api/flow_runs/{ID}/set_state")):
        status, _, answer = ask(proxy, method, path, user="worker:w", body=body)
        assert status == 400 and b"JSON" in answer
    assert inside.scopes == [] and len(caplog.messages) == 2 and "JSON" in caplog.text


# Requests of app/prefect_api.py.
OF_PAGE = [
    ("POST", "/api/work_pools/filter"),
    ("POST", "/api/work_pools/strong/workers/filter"),
    ("POST", "/api/flow_runs/filter"),
    ("GET", "/api/variables/name/drained_hosts"),
]


def test_the_page_reads_and_changes_nothing() -> None:
    """Who breaks into it, through Streamlit or a library of it, would run commands on every machine."""
    inside = Recorded()
    proxy = AuthProxy(inside, PASSWORDS)
    for method, path in OF_PAGE:
        assert ask(proxy, method, path, user="page:p")[0] == 200, path
    assert len(inside.scopes) == len(OF_PAGE)
    for method, path in (*FORBIDDEN, ("POST", f"/api/flow_runs/{ID}/set_state"), ("PATCH", f"/api/flow_runs/{ID}")):
        status, _, body = ask(proxy, method, path, user="page:p")
        assert status == 403 and b"a page may not" in body, path
    assert len(inside.scopes) == len(OF_PAGE)


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
    status, _, body = ask(AuthProxy(inside, PASSWORDS), method, path, user="worker:w")
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
    proxy = AuthProxy(Recorded(), PASSWORDS)
    status, _, body = ask(proxy, "POST", "/api/logs/", user="worker:w", body=b" " * (auth_proxy.MAX_BODY_BYTES + 1))
    assert status == 413 and b"more than" in body


@pytest.mark.parametrize(
    ("path", "token", "passed"),
    [
        ("/api/events/in", "worker:w", "coordinator:c"),
        ("/api/work_pools/weak/workers/connect", "worker:w", "coordinator:c"),
        ("/api/work_pools/coordinator/workers/connect", "worker:w", ""),
        ("/api/task_runs/subscriptions/scheduled", "worker:w", ""),
        ("/api/events/in", "page:p", ""),
        ("/api/events/in", "worker:x", ""),
        ("/api/events/in", "coordinator:ç", ""),
        ("/api/events/in", "\ud800", ""),
        ("/api/events/in", None, ""),
        ("/api/events/in", ["coordinator:c"], ""),
        ("/api/events/in", "coordinator:c", "coordinator:c"),
    ],
)
def test_sockets_are_kept_as_requests_are(path: str, token: Any, passed: str, delays: list[float]) -> None:
    """Prefect's sockets take the password in their first message; one that was forgotten would be a page left open."""
    inside = Recorded()

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": token})}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    proxy = AuthProxy(inside, PASSWORDS)
    asyncio.run(proxy({"type": "websocket", "path": path, "headers": []}, receive, send))
    assert json.loads(inside.messages[0]["text"])["token"] == passed
    assert len(delays) == (token not in ("worker:w", "page:p", "coordinator:c"))


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


def test_each_request_that_prefect_knows_is_closed_to_strangers_and_changes_little_for_workers(
    delays: list[float],
) -> None:
    """Another version brings other requests: one that nobody thought of must not be open, nor open to workers."""
    from prefect.server.api.server import create_app  # seconds, which no other test here needs
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, temporary_settings

    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: "coordinator:c"}):
        server = create_app(ignore_cache=True)
    (api,) = (r.app for r in server.routes if getattr(r, "path", None) == "/api")
    known = [(m.upper(), f"/api{path.removeprefix('/api')}") for path, ms in api.openapi()["paths"].items() for m in ms]
    assert len(known) > 150
    proxy, changes = AuthProxy(server, PASSWORDS), set()
    for method, path in known:
        named = re.sub(r"\{(name|work_pool_name)\}", "weak", path) if "/work_pools/" in path else path
        asked = re.sub(r"\{[^}]*\}", ID, named)
        assert (ask(proxy, method, asked)[0] == 200) is (path in ("/api/health", "/api/ready")), path
        assert ask(proxy, method, asked, user="worker:wrong")[0] == 401
        if (
            method != "GET"
            and auth_proxy.ASKED.fullmatch(f"{method} {asked}")
            and not path.endswith(("/filter", "/count"))
        ):
            changes.add(f"{method} {path}")
    assert changes == CHANGES


def test_the_server_of_a_lan_does_not_start_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty password would let in whoever sends none."""
    for name in (auth_proxy.COORDINATOR_AUTH, auth_proxy.WORKER_AUTH, auth_proxy.PAGE_AUTH):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LabError, match="needs its passwords"):
        auth_proxy.app()
    monkeypatch.setenv(auth_proxy.COORDINATOR_AUTH, "coordinator:c")
    with pytest.raises(LabError, match="needs its passwords"):
        auth_proxy.app()
    for three in (("", "worker:w", "page:p"), ("c:c", "", "page:p"), ("c:c", "worker:w", ""), ("s:s", "s:s", "page:p")):
        with pytest.raises(LabError, match="needs its passwords"):
            AuthProxy(Recorded(), Passwords(*three))
