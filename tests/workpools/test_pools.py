"""Who is asked for pools: an address that is one, a server that answers, and one that lets this user in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from checkout import ROOT

from common.errors import LabError
from workpools.pools import DEFAULT_API, checked_url, connect, unreachable


class FakeServer(BaseHTTPRequestHandler):
    """Answers every question with one status, as a server with a password or of another program does."""

    status = 200

    def do_GET(self) -> None:
        body = b'"3.8.8"'
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def fake_server() -> Iterator[str]:
    """The API address of a FakeServer."""
    with HTTPServer(("127.0.0.1", 0), FakeServer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:4200",
        "localhost",
        "http://",
        "http:///api",
        "http://[::1",
        "http://a:b/api",
        "http://a:99999/api",
        "ftp://a/api",
        "http://a..b/api",
        f"http://{'a' * 64}/api",
    ],
)
def test_what_is_no_http_address_is_refused_with_one_that_is(url: str) -> None:
    """Prefect fails while it is imported on some of these, with a page of text that names no variable."""
    with pytest.raises(LabError, match="PREFECT_API_URL") as refused:
        connect(url)
    assert refused.value.mend == f"export PREFECT_API_URL={DEFAULT_API}"


@pytest.mark.parametrize("url", [DEFAULT_API, "https://lab.example:4443/api", "http://[::1]:4200/api"])
def test_addresses_pass_unchanged(url: str) -> None:
    """A server elsewhere on the network, or behind TLS, is a server."""
    assert checked_url(url) == url


@pytest.mark.parametrize(
    ("status", "said", "mend"),
    [
        (401, "refuses this user", "PREFECT_API_AUTH_STRING=user:password"),
        (403, "refuses this user", "PREFECT_API_AUTH_STRING=user:password"),
        (404, "no Prefect server answers", "lab up"),
        (421, "does not answer to the name 127.0.0.1", "lab invite"),
    ],
)
def test_a_server_that_says_no_is_told_apart(
    fake_server: str, status: int, said: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a wrong password one sets the password and does not start a second server; another program is no server."""
    monkeypatch.setenv("PREFECT_API_URL", fake_server)
    monkeypatch.setattr(FakeServer, "status", status)
    with pytest.raises(LabError, match=said) as refused:
        connect(fake_server)
    assert fake_server in refused.value.what
    assert mend in refused.value.mend


def test_a_server_that_answers_is_used(fake_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client talks to the address that was given, whatever the settings of this process said before."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    for name, value in {"NO_PROXY": "x", "no_proxy": "x", "http_proxy": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    client = connect(fake_server)
    assert str(client.api_url).rstrip("/") == fake_server
    assert client.api_version() == "3.8.8"


def test_a_server_behind_a_proxy_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks for a server that is down does not look at the proxy that is."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(LabError, match="through the proxy of https_proxy") as refused:
        connect("https://198.41.0.4/api")
    assert refused.value.mend.endswith("export no_proxy=198.41.0.4")


@pytest.mark.parametrize(("inside", "found"), [(True, DEFAULT_API), (False, "None")])
def test_prefect_alone_knows_the_server_in_a_checkout_only(inside: bool, found: str, tmp_path: Path) -> None:
    """docs/troubleshooting.md says so of `prefect worker start`: elsewhere it asks a temporary server, and gets no work."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(tmp_path)
    }
    code = "from prefect.settings import get_current_settings; print(get_current_settings().api.url)"
    where = ROOT if inside else tmp_path
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=where, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found
    assert "export PREFECT_API_URL=" in (ROOT / "docs" / "troubleshooting.md").read_text()


def test_an_address_without_the_path_of_the_api_is_mended() -> None:
    """A server that runs was said to be missing, and a second one would have been started."""
    assert "export PREFECT_API_URL=http://desk:4200/api; else start one" in unreachable("http://desk:4200/").mend
    assert unreachable("http://desk:4200/api").mend.startswith("start one: lab up")
