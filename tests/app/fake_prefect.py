"""Prefect's HTTP API as far as the page of the machines asks it, with made-up replies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOON = "2026-11-20T12:00:00Z"


def run(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """A flow run as the API gives it."""
    state = {"type": kind, "name": kind.capitalize(), "message": None} | more.pop("state", {})
    return {
        "id": "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
        "name": name,
        "work_pool_name": "weak",
        "tags": [],
        "start_time": NOON,
        "end_time": None,
        "expected_start_time": NOON,
        "auto_scheduled": False,
        "state": state,
    } | more


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
    token: str | None = None  # which it requires with each POST, as Prefect does with its protection against web pages

    def do_POST(self) -> None:
        client = self.headers["Prefect-Csrf-Client"]
        if self.token is not None and self.headers["Prefect-Csrf-Token"] != f"{self.token} of {client}":
            return self.send_error(403)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/api/flow_runs/filter":
            return self._reply(ANSWERS.get(self.path))
        wanted = body["flow_runs"]
        tags = set(wanted.get("tags", {}).get("all_", ()))
        rows = ANSWERS.get(wanted["state"]["type"]["any_"][0], [])
        return self._reply([r for r in rows if not tags or tags <= set(r["tags"])])

    def do_GET(self) -> None:
        path, _, client = self.path.partition("?client=")
        asked = path == "/api/csrf-token" and self.token is not None
        self._reply({"token": f"{self.token} of {client}"} if asked else ANSWERS.get(self.path))

    def _reply(self, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(self.status if answer is not None else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing in the output of the tests."""


@contextmanager
def serving(status: int = 200) -> Iterator[str]:
    """The API's address of a FakePrefect that answers every question with this status."""
    FakePrefect.status = status
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakePrefect)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
