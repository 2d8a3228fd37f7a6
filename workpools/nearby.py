"""Services that this host reaches: Ollama with its models, and the Prefect server with its clock."""

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
    """What a server said to a GET, and the time of this host's clock half-way."""

    status: int
    date: str
    body: bytes
    asked_at_s: float  # seconds since 1970


def get(url: str, timeout_s: float) -> Answer | None:
    """The answer to a GET, without proxies or redirects; None when nothing answers or what answers is no HTTP."""
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
        try:
            # Before the clock is looked at, since it may take a while and none of it tells of the other's clock.
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
    """Where Ollama answers: OLLAMA_HOST as Ollama's own client reads it, else its port on this host."""
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
    """Names of the models that Ollama has; None when what answers there, if anything, is no Ollama."""
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
    """Seconds by which this host's clock is ahead of the server's; None when no server answers.

    The Date header holds whole seconds, of which half of one is taken off, and a busy server renews it late: with half the
    round trip it is good to about two seconds (0.3 to 2.1 off on one machine under load, measured).

    Raises:
        LabError: `api_url` is no http address.
    """
    # /health answers everybody; a refusal would tell the time as well.
    answer = get(f"{checked_url(api_url).rstrip('/')}/health", timeout_s)
    try:
        said = parsedate_to_datetime(answer.date) if answer else None
    except (ValueError, TypeError, OverflowError):
        said = None  # a Date that is none
    if answer is None or said is None:
        return None
    return round(answer.asked_at_s - (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp() - 0.5, 1)


def clock_reason(offset_s: float | None) -> str | None:
    """What is wrong with the clock, if anything."""
    if offset_s is None or abs(offset_s) <= CLOCK_WARN_S:
        return None
    way = "ahead of" if offset_s > 0 else "behind"
    return (
        f"clock {abs(offset_s):.0f} s {way} the Prefect server's, and leases and heartbeats rest on clocks: "
        "timedatectl set-ntp true"
    )
