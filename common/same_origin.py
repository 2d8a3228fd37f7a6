"""Requests that web pages of other origins make a browser send: refused before a server's application sees them.

A page that the user visits may send requests to this machine, also to loopback: HTML forms, fetch without CORS, web sockets.
With DNS rebinding its own name leads to this machine, and the browser takes the answers for the page's own. The browser
then names the page in the header Origin, or its server in Host, and a page cannot change these two. A page in a frame of
another sends its own Origin, and its user may be led to click on a button that is not seen: it is not shown there.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Server = Callable[[Message, Receive, Send], Awaitable[None]]
# A browser asks no name service for localhost (RFC 6761), so these are never another machine's.
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MISDIRECTED, FORBIDDEN = 421, 403  # RFC 9110
OWN_FRAMES = (b"content-security-policy", b"frame-ancestors 'self'")


def machine_names() -> frozenset[str]:
    """Return the names of this machine in its network: host name, the same under .local (RFC 6762), and the full name."""
    host = socket.gethostname()
    names = {host, f"{host.partition('.')[0]}.local"}
    with suppress(UnicodeError):  # a part of the name is empty or longer than 63 characters
        names.add(socket.getfqdn())
    for name in list(names):
        with suppress(UnicodeError):
            names.add(name.encode("idna").decode())  # as browsers and clients write it
    return frozenset(name.lower() for name in names)


class SameOrigin:
    """ASGI middleware that forwards requests to this server under its own names, from its own pages or from no page.

    Its names are the address that a connection came to, loopback's, and `names`.
    """

    def __init__(self, app: Server, names: Iterable[str] = ()) -> None:
        self.app, self.names = app, LOOPBACK_NAMES | set(names)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif not self._is_own(host := _header(scope, b"host"), scope):
            why = f"This server has no name {_name(host)!r:.200}. Use its address.\n"
            await _refuse(scope, receive, send, MISDIRECTED, why)
        elif (origin := _header(scope, b"origin")) != "" and not _matches(origin, host):
            await _refuse(scope, receive, send, FORBIDDEN, f"A page of {origin!r:.200} may not use this server.\n")
        else:
            await self.app(scope, receive, send if scope["type"] == "websocket" else _unframed(send))

    def _is_own(self, host: str, scope: Message) -> bool:
        name = _name(host)
        reached = scope.get("server") or ("", None)
        return bool(name) and (name in self.names or name == _standard(str(reached[0])))


def _unframed(send: Send) -> Send:
    """Return a `send` that forbids pages of other origins to show an answer in a frame, where a click would not be for them."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), OWN_FRAMES]}
        await send(message)

    return sending


def _name(host: str) -> str:
    """Return the name in a Host header in lower case, without port, brackets and a last dot; "" if it is not just a name."""
    try:
        parts = urlsplit(f"//{host}")
        valid = parts.netloc == host and "@" not in host and parts.port != 0
    except ValueError:
        return ""
    return _standard((parts.hostname or "").rstrip(".")) if valid else ""


def _standard(name: str) -> str:
    """Return an IP address in its standard form and without a zone; another name as it is."""
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return name


def _matches(origin: str, host: str) -> bool:
    """Return True if an Origin header has the name and the port of a Host header."""
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and place.lower() == host.lower()


def _header(scope: Message, wanted: bytes) -> str:
    """Return a header's value, "" without one; what was sent twice is joined, and thereby no name."""
    return ", ".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)


async def _refuse(scope: Message, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        return await send({"type": "websocket.close", "code": 1008})
    return await answer(send, status, why)


async def answer(send: Send, status: int, text: str) -> None:
    """Answer a request with a line of text."""
    content = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
