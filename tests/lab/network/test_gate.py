"""The gate before the page: password, links that work once, cookies that end."""

from __future__ import annotations

import asyncio
import time

import pytest
from asgi_requests import Message, Recorded, ask

from app.gate import COOKIE, COOKIE_S, Gate, link, ticket

PASSWORD = "p" * 43


@pytest.fixture
def gate() -> tuple[Gate, Recorded]:
    inside = Recorded()
    return Gate(inside, PASSWORD), inside


def test_the_page_answers_only_after_its_password(gate: tuple[Gate, Recorded], delays: list[float]) -> None:
    """Results may be confidential; not even the page's scripts and its health are answered before."""
    page, inside = gate
    for path in ("/", "/_stcore/health", "/media/x", "/_stcore/host-config"):
        assert ask(page, "GET", path)[0] == 401
        for user in ("page:wrong", f"other:{PASSWORD}", f"page:{PASSWORD}x", "page:ç", b"\xff"):
            assert ask(page, "GET", path, user=user)[0] == 401
    assert len(delays) == 20
    soon = int(time.time()) + 60
    for cookie in (
        "",
        f"{COOKIE}=",
        f"{COOKIE}={PASSWORD}",
        f"{COOKIE}={ticket('x' * 43, 'cookie', soon)}",
        f"{COOKIE}={ticket(PASSWORD, 'link', soon)}",
        f"{COOKIE}={ticket(PASSWORD, 'cookie', int(time.time()) - 1)}",
        "\x00=;;",
        f"a={COOKIE}",
    ):
        assert ask(page, "GET", "/", cookie=cookie)[0] == 401
    forms = (
        b"",
        b"password=",
        b"password=wrong",
        b"\xff" * 9999,
        b"password=" + b"x" * 99999,
        b"=&&=%%",
        "password=ç".encode(),
    )
    for form in forms:
        assert ask(page, "POST", "/login", body=form)[0] == 401
    assert inside.scopes == [] and len(delays) == 20 + len(forms)
    status, headers, _ = ask(page, "POST", "/login", body=f"password={PASSWORD}".encode())
    assert (status, headers[b"location"]) == (303, b"/")
    said = headers[b"set-cookie"].decode()
    assert "HttpOnly" in said and PASSWORD not in said
    assert ask(page, "GET", "/", cookie=said.partition(";")[0])[2] == b"inside"
    assert ask(page, "GET", "/", user=f"page:{PASSWORD}")[2] == b"inside"


def test_a_signed_link_opens_the_page_once_within_an_hour(gate: tuple[Gate, Recorded]) -> None:
    """It is sent to people, and forgotten in mails: used, late or altered it opens nothing."""
    page, inside = gate
    now = time.time()
    address = link("http://a:1", PASSWORD, now)
    query = address.partition("?")[2]
    assert PASSWORD not in address and address != link("http://a:1", PASSWORD, now)
    assert ask(page, "HEAD", "/", query=query)[0] == 401  # a preview of a messenger does not use it up
    assert ask(page, "GET", "/", query=query)[0] == 303
    status, _, said = ask(page, "GET", "/", query=query)
    assert status == 401 and b"This link was used" in said
    until, number, signature = query.removeprefix("key=").split(".")
    late = link("http://a:1", PASSWORD, now - 3700).partition("?")[2]
    for bad in (
        late,
        f"key={int(until) + 9999}.{number}.{signature}",
        f"key={until}.{'x' * 12}.{signature}",
        f"key={until}.{number}.{signature[:-1]}",
        f"key={until}.{signature}",
        f"key={ticket(PASSWORD, 'cookie', int(now) + 60)}",
        "key=",
        "key=..",
        f"key=².{number}.{signature}",
    ):
        assert ask(page, "GET", "/", query=bad.encode("utf-8").decode("latin-1"))[0] == 401
    assert inside.scopes == []


def test_a_used_link_does_not_open_the_page_after_a_new_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of used links ends with the process that has it."""
    query = link("http://a:1", PASSWORD, time.time()).partition("?")[2]
    assert ask(Gate(Recorded(), PASSWORD), "GET", "/", query=query)[0] == 303
    later = time.time() + 5
    monkeypatch.setattr(time, "time", lambda: later)
    assert ask(Gate(Recorded(), PASSWORD), "GET", "/", query=query)[0] == 401


def test_a_new_password_ends_all_cookies_and_links(gate: tuple[Gate, Recorded]) -> None:
    """A cookie that somebody copied was good for ever: its signature said nothing but that it is one."""
    page, inside = gate
    cookie = (
        ask(page, "POST", "/login", body=f"password={PASSWORD}".encode())[1][b"set-cookie"].decode().partition(";")[0]
    )
    query = link("http://a:1", PASSWORD, time.time()).partition("?")[2]
    assert ask(page, "GET", "/", cookie=cookie)[0] == 200
    renewed = Gate(inside, "n" * 43)
    assert ask(renewed, "GET", "/", cookie=cookie)[0] == 401
    assert ask(renewed, "GET", "/", query=query)[0] == 401
    assert 0 < int(cookie.partition("=")[2].partition(".")[0]) - time.time() <= COOKIE_S


def test_sockets_of_the_page_are_closed_without_a_cookie(gate: tuple[Gate, Recorded]) -> None:
    """All that the page shows goes over its socket."""
    page, inside = gate
    sent: list[Message] = []

    def connect(cookie: str) -> None:
        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/_stcore/stream", "headers": [(b"cookie", cookie.encode())]}
        asyncio.run(page(scope, receive, send))

    connect("")
    assert sent == [{"type": "websocket.close", "code": 1008}] and inside.scopes == []
    connect(f"{COOKIE}={ticket(PASSWORD, 'cookie', int(time.time()) + 60)}")
    assert len(inside.scopes) == 1
    for short in ("", "short"):
        with pytest.raises(ValueError, match="lab up --lan sets it"):
            Gate(inside, short)
