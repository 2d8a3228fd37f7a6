"""HTML of the strip of six cards, of the header and of definition lists. Every value from the snapshot is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app import format as words
from app.phase_names import ORDER, named, text_of

Row = Mapping[str, Any]
# The shape of each, and its colour, are drawn by style.css (Streamlit takes SVG out of HTML).
CLASSES = {"PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "inconclusive", "RUNNING": "running", "NOT RUN": "waiting"}


def pill(status: str) -> str:
    """A verdict's word, shape and colour."""
    known = CLASSES.get(status, "waiting")
    text = status if status in ("PASS", "FAIL", "INCONCLUSIVE") else status.lower()
    return f'<span class="lab-pill lab-{known}"><i></i>{escape(text)}</span>'


def bar(verdict: Row) -> str:
    """The main metric as a bar with its interval, and the threshold or, for a difference, zero as a line."""
    value, low, high, threshold = (verdict[k] for k in ("value", "low", "high", "threshold"))
    if not words.defined(value):
        return ""
    line = threshold if words.defined(threshold) else (0.0 if "difference" in verdict["main_metric"] else None)
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
    """What the line in the bar is: "threshold 1.2, higher is better"; or that a verdict rests on more than it."""
    value, threshold = verdict["value"], verdict["threshold"]
    if words.defined(threshold):
        lower = words.lower_is_better(verdict["main_metric"])
        if verdict["status"] == "FAIL" and words.defined(value) and words.met(verdict["main_metric"], value, threshold):
            return f"{'below' if lower else 'above'} {threshold:g}, but another condition is not met"
        return f"threshold {threshold:g}, {'lower' if lower else 'higher'} is better"
    return "line at zero, fewer is better" if "difference" in verdict["main_metric"] else ""


def card(
    phase: str, verdict: Row | None, done: tuple[int, int] | None, hosts: Sequence[str] = (), last: str = ""
) -> str:
    """One phase: decided, running with its units and when the last result came, or not run."""
    status = verdict["status"] if verdict else "RUNNING" if done else "NOT RUN"
    parts = [
        f'<div role="listitem" class="lab-card lab-is-{CLASSES.get(status, "waiting")}" data-phase="{phase}">'
        f'<div class="lab-top"><strong>{phase.upper()}</strong>{pill(status)}</div>'
        f'<div class="lab-name">{escape(text_of(phase).title)}</div>'
    ]
    if verdict:
        parts.append(_decided(verdict))
    elif done:
        parts.append(_running(done, hosts, last))
    else:
        parts.append("<div></div>" * 7)  # the rows of all cards stand in line
    return f"{''.join(parts)}</div>"


def _decided(verdict: Row) -> str:
    between = words.interval(verdict["low"], verdict["high"]) if words.defined(verdict["value"]) else ""
    between = f"({between})" if between else ""
    metric = words.words(verdict["main_metric"]) + (
        f", {verdict['main_condition']}" if verdict["main_condition"] else ""
    )
    trials = words.count(verdict["trials"], "trial") + (f", {verdict['failed']} failed" if verdict["failed"] else "")
    facts = [trials, ", ".join(verdict["hosts"]), words.duration(verdict["actual_s"])]
    facts += ["leaky data"] if verdict["leaky"] else []
    why = overridden(verdict)
    return (
        f'<div class="lab-value">{escape(words.number(verdict["value"]))}</div>'
        f'<div class="lab-between lab-quiet">{escape(between)}</div><div class="lab-quiet">{escape(metric)}</div>'
        f'<div>{bar(verdict)}</div><div class="lab-quiet">{escape(note(verdict))}</div>'
        f'<div class="lab-facts">{"".join(f"<div>{escape(f)}</div>" for f in facts if f)}</div>'
        + (f'<div class="lab-why"><div title="{escape(why)}">{escape(why)}</div></div>' if why else "<div></div>")
    )


def overridden(verdict: Row) -> str:
    """ "Overridden on laptop: demo", or nothing."""
    if not verdict["overridden_by"]:
        return ""
    return f"Overridden on {verdict['overridden_by']}: {verdict['why'] or 'no reason given'}"


def _running(done: tuple[int, int], hosts: Sequence[str], last: str) -> str:
    ready, asked = done
    share = 100 * ready / asked if asked else 0
    return (
        f'<div class="lab-value">{ready:,} of {asked:,}</div><div class="lab-quiet">units done</div><div></div>'
        f'<div><div class="lab-bar" role="img" aria-label="{ready} of {asked} units done"><i class="lab-track"></i>'
        f'<i class="lab-fill lab-running" style="left:0;width:{share:.1f}%"></i></div></div><div></div>'
        f'<div class="lab-facts"><div>{escape(", ".join(hosts))}</div>'
        f"<div>{escape(f'last result {last}') if last else 'no result yet'}</div></div><div></div>"
    )


def strip(
    verdicts: Mapping[str, Row],
    done: Mapping[str, tuple[int, int]],
    hosts: Mapping[str, Sequence[str]],
    last: Mapping[str, str],
) -> str:
    """The six cards in order, arrows between; `last` is when the newest result of a phase came, in words."""
    cards = (card(p, verdicts.get(p), done.get(p), hosts.get(p, ()), last.get(p, "")) for p in ORDER)
    return f'<div role="list" class="lab-chain" aria-label="The chain of phases">{"".join(cards)}</div>'


def head(quiet: str, sentence: str, then: str, command: str, rests_on: Sequence[tuple[str, bool]]) -> str:
    """The page's first lines: which run (already HTML), how far it is, what is next, what it rests on."""
    code = f": <code>{escape(command)}</code>" if command else "."
    facts = (
        f'<span class="lab-warns"><i></i>{escape(fact)}</span>'
        if warns
        else f'<span class="lab-quiet">{escape(fact)}</span>'
        for fact, warns in rests_on
    )
    over = f'<div class="lab-over"><strong>Overview</strong><span class="lab-quiet">{quiet}</span></div>'
    rests = '<span class="lab-quiet"> · </span>'.join(facts)
    return (
        f'<div class="lab-head">{over}<h1>{escape(sentence)}</h1><p>Next: {escape(then)}{code}</p>'
        + (f'<p class="lab-rests">{rests}</p>' if rests else "")
        + "</div>"
    )


def reason(phase: str, verdict: Row) -> str:
    """A verdict with its sentence."""
    return (
        f'<div class="lab-reason"><strong>{escape(named(phase))}</strong>{pill(verdict["status"])}'
        f"<p>{escape(words.reason(verdict['reason']))}"
        + (f'<br><span class="lab-quiet">{escape(why)}</span>' if (why := overridden(verdict)) else "")
        + "</p></div>"
    )


def definitions(rows: Sequence[tuple[str, str, str]], warned: Sequence[str] = ()) -> str:
    """Names and values with a text that shows on hover ("" for none); names in `warned` carry the warning's mark."""
    items = (
        f"<dt>{escape(name)}</dt><dd"
        + (f' title="{escape(hover)}"' if hover else "")
        + (
            f'><span class="lab-warns"><i></i>{escape(value)}</span></dd>'
            if name in warned
            else f">{escape(value)}</dd>"
        )
        for name, value, hover in rows
        if value
    )
    return f'<dl class="lab-where">{"".join(items)}</dl>'
