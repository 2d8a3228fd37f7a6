"""Proxies of the environment: never for own addresses, and no value of theirs ends in a traceback."""

from __future__ import annotations

import os
import socket
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from common import proxies

DEAD = "http://127.0.0.1:9"
PROXIES = (DEAD, "socks5://h:1", "socks://h:1", "http://[::1", "://", "h:99999", " ")
ODD = (
    "|localhost,::1,[::1]|fe11::/16|[::1]:80|10.0.0.0/8|localhost 127.0.0.1|*.lan, .local|all://[::1]|fe80::1%eth0|müller.de|<local>"
    '|192.168.*|"localhost"|a;b|a..b|\u200blocalhost|,,|.|10.0.0.0/99|*::1*|[|]|//|::/0|host:99999999|a@b|\x7f|'
    + "ö"
    * 70
).split("|")
OWN = (
    "http://localhost:4200",
    "http://127.0.0.1:1",
    "http://[::1]:4200",
    "http://pi-4:4200",
    "http://mac.local/api",
    "http://müller:4200",
)
PUBLIC = "http://example.com/api"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without proxies, on a machine without a name server."""
    own = {
        k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith(("LAB_", "SSL_"))
    }
    monkeypatch.setattr(os, "environ", own)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    proxies.is_own.cache_clear()
    return own


def unknown(*_: object) -> Any:
    raise socket.gaierror("no name server")


def direct(*urls: str) -> list[str]:
    """Those of `urls` that httpx asks without a proxy."""
    with httpx.Client(verify=False) as client:  # noqa: S501 - loading certificates takes long, and nothing is sent
        return [url for url in urls if client._transport_for_url(httpx.URL(url)) is client._transport]


@pytest.mark.parametrize(("excepted", "proxy"), list(zip(ODD, cycle(PROXIES))))
def test_own_addresses_are_asked_without_a_proxy(excepted: str, proxy: str, environment: dict[str, str]) -> None:
    """httpx fails on most of these wherever it is used, and a proxy that is away looks like a server that is away."""
    environment |= {"NO_PROXY": excepted, "ALL_PROXY": proxy, "http_proxy": DEAD, "PREFECT_API_URL": OWN[4]}
    proxies.prepare()
    proxies.bypass(OWN[3], OWN[5])
    assert direct(*OWN, PUBLIC) == [url for url in OWN if not proxies.variable_for(url)] == [*OWN]
    assert proxies.variable_for(PUBLIC) == "http_proxy"
    assert ("ALL_PROXY" in proxies.left_out()) is (proxy != DEAD), "git gets it, and lab doctor names it"
    once = dict(environment)
    proxies.prepare()
    assert environment == once, "what lab starts prepares it once more"


def test_what_is_excepted_stays_so(environment: dict[str, str]) -> None:
    """httpx takes no network as such, and the star ends all proxies."""
    environment |= {"no_proxy": "199.7.83.0/24 *.example.org", "HTTP_PROXY": DEAD}
    proxies.prepare()
    proxies.bypass("http://199.7.83.7:4200", "http://198.41.0.4")
    excepted = ["http://199.7.83.7", "http://a.example.org"]
    assert direct(*excepted, "http://198.41.0.4") == excepted
    environment["no_proxy"] = "x, *"
    proxies.prepare()
    assert direct(PUBLIC) and proxies.variable_for(PUBLIC) is None


def test_without_a_proxy_nothing_is_changed(environment: dict[str, str]) -> None:
    """A variable of ours would hide the proxies that macOS and Windows have in their settings."""
    before = dict(environment)
    proxies.prepare()
    proxies.bypass(*OWN)
    assert environment == before


def test_proxies_of_the_system_stay_for_the_rest(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx asks the proxy of macOS for loopback too, and no variable is read beside the system's settings."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"http": DEAD, "ftp": "ftp://h", "no": "x"})
    proxies.prepare()
    assert direct(OWN[0], PUBLIC) == [OWN[0]]


def test_a_name_is_own_where_all_its_addresses_are(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator has a name of its network; a name of the internet may need the proxy."""
    own = {
        "192.168.1.10",
        "100.64.0.3",
        "fd00::1",
        "169.254.1.1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "pi",
        "LAB.Fritz.Box.",
    }
    assert {host for host in own if not proxies.is_own(host)} == set()
    assert not any(map(proxies.is_own, ("198.41.0.4", "2001:4860::8", "example.com", "a" * 64 + ".de", "a..b")))
    for addresses, wanted in (["10.0.0.5"], True), (["10.0.0.5", "198.41.0.4"], False):
        proxies.is_own.cache_clear()
        found = [(0, 0, 0, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found: found)
        assert proxies.is_own("lab.example.org") is wanted


def test_certificates_that_are_missing_are_left_out(environment: dict[str, str], tmp_path: Path) -> None:
    """httpx reads them for plain http as well, and fails."""
    (tmp_path / "empty.pem").touch()
    for path in ("/nonexistent", str(tmp_path), str(tmp_path / "empty.pem")):
        environment["SSL_CERT_FILE"] = path
        proxies.prepare()
        httpx.Client().close()
        assert proxies.left_out() == {"SSL_CERT_FILE": path}
