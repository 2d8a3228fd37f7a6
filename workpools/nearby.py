"""Services that this host can reach: Ollama with its models, and the Prefect server with its clock."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from workpools.pools import checked_url

OLLAMA_PORT = 11434  # Ollama's own default
MAX_ANSWER_BYTES = 2**20  # a list of models is a few kilobytes
CLOCK_WARN_S = 5.0  # more than the 2 s to which an offset is good; the shortest heartbeat is 30 s (Prefect)


@dataclass(frozen=True)
class Answer:
    """A server's answer to a GET."""

    status: int
    date: str
    body: bytes
    asked_at_s: float  # by this host's clock, half-way between request and answer; seconds since 1970


def get(url: str, timeout_s: float) -> Answer | None:
    """Send a GET without proxies or redirects; return None if nothing answers in HTTP.

    `timeout_s` is for the connection and for each read.
    """
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
        try:
            # Before the clock is read: connecting takes a while, and the other clock is read after it.
            connection.connect()
            before = time.time()
            connection.request("GET", parts.path or "/")
            reply = connection.getresponse()
            asked_at_s = (before + time.time()) / 2
            return Answer(reply.status, reply.getheader("Date", ""), reply.read(MAX_ANSWER_BYTES), asked_at_s)
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError):
        return None


def ollama_address() -> str:
    """Return Ollama's address: OLLAMA_HOST as Ollama's own client reads it, else its port on this host."""
    value = os.environ.get("OLLAMA_HOST", "").strip()
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "http", value
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    # A server that listens on every interface is asked on this one.
    host = "127.0.0.1" if host in (None, "0.0.0.0") else host  # noqa: S104
    default = {"http": 80, "https": 443}[scheme] if separator and scheme in ("http", "https") else OLLAMA_PORT
    scheme = scheme if scheme in ("http", "https") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in str(host) else host}:{port or default}"


def ollama_models(address: str, timeout_s: float = 1) -> list[str] | None:
    """Return the names of Ollama's models; None if no Ollama answers at `address` within `timeout_s`."""
    answer = get(f"{address}/api/tags", timeout_s)
    if answer is None or answer.status != 200:
        return None
    try:
        listed = json.loads(answer.body)["models"]
        names = [model["name"] for model in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # JSON may hold half a surrogate pair, which no file can.
    return sorted(n.encode(errors="backslashreplace").decode() for n in names if isinstance(n, str))


def clock_offset_s(api_url: str, timeout_s: float = 2) -> float | None:
    """Return the seconds by which this host's clock is ahead of the server's; None if no server answers.

    The Date header is in whole seconds, so half a second is subtracted, and a busy server updates it late: with half the
    round trip the result is good to about two seconds (0.3 to 2.1 off on one machine under load, measured).

    Raises:
        LabError: `api_url` is not an http address.
    """
    # /health answers without a password; a refusal would have a Date as well.
    answer = get(f"{checked_url(api_url).rstrip('/')}/health", timeout_s)
    try:
        date = parsedate_to_datetime(answer.date) if answer else None
    except (ValueError, TypeError, OverflowError):
        date = None
    if answer is None or date is None:
        return None
    return round(answer.asked_at_s - (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - 0.5, 1)


def clock_reason(offset_s: float | None) -> str | None:
    """Return a line about a clock that is wrong by more than CLOCK_WARN_S; None for a right or unknown one."""
    if offset_s is None or abs(offset_s) <= CLOCK_WARN_S:
        return None
    direction = "ahead of" if offset_s > 0 else "behind"
    return (
        f"clock {abs(offset_s):.0f} s {direction} the Prefect server's, by which leases and heartbeats are measured: "
        "timedatectl set-ntp true"
    )
