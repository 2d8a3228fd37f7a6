"""One line a host: its tier, what it does now, its share of the work, its speed. HTML; every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from app import format as words
from app.plots import style
from app.prefect_api import Machine, Now
from app.reading import Row

MOST_ROWS = 12  # shown at once; the rest is folded
COLUMNS = ("host", "tier", "now", "share of the work", "speed")
HEAD = f'<div class="lab-host lab-quiet">{"".join(f"<span>{c}</span>" for c in COLUMNS)}</div>'


@dataclass(frozen=True)
class Line:
    """What is known of a host.

    Attributes:
        share: of the seconds of work of this run; None before any.
        speed: relative to the fastest host; None where nothing was measured.
    """

    host: str
    tier: str
    share: float | None
    speed: float | None


def speeds(means: Sequence[Row], reports: Mapping[str, Row]) -> dict[str, float]:
    """Return the speed of each host relative to the fastest one: the geometric mean over phases, else what was assessed.

    Args:
        means: rows of seconds_a_trial.
        reports: capability reports by host.
    """
    logs: dict[str, list[float]] = {}
    for phase in dict.fromkeys(r["phase"] for r in means):
        own = {r["host"]: r["mean_s"] for r in means if r["phase"] == phase}
        if len(own) > 1:
            for host, mean_s in own.items():
                logs.setdefault(host, []).append(math.log(min(own.values()) / mean_s))
    found = {host: math.exp(sum(v) / len(v)) for host, v in logs.items()}
    measured = {h: r["prefill_tokens_per_s"] for h, r in reports.items() if r["prefill_tokens_per_s"]}
    fastest = max(measured.values(), default=None)
    assessed = {h: v / fastest for h, v in measured.items()} if fastest else {}
    top = max(found.values(), default=1.0)
    return assessed | {h: v / top for h, v in found.items()}


def rows(lines: Sequence[Line], known: Sequence[str], now: Now | None, left: Sequence[Row], at: datetime) -> str:
    """Return the lines of hosts; `left` has the seconds of work that wait on a host, by phase."""
    machines = {m.name: m for m in now.machines} if now else {}
    body = "".join(_row(line, known, now, machines.get(line.host), left, at) for line in lines)
    return f'<div class="lab-hosts" role="list" aria-label="Hosts">{HEAD}{body}</div>'


def dot(host: str, known: Sequence[str], hollow: bool = False) -> str:
    """Return a host's mark in its fixed colour, hollow while it is not online."""
    colour = style.colour(host, known)
    fill = "transparent" if hollow else colour
    return f'<i class="lab-dot" style="border-color:{colour};background:{fill}"></i>'


def _row(
    line: Line, known: Sequence[str], now: Now | None, machine: Machine | None, left: Sequence[Row], at: datetime
) -> str:
    online = machine is not None and bool(machine.pools)
    share = "" if line.share is None else f"{100 * line.share:.0f} %"
    bar = f'<i class="lab-share" style="width:{100 * (line.share or 0):.1f}%;background:{style.colour(line.host, known)}"></i>'
    speed = "" if line.speed is None else f"{line.speed:.2g}"
    return (
        f'<div class="lab-host" role="listitem"><strong>{dot(line.host, known, not online)}{escape(line.host)}</strong>'
        f'<span class="lab-quiet">{escape(line.tier)}</span><span>{escape(doing(now, machine, line.host, left, at))}</span>'
        f'<span class="lab-shared"><b>{share}</b><span>{bar}</span></span>'
        f'<span class="lab-speed" title="relative to the fastest">{speed}</span></div>'
    )


def doing(now: Now | None, machine: Machine | None, host: str, left: Sequence[Row], at: datetime) -> str:
    """Return what a host does now: "e1 · shard 3 of 4, 6 min left", "idle", "offline for 5 min", "not joined"."""
    if now is None:
        return "not known: the server does not answer"
    if machine is None:
        return "not joined"
    runs = [r for r in now.under_way if r.host == host and r.kind == "RUNNING"]
    texts = []
    for run in runs:
        phase = run.name.split(" · ")[0]
        seconds = next((r["left_s"] for r in left if (r["host"], r["phase"]) == (host, phase)), None)
        text = run.name.removesuffix(f" · {host}")
        texts.append(f"{text}, {words.duration(seconds)} left" if seconds is not None else text)
    if texts:
        return "; ".join(texts)
    if machine.status == "offline":
        since = words.ago(machine.heartbeat_at, at).removesuffix(" ago")
        return f"offline for {since}" if since else "offline"
    return "idle" if machine.status == "online" else machine.status
