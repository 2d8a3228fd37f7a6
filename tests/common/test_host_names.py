"""Names of machines as people give them, and the names of hosts that they become."""

from __future__ import annotations

import itertools
import socket

import pytest

from common.environment import HOST_PATTERN, host_name_from, is_host
from common.same_origin import machine_names

# Systems' names of which no two are the same machine's.
DIFFERENT = (
    "pi-4|pi4|pi_4|pi.home|pi.office|pi.home.lan|pi|-pi|pi-|p-i|müller|muller|mueller|möller|MÜLLER|büro pc|büro-pc|東京|大阪|all|...|-|"
    "\udcff|\udcfe|a..b|.a|K1|x/../y|con\n|localhost"
).split("|")
LONG = (
    "a" * 62 + "-b",
    "a" * 62 + "-c",
    "a" * 63,
    "a" * 64,
    "a" * 255,
    ("a" * 63 + ".") * 3 + "b",
    "a" * 62 + "-",
    "ä" * 64,
)


def test_two_names_never_become_one() -> None:
    """Results of two machines under one name would be one machine's, and each would take the other's work."""
    names = [*DIFFERENT, *LONG]
    hosts = [host_name_from(name) for name in names]
    assert [name for name, host in zip(names, hosts, strict=True) if not is_host(host)] == []
    assert [(a, b) for (a, x), (b, y) in itertools.combinations(zip(names, hosts, strict=True), 2) if x == y] == []


@pytest.mark.parametrize(
    ("system", "host"),
    [
        ("pi-4", "pi-4"),
        ("DESKTOP-1A2B", "desktop-1a2b"),
        ("Johns-MacBook-Pro.local", "johns-macbook-pro"),
        ("pi-4.", "pi-4"),
        ("a" * 63, "a" * 63),
        ("müller", "muller-"),
        ("pi.home.lan", "pi-"),
        ("a" * 62 + "-b", "a" * 54 + "-"),
        ("", "host-"),
        ("東京", "host-"),
    ],
)
def test_a_name_stays_what_it_can(system: str, host: str) -> None:
    """People look for their machine's name in tables; a mark follows where two could be the same."""
    found = host_name_from(system)
    assert HOST_PATTERN.fullmatch(found)
    assert (found == host) if not host.endswith("-") else (found.startswith(host) and len(found) == len(host) + 8)


@pytest.mark.parametrize("name", [*LONG, "a..b", ".a", "müller", "\udcff"])
def test_a_server_starts_on_a_machine_of_any_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's socket.getfqdn fails on some, so no server came up; and browsers write others in their own way."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    own = machine_names()
    assert name.lower() in own and all(isinstance(n, str) for n in own)
    assert ("xn--mller-kva" in own) is (name == "müller")
