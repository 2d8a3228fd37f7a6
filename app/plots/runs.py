"""The differences of two runs: a row per phase and condition, the interval of the paired difference, a line at zero."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from app import format as words
from app.plots import style
from app.reading import Row

ROW_PX = 32


class Measure(NamedTuple):
    """A measure of warehouse.queries.compare in words."""

    name: str
    unit: str
    less: str
    more: str


FIRST = Measure(
    "Right at the first guess", "share of problems", "fewer first guesses right", "more first guesses right"
)
NAMES = {
    "attempts": Measure("Attempts", "attempts", "fewer attempts", "more attempts"),
    "right at first": FIRST,
    "tokens": Measure("Tokens", "tokens", "fewer tokens", "more tokens"),
    "relevance": Measure("Relevance of what was retrieved", "relevance", "less relevance", "more relevance"),
}


def finding(rows: Sequence[Row], measure: str, other: str = "B") -> str:
    """Return in how many conditions the interval excludes zero, and the largest difference among them."""
    beside = [r for r in rows if r["low"] is not None and (r["low"] > 0 or r["high"] < 0)]
    if all(r["shared"] == r["n"] for r in rows):
        return "Both runs rest on the same results, so nothing can differ"
    if not beside:
        return f"No condition shows a difference in {measure}: every interval includes zero"
    most = max(beside, key=lambda r: abs(r["value"]))
    which = f"{most['phase'].upper()} {words.shortened(most['condition'], 40)}"
    name = NAMES[measure].less if most["value"] < 0 else NAMES[measure].more
    text = f"{other} has {words.estimate_abs(most)} {name} in {which}"
    return text if len(rows) == 1 else f"{text}; {len(beside)} of {len(rows)} conditions differ"


def differences(rows: Sequence[Row], measure: str, other: str = "B") -> go.Figure:
    """Draw B - A of each phase and condition with its interval; `other` is the letter of the second run."""
    sizes = sorted({r["n"] for r in rows})
    n = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    basis = f"n {n} problems each · {rows[0]['method']}"
    title = f"{other} - A ({NAMES[measure].unit}); left of zero: {NAMES[measure].less}"
    figure = style.titled(finding(rows, measure, other), basis, title, "", height=ROW_PX * len(rows))
    hover = [
        f"{r['phase'].upper()} {escape(words.shortened(r['condition'], 80))}<br>{other} - A {words.estimate(r)}, n {r['n']}"
        for r in rows
    ]
    values, mark = [r["value"] for r in rows], {"color": style.BLUE, "size": 9}
    ends = style.error_bars(rows, style.BLUE)
    figure.add_scatter(
        x=values, y=list(range(len(rows))), mode="markers", marker=mark, error_x=ends, **style.hovering(hover)
    )
    style.threshold(figure, 0, "no difference", solid=True)
    style.rows(figure, [f"{r['phase'].upper()} {r['condition']}" for r in rows], ROW_PX)
    return figure
