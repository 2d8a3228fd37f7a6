"""What listens for the inbox: DuckDB's Quack server lets in web pages of all origins, so it stands behind this on loopback.

with listening("192.168.1.10", 9494, quack_port) as alive: ...
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from common.errors import LabError
from common.same_origin import Message, Receive, SameOrigin, Send, answer, machine_names
from common.wrong_passwords import WrongPasswords, client_of
from lab.network.lan import bracketed, loopback

MAX_REQUEST_BYTES = 4 * 2**20  # a part of a bundle has 1 MiB, and 1.4 MB in base64 within its statement
MAX_CONNECTIONS = 64
REFUSAL, MAX_REFUSAL_BYTES = b"Authentication failed", 200  # what Quack 1.5.5 answers to a wrong token, in 43 bytes
STOP_S = 5  # for requests under way
ANSWER_S = 60.0  # the inbox answers within a second or two
log = logging.getLogger("uvicorn.error")
# Of one connection (RFC 9110), and what each server writes itself.
DROPPED = {b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server", b"host"}
CORS = b"access-control-"  # with which Quack lets in the web pages of everybody


class Forwarding:
    """ASGI application that gives each request to the server on a port of loopback."""

    def __init__(self, port: int) -> None:
        import httpx

        self.url = f"http://{bracketed(loopback())}:{port}"
        self.wrong = WrongPasswords()
        self.client = httpx.AsyncClient(timeout=ANSWER_S, trust_env=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        import httpx

        if scope["type"] != "http":
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        body = await _body(receive)
        if body is None:
            return await answer(send, 413, f"more than {MAX_REQUEST_BYTES} bytes\n")
        # A request of our own making, since the client's own headers would ask for other encodings.
        request = httpx.Request(
            scope["method"], self.url + scope["path"], headers=_passed_on(scope["headers"]), content=body
        )
        try:
            reply = await self.client.send(request, stream=True)
        except httpx.ConnectError:
            return await answer(send, 503, "the inbox does not answer\n")
        try:
            headers = _passed_on(reply.headers.raw)
            await send({"type": "http.response.start", "status": reply.status_code, "headers": headers})
            async for part in reply.aiter_raw():
                if len(part) < MAX_REFUSAL_BYTES and REFUSAL in part:
                    log.warning("wrong token from %s", client_of(scope))
                    await self.wrong.delay(scope)
                await send({"type": "http.response.body", "body": part, "more_body": True})
        finally:
            await reply.aclose()
        return await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes | None:
    """Return a request's body, or None if it is too large or its sender has gone."""
    parts, size = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if message["type"] != "http.request" or size > MAX_REQUEST_BYTES:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _passed_on(headers: Any) -> list[tuple[bytes, bytes]]:
    lower = [(name.lower(), value) for name, value in headers]
    return [(n, v) for n, v in lower if n not in DROPPED and not n.startswith(CORS)]


@contextmanager
def listening(host: str, port: int, behind: int) -> Iterator[Callable[[], bool]]:
    """Listen on an address and give requests of this origin to the server on port `behind`; yield whether it still listens.

    Raises:
        LabError: the port is taken.
    """
    import uvicorn

    try:
        door = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        wrong = f"the inbox cannot listen on {host}:{port}: {error.strerror or error}"
        raise LabError(wrong, f"lab inbox serve --port {port + 1}") from None
    app = SameOrigin(Forwarding(behind), machine_names())
    config = uvicorn.Config(app, lifespan="off", log_level="warning", limit_concurrency=MAX_CONNECTIONS)
    config.timeout_graceful_shutdown = STOP_S
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        server.should_exit = True
        thread.join()
