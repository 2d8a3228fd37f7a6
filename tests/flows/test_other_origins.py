"""Web pages of other origins in a real browser: what they send to server, page and inbox changes nothing and tells nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from ports import REBOUND, free_port

from benchmarks.chaos.laboratory import ROOT, Lab, environment
from lab.network.lan import Listener
from lab.services.environments import prefect_environment
from lab.services.processes import holder_of, wait_until
from lab.services.up import page_command
from warehouse.delivery.transports.protocol import FILES
from warehouse.delivery.transports.quack import Quack
from warehouse.paths import Paths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TOKEN = "t" * 32
PLANTED = "planted-by-a-page"
# As the attack that was seen to work: the next completed run would execute a command of the page's.
AUTOMATION = {
    "name": PLANTED,
    "trigger": {"type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.Completed"], "threshold": 1},
    "actions": [{"type": "do-nothing"}],
}
EVENT = {
    "occurred": "2026-11-29T12:00:00Z",
    "event": PLANTED,
    "resource": {"prefect.resource.id": PLANTED},
    "id": "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
}
# Each attempt returns what the page learns; a form answers into a frame, whose content is another origin's.
ATTEMPTS = """async ({url, body, socket, protocol, first}) => {
  const read = async (options) => {
    try { const r = await fetch(url, options); return r.type + ' ' + r.status + ' ' + (await r.text()).slice(0, 60); }
    catch (e) { return 'refused'; }
  };
  const form = () => new Promise((done) => {
    const frame = document.createElement('iframe'); frame.name = 'answer'; document.body.append(frame);
    const form = document.createElement('form'); const field = document.createElement('input');
    Object.assign(form, {action: url, method: 'post', enctype: 'text/plain', target: 'answer'});
    [field.name, field.value] = [body.slice(0, -1) + ', "x": "', '"}'];  // name=value is JSON again
    form.append(field); document.body.append(form);
    frame.onload = () => done('sent'); form.submit();
  });
  const open = () => new Promise((done) => {
    const ws = new WebSocket(socket, protocol);
    ws.onopen = () => { for (const text of first) ws.send(text); setTimeout(() => { ws.close(); done('open'); }, 500); };
    ws.onerror = () => done('refused');
  });
  const json = {'Content-Type': 'application/json'};
  return {
    get: await read({}),
    post: await read({method: 'POST', headers: json, body}),
    text: await read({method: 'POST', headers: {'Content-Type': 'text/plain'}, body}),
    blind: await read({method: 'POST', mode: 'no-cors', body: new Blob([body])}),
    beacon: String(navigator.sendBeacon(url, new Blob([body]))),
    form: await form(),
    socket: await open(),
  };
}"""
FRAMED = """(url) => new Promise((done) => {
  const frame = document.createElement('iframe'); frame.src = url; frame.onload = done; document.body.append(frame);
})"""
# What a page of the same origin may do, as one under a rebound name would be: ask for Prefect's token and use it.
WITH_TOKEN = """async (body) => {
  const asked = await fetch('/api/csrf-token?client=page');
  const token = asked.ok ? (await asked.json()).token : '';
  const headers = {'Content-Type': 'application/json', 'Prefect-Csrf-Client': 'page', 'Prefect-Csrf-Token': token};
  return [asked.status, (await fetch('/api/automations/', {method: 'POST', headers, body})).status];
}"""


@dataclass(frozen=True)
class Doors:
    """The ports of a laboratory's server, page and inbox, and of a server of other pages."""

    lab: Lab
    page: int
    inbox: int
    others: int

    @property
    def results(self) -> list[str]:
        """All files that the inbox could have written."""
        return sorted(str(p) for p in (self.lab.home / "results").rglob("*"))

    def planted(self) -> int:
        """The number of automations and events that a page has made."""
        client = self.lab.client()
        events = client._client.post("/events/filter", json={"filter": {"event": {"name": [PLANTED]}}})
        automations = client._client.post("/automations/filter", json={}).json()
        return sum(a["name"] == PLANTED for a in automations) + int(events.json()["total"])


class Blank(BaseHTTPRequestHandler):
    """A page without content."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another</title><body></body>")

    def log_message(self, *_: object) -> None:
        """Nothing in the output of the tests."""


@contextmanager
def others() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def started(lab: Lab, name: str, command: list[str], port: int, **more: str) -> Iterator[int]:
    """A server of the laboratory, with the environment that `lab up` gives it."""
    ours = prefect_environment(Paths(lab.home), lab.port)
    told = environment(lab.home, **{k: v for k, v in ours.items() if k.startswith("PREFECT_")}, **more)
    with (lab.home / "logs" / f"{name}.log").open("wb") as log:
        served = subprocess.Popen(command, cwd=ROOT, env=told, stdout=log, stderr=log, start_new_session=True)
    try:
        up = wait_until(lambda: served.poll() is not None or holder_of(port), 90)
        assert up and served.poll() is None, (lab.home / "logs" / f"{name}.log").read_text()
        yield port
    finally:
        served.terminate()
        served.wait(timeout=20)


@pytest.fixture(scope="module")
def doors(light: Lab) -> Iterator[Doors]:
    """A laboratory on loopback, where nobody is asked for a password."""
    page, inbox = free_port(), free_port()
    serve = [*page_command(page, Listener())[:1], "-m", "lab", "inbox", "serve", "--port", str(inbox)]
    with ExitStack() as open_doors:
        open_doors.enter_context(started(light, "page", page_command(page, Listener()), page))
        open_doors.enter_context(started(light, "inbox", serve, inbox, LAB_INBOX_TOKEN=TOKEN))
        yield Doors(light, page, inbox, open_doors.enter_context(others()))


@pytest.fixture
def visited(doors: Doors, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of another origin: of another name, or of another program of this machine."""
    page = browser.new_page()
    page.goto(f"http://{request.param}:{doors.others}/")
    yield page
    page.close()


