"""How far two runs differ: a row a phase and condition, the interval of the paired difference, a line at zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from app import format as words
from app.plots import style

Row = Mapping[str, Any]
ROW_PX = 30
NAMES = {  # measure of reading_compare: (as it is read, unit on the axis, what less of it is called, and more)
    "attempts": ("Attempts", "attempts", "fewer attempts", "more attempts"),
    "right at first": (
        "Right at the first guess",
        "share of problems",
        "fewer first guesses right",
        "more first guesses right",
    ),
    "tokens": ("Tokens", "tokens", "fewer tokens", "more tokens"),
    "relevance": ("Relevance of what was retrieved", "relevance", "less relevance", "more relevance"),
}


def measure_name(measure: str) -> str:
    """ "Attempts"."""
    return NAMES[measure][0]


def badge(letter: str, text: str, run_id: str) -> str:
    """Which run a letter stands for."""
    return f'<p><strong>{letter}</strong> <bdi>{escape(text)}</bdi> <span class="lab-quiet"><bdi>{escape(run_id)}</bdi></span></p>'


def finding(rows: Sequence[Row], measure: str) -> str:
    """In how many conditions the difference leaves zero out, and the largest of them."""
    _, _, less, more = NAMES[measure]
    beside = [r for r in rows if r["low"] is not None and (r["low"] > 0 or r["high"] < 0)]
    if all(r["shared"] == r["n"] for r in rows):
        return "Both runs rest on the same results, so nothing can differ"
    if not beside:
        return f"No condition shows a difference in {measure}: every interval holds zero"
    most = max(beside, key=lambda r: abs(r["value"]))
    which = f"{most['phase'].upper()} {words.shortened(most['condition'], 40)}"
    size = words.with_interval(abs(most["value"]), *sorted((abs(most["low"]), abs(most["high"]))))
    text = f"B has {size} {less if most['value'] < 0 else more} in {which}"
    return text if len(rows) == 1 else f"{text}; {len(beside)} of {len(rows)} conditions differ"


def differences(rows: Sequence[Row], measure: str) -> go.Figure:
    """B - A of each phase and condition with its interval."""
    _, unit, less, _ = NAMES[measure]
    sizes = sorted({r["n"] for r in rows})
    n = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    figure = style.titled(
        finding(rows, measure),
        f"n {n} problems each · {rows[0]['method']}",
        f"B - A ({unit}); left of zero: {less}",
        "",
        height=ROW_PX * len(rows),
    )
    paths = list(range(len(rows)))
    figure.add_trace(
        go.Scatter(
            x=[r["value"] for r in rows],
            y=paths,
            mode="markers",
            marker={"color": style.BLUE, "size": 9},
            error_x=style.error_bars(rows, style.BLUE),
            hoverinfo="text",
            hovertext=[
                f"{r['phase'].upper()} {escape(words.shortened(r['condition'], 80))}<br>"
                f"B - A {words.with_interval(r['value'], r['low'], r['high'])}, n {r['n']}"
                for r in rows
            ],
        )
    )
    style.threshold(figure, 0, "no difference", solid=True)
    figure.update_yaxes(
        tickvals=paths,
        ticktext=[escape(f"{r['phase'].upper()} {words.shortened(r['condition'], 24)}") for r in rows],
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
    )
    return figure
