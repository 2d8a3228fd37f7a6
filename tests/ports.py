"""Ports for servers that tests start, and a name under which the tests' Chromium finds them."""

from __future__ import annotations

import socket

REBOUND = "rebound.example"  # a name of others that leads to this machine, as a page makes one by DNS rebinding


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port of `address` on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
