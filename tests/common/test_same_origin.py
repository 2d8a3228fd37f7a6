"""Requests of web pages: which names and origins a server lets in."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from common.same_origin import SameOrigin, machine_names

Message = MutableMapping[str, Any]


class Recorded:
    """An ASGI application that counts what reaches it and answers 200."""

    def __init__(self) -> None:
        self.reached = 0

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.reached += 1
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})


def sent(kind: str, headers: dict[str, str], reached: str = "127.0.0.1", names: tuple[str, ...] = ()) -> Any:
    """The status of a request, or "accept" or "close" for a web socket, and whether the application saw it."""
    inside, messages = Recorded(), []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        messages.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": "POST", "path": "/", "headers": raw, "server": (reached, 4200)}
    asyncio.run(SameOrigin(inside, names)(scope, receive, send))
    first = messages[0]
    status = first["status"] if kind == "http" else first["type"].removeprefix("websocket.")
    assert (status in (200, "accept")) is bool(inside.reached)
    return status


OWN = [
    "127.0.0.1:4200",
    "localhost:4200",
    "LOCALHOST:4200",
    "localhost.:4200",
    "[::1]:4200",
    "localhost",
    "127.0.0.1:14200",
]
FOREIGN = [
    "evil.example",
    "evil.example:4200",
    "127.0.0.1.evil.example:4200",
    "localhost.evil.example:4200",
    "evil.example@127.0.0.1:4200",
    "127.0.0.1@evil.example:4200",
    "127.0.0.1/evil.example",
    "127.0.0.1, evil.example",
    "192.168.1.66:4200",
    "pi-4.local:4200",
    "2130706433:4200",
    "[::1",
    "127.0.0.1:port",
    "127.0.0.1:99999",
    "127.0.0.1:4200 ",
    "",
    ":4200",
]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("host", OWN)
def test_a_server_answers_to_its_own_names(kind: str, host: str) -> None:
    """Commands, browsers and tunnels use all of these; another port is a tunnel's."""
    wanted = 200 if kind == "http" else "accept"
    assert sent(kind, {"host": host}) == wanted
    for origin in (f"http://{host}", f"https://{host}"):
        assert sent(kind, {"host": host, "origin": origin}) == wanted


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_of_others_that_leads_here_is_refused(kind: str, host: str) -> None:
    """With DNS rebinding a browser takes our answers for those of the page, which then reads and sends whatever it likes."""
    refused = 421 if kind == "http" else "close"
    assert sent(kind, {"host": host}) == refused
    assert sent(kind, {"host": host, "origin": f"http://{host}"}) == refused
    assert sent(kind, {}) == refused


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1:8080",  # another program of this machine
        "http://127.0.0.1",
        "http://localhost:4200",  # under another name than the request's
        "http://127.0.0.1:4200.evil.example",
        "http://evil.example/http://127.0.0.1:4200",
        "file://127.0.0.1:4200",
        "null",
        "127.0.0.1:4200",
        "http://127.0.0.1:4200, http://evil.example",
    ],
)
def test_a_page_of_another_origin_is_refused(kind: str, origin: str) -> None:
    """A form, a fetch without CORS or a web socket of any page that the user visits would reach the server otherwise."""
    assert sent(kind, {"host": "127.0.0.1:4200", "origin": origin}) == (403 if kind == "http" else "close")


def test_in_a_network_the_address_and_the_machines_names_are_its_own() -> None:
    """Other machines know it by its address, and by the names that it gives itself."""
    for host in ("192.168.1.10:4200", "pi-4.local", "localhost:4200"):
        assert sent("http", {"host": host}, "192.168.1.10", ("pi-4.local",)) == 200
    assert sent("http", {"host": "[fe80::1]:4200"}, "fe80::1%eth0") == 200
    for host in ("pi-5.local", "192.168.1.11", "evil.example"):
        assert sent("http", {"host": host}, "192.168.1.10", ("pi-4.local",)) == 421
    assert any(name.endswith(".local") for name in machine_names())
    assert all(name == name.lower() for name in machine_names())


def test_a_server_starts_and_stops_as_before() -> None:
    """Starlette and uvicorn speak of the start and the end over the same interface."""
    inside = Recorded()
    asyncio.run(SameOrigin(inside)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert inside.reached == 1
