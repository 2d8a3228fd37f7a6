"""Requests to an ASGI application without a server, and an application that records them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


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
    app: Any,
    method: str,
    path: str,
    *,
    user: str | bytes | None = None,
    cookie: str = "",
    body: bytes = b"{}",
    query: str = "",
) -> tuple[int, dict[bytes, bytes], bytes]:
    """(status, headers, body) of a request to an ASGI application."""
    user = user.encode() if isinstance(user, str) else user
    headers = [(b"authorization", b"Basic " + base64.b64encode(user))] if user else []
    headers += [(b"cookie", cookie.encode())] if cookie else []
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": query.encode()}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]