elsewhere = pytest.mark.parametrize("visited", [REBOUND, "127.0.0.1"], indirect=True)
REFUSED = {
    "get": "refused",
    "post": "refused",
    "text": "refused",
    "blind": "opaque 0 ",
    "beacon": "true",
    "form": "sent",
    "socket": "refused",
}


def attempts(page: Page, url: str, body: Any, socket: str, protocol: str, first: list[Any]) -> Any:
    told = {"url": url, "body": json.dumps(body), "socket": socket, "protocol": protocol}
    return page.evaluate(ATTEMPTS, told | {"first": [json.dumps(x) for x in first]})


@elsewhere
def test_pages_of_others_plant_nothing_in_the_server(doors: Doors, visited: Page) -> None:
    """An automation of theirs would run commands on this machine, without a click."""
    server = f"127.0.0.1:{doors.lab.port}"
    first = [{"type": "auth", "token": None}, EVENT]
    url, socket = f"http://{server}/api/automations/", f"ws://{server}/api/events/in"
    found = attempts(visited, url, AUTOMATION, socket, "prefect", first)
    assert (doors.planted(), found) == (0, REFUSED)


def test_a_rebound_name_opens_neither_server_nor_page_nor_inbox(doors: Doors, browser: Browser) -> None:
    """Under such a name a page is of the same origin: Prefect would give it a token, and the page all results."""
    page = browser.new_page()
    for port in (doors.lab.port, doors.page, doors.inbox):
        reply = page.goto(f"http://{REBOUND}:{port}/")
        assert reply is not None and (reply.status, "has no name" in reply.text()) == (421, True)
    page.goto(f"http://{REBOUND}:{doors.lab.port}/")
    assert page.evaluate(WITH_TOKEN, json.dumps(AUTOMATION)) == [421, 421]
    for port, path in ((doors.lab.port, "api/events/in"), (doors.page, "_stcore/stream")):
        page.goto(f"http://{REBOUND}:{port}/")
        host = f"{REBOUND}:{port}"
        found = attempts(page, f"http://{host}/", AUTOMATION, f"ws://{host}/{path}", "streamlit", [])
        assert found["socket"] == "refused" and "has no name" in found["post"]
    page.close()
    assert doors.planted() == 0


@elsewhere
def test_pages_of_others_see_no_results(doors: Doors, visited: Page) -> None:
    """All that the page shows goes over its socket, which Streamlit opens for every program of this machine."""
    page = f"127.0.0.1:{doors.page}"
    stream = f"ws://{page}/_stcore/stream"
    assert attempts(visited, f"http://{page}/_stcore/health", {}, stream, "streamlit", []) == REFUSED


@elsewhere
def test_pages_of_others_show_neither_page_nor_server_in_a_frame(doors: Doors, visited: Page) -> None:
    """Under a button of theirs, without a colour, a click would stop a run or start one."""
    for port in (doors.page, doors.lab.port):
        visited.evaluate(FRAMED, f"http://127.0.0.1:{port}/")
    frames = visited.frames[1:]
    while not all(frame.url for frame in frames):  # the browser reports another site's frame a little later
        visited.wait_for_timeout(50)
    assert {frame.url for frame in frames} == {"chrome-error://chromewebdata/"}


@elsewhere
def test_pages_of_others_neither_reach_nor_find_the_inbox(doors: Doors, visited: Page) -> None:
    """Quack itself answers every origin, and reads what is sent before it asks for the token."""
    before, inbox = doors.results, f"127.0.0.1:{doors.inbox}"
    assert attempts(visited, f"http://{inbox}/quack", {}, f"ws://{inbox}/quack", "quack", []) == REFUSED
    with urllib.request.urlopen(f"http://{inbox}/") as reply:
        assert b"Quack" in reply.read() and reply.headers["Access-Control-Allow-Origin"] is None
    assert doors.results == before


def test_their_own_pages_and_clients_go_on(doors: Doors, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps others out must let in the user: Prefect's pages, which send tokens, ours under both names, deliveries."""
    page, refused = browser.new_page(), []
    page.on("response", lambda r: refused.append((r.url, r.status)) if r.status >= 400 else None)
    with page.expect_response(lambda r: r.request.method == "POST" and r.status == 200, timeout=60_000):
        page.goto(f"http://127.0.0.1:{doors.lab.port}/")
    assert refused == []
    for name in ("127.0.0.1", "localhost"):
        page.goto(f"http://{name}:{doors.page}/monitor")
        expect(page.locator(".lab-head h1")).to_contain_text("machine online", timeout=60_000)
    page.close()
    monkeypatch.setenv("LAB_INBOX_TOKEN", TOKEN)
    store = Quack("127.0.0.1", doors.inbox, encrypted=False)
    content = os.urandom(3 * 2**20)
    name = hashlib.sha256(content).hexdigest()
    store.put(FILES, name, content)
    assert store.get(FILES, name) == content
