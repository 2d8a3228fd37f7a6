"""`lab up --lan`: which address is opened, with which keys, and what other machines are told to type."""

from __future__ import annotations

import ipaddress
import shlex
import socket
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import LabError
from lab.network import secrets
from workpools.tiers import TIERS

LOOPBACK = "127.0.0.1"
NOBODY = ("192.0.2.1", 9)  # RFC 5737: routed by the default route, and nobody's; nothing is sent there


@dataclass(frozen=True)
class Door:
    """Where server and page listen, and the keys they ask for; None lets everybody in who can reach loopback."""

    address: str = LOOPBACK
    keys: secrets.Keys | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.keys is None and not ipaddress.ip_address(self.address).is_loopback:
            raise LabError(f"{self.address} would be open to everybody on the network", "lab up --lan")

    def url(self, port: int) -> str:
        return f"http://{bracketed(self.address)}:{port}"


def bracketed(address: str) -> str:
    """An address as it stands in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def opened(address: str | None = None) -> Door:
    """The door for the LAN: this machine's address there, or the one that was asked for, and the keys, made when missing.

    Raises:
        LabError: no address of this machine, or one that is open to more than a LAN.
    """
    return Door(_found() if address is None else checked_address(address), secrets.issued())


def checked_address(text: str) -> str:
    """`text` if it is one address of this machine."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise LabError(f"{text[:80]!r} is no IP address", "lab up --lan --address 192.168.1.10") from None
    if address.is_unspecified or address.is_multicast:
        raise LabError(f"{text} is not one address: it would open every interface", "name the one of your LAN")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((text, 0))
    except OSError:
        raise LabError(f"{text} is no address of this machine", "see: ip address; or leave --address out") from None
    return str(address)


def _found() -> str:
    """The address by which this machine reaches others."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(NOBODY)
            found = str(probe.getsockname()[0])
    except OSError:
        raise LabError(
            "this machine is on no network", "name the address: lab up --lan --address 192.168.1.10"
        ) from None
    if ipaddress.ip_address(found).is_global:
        # Nothing is encrypted, so that is a decision for a person.
        raise LabError(
            f"{found} is reachable from the internet, and what lab sends is not encrypted",
            f"name an address of a LAN or VPN, or this one on purpose: lab up --lan --address {found}",
        )
    return found


def join_lines(server_url: str, results_url: str | None) -> list[tuple[str, str]]:
    """(tier, command to paste on a machine of that tier), none of which holds a secret.

    Args:
        results_url: LAB_RESULTS_URL for the others; None when that is a folder of this machine that they have to mount.
    """
    results = f"LAB_RESULTS_URL={shlex.quote(results_url) if results_url else '/PATH'}"
    return [
        (tier, " ".join([results, "lab join", server_url, *(f"--also {t}" for t in reversed(TIERS[:i]))]))
        for i, tier in enumerate(TIERS)
    ]


def read_key(source: Path | None) -> str:
    """A join key from a file, or from standard input for -.

    Raises:
        LabError: it holds none.
    """
    import sys

    if source is None or str(source) == "-":
        return secrets.checked_key(sys.stdin.readline(secrets.MAX_FILE_BYTES))
    with source.open(encoding="utf-8", errors="replace") as file:
        return secrets.checked_key(file.read(secrets.MAX_FILE_BYTES))
