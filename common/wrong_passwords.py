"""Answer wrong passwords late, and ever later, so that guessing them takes too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

FIRST_S = 0.1  # the delay of the first wrong password: a person who mistypes does not notice it
LONGEST_S = 1.0  # of the fifth and all later ones
IN_LINE_S = 10.0  # the longest wait of one that came at the same time as others
FORGET_S = 600.0  # without a wrong password the delays begin again
CLIENTS = 4096  # that are counted one by one, 100 bytes each; all others share one delay
IPV6_PREFIX = 64  # bits: one machine has all addresses of such a network


class _Seen(NamedTuple):
    wrong: int  # passwords so far
    due: float  # when the last of them is answered, by the monotonic clock


class WrongPasswords:
    """The delays by client. A right password is never delayed, so nobody can lock out others."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    async def delay(self, scope: Mapping[str, Any]) -> None:
        """Wait before a wrong password of an ASGI request is answered."""
        await asyncio.sleep(self.seconds(client_of(scope), time.monotonic()))

    def seconds(self, client: str, now: float) -> float:
        """Count a wrong password; return the seconds until its answer, those before it included."""
        if client not in self._seen and len(self._seen) >= CLIENTS:
            self._seen = {name: seen for name, seen in self._seen.items() if now - seen.due < FORGET_S}
            client = client if len(self._seen) < CLIENTS else ""
        wrong, due = self._seen.get(client, _Seen(0, now))
        if now - due >= FORGET_S:
            wrong = 0
        wait = max(due - now, 0.0) + min(FIRST_S * 2 ** min(wrong, 16), LONGEST_S)
        self._seen[client] = _Seen(wrong + 1, now + min(wait, IN_LINE_S))
        return min(wait, IN_LINE_S)


def client_of(scope: Mapping[str, Any]) -> str:
    """Return the address from which an ASGI request came; of IPv6 its network, "" if it is not known."""
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else str(ip_network((address.packed, IPV6_PREFIX), strict=False))
