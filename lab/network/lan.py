"""`lab up --lan`: the address to listen on, its keys, and the commands for other machines."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import LabError
from lab.network import secrets
from workpools.tiers import TIERS

LOOPBACK, LOOPBACK_6 = "127.0.0.1", "::1"
EXAMPLE = "lab up --lan --address 192.168.1.10"
NOBODY = ("192.0.2.1", 9)  # RFC 5737: an address that nobody has; nothing is sent there


def loopback() -> str:
    """Return this machine's loopback address: that of IPv6 where there is no other."""
    try:
        with socket.socket(socket.AF_INET) as probe:
            probe.bind((LOOPBACK, 0))
    except OSError:
        return LOOPBACK_6
    return LOOPBACK


@dataclass(frozen=True)
class Listener:
    """The address of server and page, and the keys they require; None, on loopback only, requires no key."""

    address: str = field(default_factory=loopback)
    keys: secrets.Keys | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.keys is None and not ipaddress.ip_address(self.address).is_loopback:
            raise LabError(f"{self.address} would be open to everybody on the network", "lab up --lan")

    def url(self, port: int) -> str:
        """Return the address in HTTP with a port."""
        return f"http://{bracketed(self.address)}:{port}"


def bracketed(address: str) -> str:
    """Return an address as it is written in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def lan_listener(address: str | None = None) -> Listener:
    """Return the listener for a LAN, by default on the address that reaches others; its keys are created the first time."""
    return Listener(_found() if address is None else checked_address(address), secrets.issued())


def checked_address(text: str) -> str:
    """Return `text` in its standard form if it is one address of this machine, else raise LabError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise LabError(f"{text[:80]!r} is not an IP address", EXAMPLE) from None
    if address.is_unspecified or address.is_multicast:
        mend = f"give this machine's address in your network: {EXAMPLE}"
        raise LabError(f"{text} is not the address of one network interface", mend)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((text, 0))
    except OSError:
        mend = "list them: ip address; or leave --address out"
        raise LabError(f"{text} is not an address of this machine", mend) from None
    return str(address)


def _found() -> str:
    """Return the address through which this machine reaches others."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(NOBODY)
            found = str(probe.getsockname()[0])
    except OSError:
        raise LabError("this machine is not on a network", f"give the address: {EXAMPLE}") from None
    if ipaddress.ip_address(found).is_global:
        # Nothing is encrypted, so a person has to decide this.
        mend = f"name an address of a LAN or VPN, or this one on purpose: lab up --lan --address {found}"
        raise LabError(f"{found} is reachable from the internet, and what lab sends is not encrypted", mend)
    return found


def join_lines(server_url: str, results_url: str | None) -> dict[str, str]:
    """Return the command to paste on a machine of each tier, by tier; none holds a secret."""
    results = f"LAB_RESULTS_URL={shlex.quote(results_url) if results_url else '/PATH'}"
    return {
        tier: " ".join([results, "lab join", server_url, *(f"--also {t}" for t in reversed(TIERS[:i]))])
        for i, tier in enumerate(TIERS)
    }


def read_key(source: Path | None) -> str:
    """Return the join key in a file, or on standard input for -; LabError if there is none."""
    if source is None or str(source) == "-":
        return secrets.checked_key(sys.stdin.readline(secrets.MAX_FILE_BYTES))
    with source.open(encoding="utf-8", errors="replace") as file:
        return secrets.checked_key(file.read(secrets.MAX_FILE_BYTES))
