"""What listens for the inbox: requests of its own pages and of clients, none too large, and no other port."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ports import free_port

from common.errors import LabError
from lab.network import forwarding


class FakeQuack(BaseHTTPRequestHandler):
    """Answers a POST with its body, and lets in pages of all origins as Quack does."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes] = []  # noqa: RUF012 - of all requests

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        self.send_response(202)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("X-Host", self.headers["Host"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing in the output of the tests."""


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """(port that others use, port of a FakeQuack behind it)."""
    FakeQuack.bodies.clear()
    port = free_port()
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeQuack) as behind:
        thread = threading.Thread(target=behind.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        with forwarding.listening("127.0.0.1", port, behind.server_port) as alive:
            assert alive()
            yield port, behind.server_port
        behind.shutdown()
        thread.join()


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def post(port: int, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of the answer to a POST."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/quack", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, _lower(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        return error.code, _lower(error.headers), error.read()


def test_requests_of_clients_pass_unchanged(ports: tuple[int, int]) -> None:
    """A delivery is bytes of DuckDB's own form; only the permission for web pages is taken off the answer."""
    sent = bytes(range(256)) * 4096
    status, headers, answer = post(ports[0], sent, **{"Content-Type": "application/duckdb"})
    assert (status, answer) == (202, sent) and FakeQuack.bodies == [sent]
    assert headers["x-host"] == f"127.0.0.1:{ports[1]}"
    assert "access-control-allow-origin" not in headers


def test_pages_of_others_and_large_requests_do_not_reach_the_inbox(ports: tuple[int, int]) -> None:
    """It would read both before it asks for the token."""
    assert post(ports[0], b"x", Origin="http://evil.example")[0] == 403
    assert post(ports[0], b"x", Host="evil.example")[0] == 421
    assert post(ports[0], b"x" * (forwarding.MAX_REQUEST_BYTES + 1))[0] == 413
    assert FakeQuack.bodies == []


def test_an_inbox_that_is_gone_is_said_and_a_port_is_not_shared() -> None:
    """A client is to try again later; and two inboxes on one port would get half of each delivery."""
    port = free_port()
    with forwarding.listening("127.0.0.1", port, free_port()):
        assert post(port, b"x")[::2] == (503, b"the inbox does not answer\n")
        with pytest.raises(LabError, match="cannot listen") as refused, forwarding.listening("127.0.0.1", port, 1):
            raise AssertionError("listens twice")
        assert refused.value.mend == f"lab inbox serve --port {port + 1}"
    with socket.create_server(("127.0.0.1", port)):
        pass
