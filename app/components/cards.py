"""HTML of the strip of six cards, the header and lists of facts. Every value from the snapshot is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from app import format as words
from app.phase_names import ORDER, named, text_of
from app.reading import Row

Progress = tuple[int, int]  # units done, units planned so far
# The shape of each, and its colour, are drawn by style.css (Streamlit takes SVG out of HTML).
CLASSES = {"PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "inconclusive", "RUNNING": "running", "NOT RUN": "waiting"}


class Fact(NamedTuple):
    """A name and its value, the text that shows on hover, and a mark if it weakens the results."""

    name: str
    value: str
    hover: str = ""
    warns: bool = False


def status_of(verdict: Row | None, done: Progress | None) -> str:
    """Return a verdict's status, or RUNNING or NOT RUN."""
    return str(verdict["status"]) if verdict else "RUNNING" if done else "NOT RUN"


def pill(status: str) -> str:
    """Return a verdict's word, shape and colour."""
    known = CLASSES.get(status, "waiting")
    text = status if status in ("PASS", "FAIL", "INCONCLUSIVE") else status.lower()
    return f'<span class="lab-pill lab-{known}"><i></i>{escape(text)}</span>'


def reference(verdict: Row) -> float | None:
    """Return where the line stands: at the threshold, else at zero for a difference and at 1 for a ratio."""
    if words.defined(verdict["threshold"]):
        return float(verdict["threshold"])
    metric = verdict["main_metric"]
    return 0.0 if "difference" in metric else 1.0 if metric.endswith(("_ratio", "retention")) else None


def bar(verdict: Row) -> str:
    """Draw the main metric as a bar with its interval, and a line at its reference."""
    value, low, high = (verdict[k] for k in ("value", "low", "high"))
    line = reference(verdict)
    if not words.defined(value):
        return (
            ""
            if line is None
            else '<div class="lab-bar"><i class="lab-track"></i><i class="lab-line" style="left:80%"></i></div>'
        )
    marks = [float(m) for m in (0.0, value, low, high, line) if m is not None and words.defined(m)]
    start, end = min(marks), max(marks)
    room = (end - start or 1.0) * 0.08
    start, end = start - (room if start < 0 else 0.0), end + room

    def at(x: float) -> float:
        return round(100 * (x - start) / (end - start), 2)

    left, right = sorted((at(0.0), at(value)))
    parts = [f'<i class="lab-track"></i><i class="lab-fill lab-{CLASSES.get(verdict["status"], "waiting")}" ']
    parts.append(f'style="left:{left}%;width:{right - left:.2f}%"></i>')
    if words.defined(low) and words.defined(high):
        parts.append(f'<i class="lab-span" style="left:{at(low)}%;width:{at(high) - at(low):.2f}%"></i>')
    if line is not None:
        parts.append(f'<i class="lab-line" style="left:{at(line)}%"></i>')
    return f'<div class="lab-bar" role="img" aria-label="{escape(note(verdict))}">{"".join(parts)}</div>'


def note(verdict: Row) -> str:
    """Return the meaning of the bar's line: "threshold 1.2, higher is better", or that another condition is not met."""
    value, threshold = verdict["value"], verdict["threshold"]
    if words.defined(threshold):
        lower = words.lower_is_better(verdict["main_metric"])
        if verdict["status"] == "FAIL" and words.defined(value) and words.met(verdict["main_metric"], value, threshold):
            return f"{'below' if lower else 'above'} {threshold:g}, but another condition is not met"
        return f"threshold {threshold:g}, {'lower' if lower else 'higher'} is better"
    line = reference(verdict)
    better = "fewer" if words.lower_is_better(verdict["main_metric"]) else "more"
    return (
        {0.0: f"line at zero, {better} is better", 1.0: "line at 1, no change"}.get(line, "")
        if line is not None
        else ""
    )


def card(phase: str, verdict: Row | None, done: Progress | None, by_host: str = "", last: str = "") -> str:
    """Return the card of one phase: decided, running with its units and its latest result, or not run.

    `by_host` is HTML: which hosts did how much, and if they agree.
    """
    status = status_of(verdict, done)
    parts = [
        f'<div role="listitem" class="lab-card lab-is-{CLASSES.get(status, "waiting")}" data-phase="{phase}">'
        f'<div class="lab-top"><strong>{phase.upper()}</strong>{pill(status)}</div>'
        f'<div class="lab-name">{escape(text_of(phase).title)}</div>'
    ]
    # The rows of all cards align, so an empty card has as many.
    parts.append(
        _decided(verdict, by_host) if verdict else _running(done, by_host, last) if done else "<div></div>" * 7
    )
    return f"{''.join(parts)}</div>"


