"""The state of a running pipeline, in one line. HTML; every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app import format as words
from app.phase_names import named
from app.prefect_api import Now
from app.reading import Row


def strip(phase: str, done: tuple[int, int], now: Now | None, left: Sequence[Row]) -> str:
    """Return the line: phase, units done of all, the hosts at work, time left; "" if nothing of the phase runs now.

    Args:
        done: units of the phase with a result, and all that it asked for.
        now: the answer of Prefect's server; None if it does not answer.
        left: the seconds of work that hosts have before them, by phase.
    """
    runs = [r for r in now.under_way if r.name.split(" · ")[0] == phase and r.kind == "RUNNING"] if now else []
    hosts = sorted({r.host for r in runs if r.host})
    if not hosts:
        return ""
    ready, asked = done
    seconds = [r["left_s"] for r in left if r["phase"] == phase and r["host"] in hosts]
    parts = [f"{ready:,} of {words.count(asked, 'unit')}", f"on {words.listed(hosts)}"]
    parts += [f"{words.duration(max(seconds))} left"] if seconds else []
    share = 100 * ready / asked if asked else 0
    return (
        f'<div class="lab-live" role="status"><span class="lab-mark lab-running"><i></i>{escape(named(phase))}</span>'
        f'<div class="lab-bar"><i class="lab-track"></i><i class="lab-fill lab-running" style="left:0;width:{share:.1f}%"></i></div>'
        f"<span>{escape(' · '.join(parts))}</span></div>"
    )
