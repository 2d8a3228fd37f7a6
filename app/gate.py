"""The password of the web page on a LAN: every request needs it, or a signed link, or the cookie that follows."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

PASSWORD = "LAB_PAGE_PASSWORD"  # noqa: S105 - the name of the variable
COOKIE = "lab_page"
LINK_S = 3600  # a signed link is valid for an hour
USER = "page"
MAX_FORM_BYTES = 2**12
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Server = Callable[[Message, Receive, Send], Awaitable[None]]
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>LLM memory experiments</title>
<style>:root{color-scheme:light dark;font:16px system-ui,sans-serif}body{max-width:24rem;margin:18vh auto;padding:0 1rem}
input,button{font:inherit;padding:.5rem .7rem;width:100%;box-sizing:border-box;margin-top:.6rem}
button{background:#2563EB;color:#fff;border:0;border-radius:.4rem}</style>
<h1 style="font-size:1.25rem">LLM memory experiments</h1><p>MESSAGE To see it on the coordinator: <code>lab key page</code></p>
<form method="post" action="/login"><input type="password" name="password" aria-label="Password" autofocus>
<button>Open</button></form></html>"""


def signed(password: str, purpose: str) -> str:
    """Return the HMAC-SHA-256 of a purpose under the password, in hex."""
    return hmac.new(password.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def link(url: str, password: str, now_s: float) -> str:
    """Return an address that opens the page without the password.

    Args:
        url: of the page, without a slash at its end.
        password: of the page.
        now_s: seconds since the epoch; the link is valid for an hour from then.

    Returns:
        The address with the time at which it ends and its signature.
    """
    until = str(int(now_s) + LINK_S)
    return f"{url}/?key={until}.{signed(password, f'link {until}')}"


class Gate:
    """ASGI middleware that asks for a password: form, signed link, cookie, or HTTP Basic with the user `page`; else 401."""

    def __init__(self, app: Server, password: str) -> None:
        if len(password) < 20:
            raise ValueError(f"{PASSWORD} is not set, or short; lab up --lan sets it")
        self.app, self.password = app, password

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket") or self._known(scope["headers"]):
            await self.app(scope, receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["method"] == "POST" and scope["path"] == "/login":
            form = parse_qs((await _body(receive)).decode(errors="replace"))
            right = self._same(form.get("password", [""])[0].strip(), self.password)
            await (self._enter(send) if right else _ask(send, "That is not the password."))
        elif self._linked(scope.get("query_string", b"")):
            await self._enter(send)
        else:
            await _ask(send, "This page asks for a password.")

    def _known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        basic = b"Basic " + base64.b64encode(f"{USER}:{self.password}".encode())
        return any(
            (name == b"authorization" and hmac.compare_digest(value, basic))
            or (name == b"cookie" and self._same(_cookie(value), signed(self.password, "cookie")))
            for name, value in headers
        )

    def _linked(self, query: bytes) -> bool:
        until, _, signature = parse_qs(query.decode("latin-1")).get("key", [""])[0].partition(".")
        if not (until.isascii() and until.isdigit() and len(until) <= 12):
            return False
        return self._same(signature, signed(self.password, f"link {until}")) and int(until) >= time.time()

    @staticmethod
    def _same(given: str, wanted: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())

    async def _enter(self, send: Send) -> None:
        """Redirect to the page with a cookie, so that neither password nor link stays in the address."""
        cookie = f"{COOKIE}={signed(self.password, 'cookie')}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes:
    """Return at most MAX_FORM_BYTES of a request's body, more than any password needs."""
    body, more = b"", True
    while more and len(body) <= MAX_FORM_BYTES:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body[:MAX_FORM_BYTES]


async def _ask(send: Send, message: str) -> None:
    content = FORM.replace("MESSAGE", message).encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-frame-options", b"DENY"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _cookie(value: bytes) -> str:
    try:
        found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
