"""Ollama and the Prefect server as a host finds them: real sockets, and whatever may answer on them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from common.errors import LabError
from workpools.nearby import clock_offset_s, clock_reason, get, ollama_address, ollama_models


@contextmanager
def served(body: bytes, status: int = 200, date: Callable[[], str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """(address, paths that were asked for) of an HTTP server on loopback that gives one answer to all."""
    asked: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response_only(status)
            self.send_header("Date", date() if date else formatdate(usegmt=True))
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_ollamas_models_are_named() -> None:
    """Phases ask for a model by name: that Ollama runs is not enough to know that a host can take their units."""
    listed = {"models": [{"name": "phi3:mini", "size": 1}, {"name": "llama3:8b"}, {"name": "half \ud800"}]}
    with served(json.dumps(listed).encode()) as (address, asked):
        assert ollama_models(address, 60) == ["half \\ud800", "llama3:8b", "phi3:mini"]
    assert asked == ["/api/tags"]
    with served(b'{"models": []}') as (address, _):
        assert ollama_models(address, 60) == []


NO_OLLAMA = [
    b"",
    b"hello",
    b"{",
    b"[]",
    b"{}",
    b'{"models": 3}',
    b'{"models": [1]}',
    b"[" * 100_000,
    b" " * 2**21 + b"{}",
]


@pytest.mark.parametrize("body", NO_OLLAMA, ids=range(len(NO_OLLAMA)))
def test_another_server_on_ollamas_port_is_no_ollama(body: bytes) -> None:
    """Any server may have the port; taken for Ollama, every unit that is sent there would fail."""
    with served(body) as (address, _):
        assert ollama_models(address, 60) is None


@pytest.mark.parametrize("status", [301, 404, 500])
def test_a_refusal_or_a_detour_is_no_ollama(status: int) -> None:
    """A redirect is not followed: what the machine next door has is not what this host has."""
    with served(b'{"models": []}', status) as (address, asked):
        assert ollama_models(address, 60) is None
    assert len(asked) == 1


def test_what_speaks_no_http_or_says_nothing_is_nobody() -> None:
    """A mail server, a silent program and a closed port end in None, and the silent one after the time given."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert get(f"http://127.0.0.1:{port}/", 0.1) is None

        def answer() -> None:
            listening.accept()[0].close()  # the one that was given up above
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 smtp here\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert get(f"http://127.0.0.1:{port}/", 60) is None
        thread.join()
    assert get(f"http://127.0.0.1:{port}/", 60) is None
    for odd in ("http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://a b/"):
        assert get(odd, 60) is None


ADDRESSES = {
    "": "http://127.0.0.1:11434",
    "0.0.0.0": "http://127.0.0.1:11434",  # noqa: S104
    "0.0.0.0:8080": "http://127.0.0.1:8080",
    ":8080": "http://127.0.0.1:8080",
    "desk": "http://desk:11434",
    "desk:8080/": "http://desk:8080",
    "http://desk": "http://desk:80",
    "https://desk": "https://desk:443",
    "[fd00::1]:8080": "http://[fd00::1]:8080",
    "ftp://desk": "http://desk:11434",
    "desk:x": "http://127.0.0.1:11434",
}


@pytest.mark.parametrize("value", ADDRESSES)
def test_ollama_is_asked_where_its_own_client_would_ask(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_HOST is set where Ollama is not at its usual place; not reading it, a host would be taken for one without."""
    monkeypatch.setenv("OLLAMA_HOST", value)
    assert ollama_address() == ADDRESSES[value]


@pytest.mark.parametrize("shift_s", [-3600, 3600])
def test_a_clock_that_differs_is_seen_and_told(shift_s: int) -> None:
    """Leases and heartbeats rest on clocks; the sign says whose is ahead, or the wrong one would be set."""
    with served(b"true", date=lambda: formatdate(time.time() + shift_s, usegmt=True)) as (address, asked):
        offset = clock_offset_s(f"{address}/api/", 60)
    assert asked == ["/api/health"]
    assert offset is not None
    assert abs(offset + shift_s) < 60
    reason = clock_reason(offset)
    assert reason is not None
    assert ("behind" in reason) is (shift_s > 0)
    assert ("ahead of" in reason) is (shift_s < 0)


def test_clocks_that_agree_are_not_warned_of() -> None:
    """Half a second is added for the header's whole seconds, so that no host seems to be ahead by it."""
    assert clock_reason(None) is clock_reason(0) is clock_reason(5) is clock_reason(-5) is None
    assert str(clock_reason(5.1)).startswith("clock 5 s ahead of")
    with served(b"", 401, lambda: "Thu, 02 Jan 2025 06:00:00 -0000") as (address, _):
        before = time.time()
        offset = clock_offset_s(address, 60)
        assert offset is not None
        # 2025-01-02 06:00 UTC is 1,735,797,600 s since 1970, in whatever zone this test runs.
        assert before - 1735797600.5 - 0.1 <= offset <= time.time() - 1735797600.5 + 0.1


def test_no_server_or_no_date_is_no_offset() -> None:
    """A host that cannot ask must not be told that its clock is right, nor that it is wrong."""
    for date in ("", "yesterday", "Thu, 99 Jan 2025 06:00:00 GMT"):
        with served(b"true", date=lambda date=date: date) as (address, _):
            assert clock_offset_s(f"{address}/api", 60) is None
    assert clock_offset_s(f"{address}/api", 60) is None
    with pytest.raises(LabError, match="not an http address"):
        clock_offset_s("ftp://desk/api")
