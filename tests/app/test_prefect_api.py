"""What the page of the machines asks of Prefect's server, and what it says when there is none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from app import format as words
from app import prefect_api

NOON = "2026-11-20T12:00:00Z"


def run(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """A flow run as the API gives it."""
    return {
        "name": name, "state_type": kind, "state_name": kind.capitalize(), "work_pool_name": "weak", "tags": [],
        "start_time": NOON, "end_time": None, "expected_start_time": NOON, "auto_scheduled": False,
        "state": {"message": None},
    } | more  # fmt: skip


ANSWERS: dict[str, Any] = {
    "/api/work_pools/filter": [{"name": "weak"}, {"name": "somebody's"}],
    "/api/work_pools/weak/workers/filter": [
        {"name": "pi-4", "status": "ONLINE", "last_heartbeat_time": NOON},
        {"name": "laptop", "status": "OFFLINE", "last_heartbeat_time": None},
        {"name": "ProcessWorker 1", "status": "OFFLINE", "last_heartbeat_time": NOON},
    ],
    "/api/variables/name/drained_hosts": {"value": ["laptop", "desktop"]},
    "RUNNING": [run("e1 · shard 1 of 2 · pi-4", "RUNNING", tags=["e1", "host:pi-4"]), run("pipeline", "PENDING")],
    "SCHEDULED": [run("e1 · shard 2 of 2", "SCHEDULED"), run("sync", "SCHEDULED", auto_scheduled=True)],
    "FAILED": [run("p1", "FAILED", state={"message": "<b>disk full</b>"}, end_time=NOON)],
}


class FakePrefect(BaseHTTPRequestHandler):
    """Prefect's HTTP API as far as the page asks it, with the replies of ANSWERS."""

    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        states = body.get("flow_runs", {}).get("state", {}).get("type", {}).get("any_", [""])
        self._reply(ANSWERS.get(self.path) if self.path in ANSWERS else ANSWERS.get(states[0]))

    def do_GET(self) -> None:
        self._reply(ANSWERS.get(self.path))

    def _reply(self, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(self.status if answer is not None else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing in the output of the tests."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The API's address of a FakePrefect."""
    monkeypatch.setattr(FakePrefect, "status", 200)
    serving = ThreadingHTTPServer(("127.0.0.1", 0), FakePrefect)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}/api"
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_one_look_brings_machines_work_queue_and_errors(server: str) -> None:
    """Who is there, what runs where, what waits and what went wrong is one picture of one moment."""
    now = prefect_api.look(server)
    assert [(m.name, m.status, m.pools, m.running) for m in now.machines] == [
        ("desktop", "drained", (), ()),
        ("laptop", "drained", (), ()),
        ("pi-4", "online", ("weak",), ("e1 · shard 1 of 2 · pi-4",)),
    ]
    assert now.machines[2].heartbeat_at == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert [(r.name, r.host) for r in now.under_way] == [("e1 · shard 1 of 2 · pi-4", "pi-4"), ("pipeline", "")]
    assert [r.name for r in now.waiting] == ["e1 · shard 2 of 2"]  # a schedule's next run waits for its time only
    assert [(r.name, r.message) for r in now.errors] == [("p1", "<b>disk full</b>")]
    assert prefect_api.in_words(now) == "1 machine online, 2 runs under way, 1 waiting"


@pytest.mark.parametrize(
    ("status", "said", "command"),
    [
        (401, "refuses this page", "export PREFECT_API_AUTH_STRING=user:password"),
        (500, "answers with error 500", "lab status"),
    ],
)
def test_a_server_that_refuses_or_fails_is_told(
    server: str, monkeypatch: pytest.MonkeyPatch, status: int, said: str, command: str
) -> None:
    """A page that showed an empty list instead would say that no machine is there."""
    monkeypatch.setattr(FakePrefect, "status", status)
    with pytest.raises(prefect_api.AwayError) as away:
        prefect_api.look(server)
    assert (said in away.value.what, away.value.mend) == (True, command)


def test_no_server_a_silent_one_and_a_stranger_are_told_apart(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has another remedy, and none of them may hold the page: the waits are bounded."""
    monkeypatch.setattr(prefect_api, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(prefect_api.AwayError, match="does not answer in time"):
            prefect_api.look(f"http://127.0.0.1:{port}/api")
    with pytest.raises(prefect_api.AwayError, match="No Prefect server answers"):
        prefect_api.look(f"http://127.0.0.1:{port}/api")
    monkeypatch.setitem(ANSWERS, "/api/work_pools/filter", "hello")
    with pytest.raises(prefect_api.AwayError, match="is no Prefect server"):
        prefect_api.look(server)
    with pytest.raises(prefect_api.AwayError):
        prefect_api.look("not an address")


def test_a_time_is_told_as_how_long_ago() -> None:
    """A heartbeat from a clock that is ahead is not in the future, and none is not now."""
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert words.ago(now - timedelta(seconds=75), now) == "1 min 15 s ago"
    assert words.ago(now + timedelta(seconds=5), now) == "0.0 s ago"
    assert words.ago(None, now) == ""
