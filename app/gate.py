"""The password of the web page on a LAN: every request needs it, or a signed link, or the cookie that follows.

Links and cookies are tickets: the time of their end, a number used once, and a signature under the password. A new password
(`lab invite --revoke`) ends all of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from common.same_origin import Message, Receive, Send, Server
from common.wrong_passwords import WrongPasswords, client_of

PASSWORD = "LAB_PAGE_PASSWORD"  # noqa: S105 - the name of the variable
COOKIE = "lab_page"
LINK_S = 3600  # a signed link is valid for an hour, once
COOKIE_S = 30 * 86_400  # then the password is asked for again
TICKET = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{12})\.([0-9a-f]{64})")
USER = "page"
MAX_FORM_BYTES = 2**12
log = logging.getLogger("uvicorn.error")
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>LLM memory experiments</title>
<style>:root{color-scheme:light dark;font:16px system-ui,sans-serif}body{max-width:24rem;margin:18vh auto;padding:0 1rem}
input,button{font:inherit;padding:.5rem .7rem;width:100%;box-sizing:border-box;margin-top:.6rem}
button{background:#2563EB;color:#fff;border:0;border-radius:.4rem}</style>
<h1 style="font-size:1.25rem">LLM memory experiments</h1>
<p>MESSAGE On the coordinator, <code>lab invite --page</code> shows the password and a new link.</p>
<form method="post" action="/login"><input type="password" name="password" aria-label="Password" autofocus>
<button>Open</button></form></html>"""


def signed(password: str, purpose: str) -> str:
    """Return the HMAC-SHA-256 of a purpose under the password, in hex."""
    return hmac.new(password.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def ticket(password: str, kind: str, until_s: int) -> str:
    """Return a ticket of a kind (link, cookie) that is valid until a time, in seconds since the epoch."""
    text = f"{until_s}.{secrets.token_urlsafe(9)}"
    return f"{text}.{signed(password, f'{kind} {text}')}"


def link(url: str, password: str, now_s: float) -> str:
    """Return an address that opens the page once without the password.

    Args:
        url: of the page, without a slash at its end.
        password: of the page.
        now_s: seconds since the epoch; the link is valid for an hour from then.

    Returns:
        The address with its ticket.
    """
    return f"{url}/?key={ticket(password, 'link', int(now_s) + LINK_S)}"


class Gate:
    """ASGI middleware that asks for a password: form, signed link, cookie, or HTTP Basic with the user `page`; else 401."""

    def __init__(self, app: Server, password: str) -> None:
        if len(password) < 20:
            raise ValueError(f"{PASSWORD} is not set, or short; lab up --lan sets it")
        self.app, self.password = app, password
        self.wrong = WrongPasswords()
        # Used links are known to this process only, so those made before it started are refused.
        self.started_s, self.used = int(time.time()), dict[str, int]()

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
            await (self._enter(send) if right else self._refuse(scope, send))
        elif any(name == b"authorization" for name, _ in scope["headers"]):
            await self._refuse(scope, send)
        elif given := parse_qs(scope.get("query_string", b"").decode("latin-1")).get("key"):
            entered = scope["method"] == "GET" and self._linked(given[0])
            await (self._enter(send) if entered else _ask(send, "This link was used, or is too old."))
        else:
            await _ask(send, "This page asks for a password.")

    def _known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        basic = b"Basic " + base64.b64encode(f"{USER}:{self.password}".encode())
        return any(
            (name == b"authorization" and hmac.compare_digest(value, basic))
            or (name == b"cookie" and self._valid_until(_cookie(value), "cookie") is not None)
            for name, value in headers
        )

    def _valid_until(self, given: str, kind: str) -> int | None:
        """Return the end of a ticket, or None if it is not one, or past its end."""
        found = TICKET.fullmatch(given)
        if not found or not self._same(found[3], signed(self.password, f"{kind} {found[1]}.{found[2]}")):
            return None
        return int(found[1]) if int(found[1]) >= time.time() else None

    def _linked(self, given: str) -> bool:
        """Return True for a valid link that was not used; from then on it is."""
        until = self._valid_until(given, "link")
        if until is None or until - LINK_S < self.started_s or given in self.used:
            return False
        self.used = {ticket: end for ticket, end in self.used.items() if end >= time.time()} | {given: until}
        return True

    @staticmethod
    def _same(given: str, wanted: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())

    async def _refuse(self, scope: Message, send: Send) -> None:
        log.warning("wrong password from %s", client_of(scope))
        await self.wrong.delay(scope)
        await _ask(send, "That is not the password.")

    async def _enter(self, send: Send) -> None:
        """Redirect to the page with a cookie, so that neither password nor link stays in the address."""
        cookie = ticket(self.password, "cookie", int(time.time()) + COOKIE_S)
        said = f"{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_S}"
        headers = [(b"location", b"/"), (b"set-cookie", said.encode()), (b"content-length", b"0")]
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