def _decided(verdict: Row, by_host: str) -> str:
    between = words.interval(verdict["low"], verdict["high"]) if words.defined(verdict["value"]) else ""
    between = f"({between})" if between else ""
    metric = words.words(verdict["main_metric"]) + (
        f", {words.conditions(verdict['main_condition'])}" if verdict["main_condition"] else ""
    )
    facts = [trials_of(verdict), words.duration(verdict["actual_s"])]
    facts += ["leaky data"] if verdict["leaky"] else []
    facts += ["overridden"] if verdict["overridden_by"] else []
    return (
        f'<div class="lab-value">{escape(words.number(verdict["value"]))}</div>'
        f'<div class="lab-between lab-quiet">{escape(between)}</div><div class="lab-quiet">{escape(metric)}</div>'
        f'<div>{bar(verdict)}</div><div class="lab-quiet">{escape(note(verdict))}</div>'
        f'<div class="lab-facts">{"".join(f"<div>{escape(f)}</div>" for f in facts if f)}</div>'
        f"<div>{by_host}</div>"
    )


def trials_of(verdict: Row) -> str:
    """Return "24 trials, 8 failed"; empty if no trial of the phase is in the snapshot."""
    failed = f", {verdict['failed']:,} failed" if verdict["failed"] else ""
    return words.count(verdict["trials"], "trial") + failed if verdict["trials"] else ""


def overridden(verdict: Row) -> str:
    """Return "Overridden on laptop: demo", or nothing."""
    if not verdict["overridden_by"]:
        return ""
    return f"Overridden on {verdict['overridden_by']}: {verdict['why'] or 'no reason given'}"


def _running(done: Progress, by_host: str, last: str) -> str:
    ready, asked = done
    share = 100 * ready / asked if asked else 0
    return (
        f'<div class="lab-value">{ready:,} of {asked:,}</div><div class="lab-quiet">units done</div><div></div>'
        f'<div><div class="lab-bar" role="img" aria-label="{ready} of {asked} units done"><i class="lab-track"></i>'
        f'<i class="lab-fill lab-running" style="left:0;width:{share:.1f}%"></i></div></div><div></div>'
        f'<div class="lab-facts"><div>{escape(f"last result {last}") if last else "no result yet"}</div></div><div>{by_host}</div>'
    )


def strip(
    verdicts: Mapping[str, Row], done: Mapping[str, Progress], by_host: Mapping[str, str], last: Mapping[str, str]
) -> str:
    """Return the six cards in order, arrows between.

    `by_host` is HTML, see `card`; `last` is the time of each phase's latest result, as text.
    """
    cards = (card(p, verdicts.get(p), done.get(p), by_host.get(p, ""), last.get(p, "")) for p in ORDER)
    return f'<div role="list" class="lab-chain" aria-label="The chain of phases">{"".join(cards)}</div>'


def reasons(verdicts: Mapping[str, Row]) -> dict[str, str]:
    """Return each verdict with its reason; the reason of an override stands once, at the first phase that has it."""
    found, seen = {}, set[str]()
    for phase, verdict in verdicts.items():
        why = overridden(verdict)
        found[phase] = _reason(phase, verdict, "" if why in seen else why)
        seen.add(why)
    return found


def _reason(phase: str, verdict: Row, why: str) -> str:
    return (
        f'<div class="lab-reason"><strong>{escape(named(phase))}</strong>{pill(verdict["status"])}'
        f"<p>{escape(words.reason(verdict['reason']))}"
        + (f'<br><span class="lab-warns"><i></i>{escape(verdict["differs"])}</span>' if verdict["differs"] else "")
        + (f'<br><span class="lab-quiet">{escape(why)}</span>' if why else "")
        + "</p></div>"
    )


def facts(rows: Sequence[Fact]) -> str:
    """Return a list of names and values; a fact without a value is left out."""
    items = (
        f"<dt>{escape(row.name)}</dt><dd"
        + (f' title="{escape(row.hover)}">' if row.hover else ">")
        + (f'<span class="lab-warns"><i></i>{escape(row.value)}</span>' if row.warns else escape(row.value))
        + "</dd>"
        for row in rows
        if row.value
    )
    return f'<dl class="lab-where">{"".join(items)}</dl>'
