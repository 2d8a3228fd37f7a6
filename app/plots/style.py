"""The style of every plot: the finding as its title, axes with units, thresholds as labelled lines, fixed colours.

Colours and sizes suit white and near-black; text takes its colour from Streamlit's theme.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.format import conditions
from app.reading import Row
from common.text import UNDEFINED, defined

# Okabe & Ito 2008, without black (unseen on a dark page), yellow (unseen on a light one) last.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW = OKABE_ITO
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon")
GREY = "#8A8F98"
FONT_PX, TITLE_PX = 13, 15
TOP_PX = 16  # above the title: with 6 the first of several lines is cut in half (seen in Chromium, plotly.js 3)
BOTTOM_PX = 60  # numbers and title of the axis
# Title and legend begin at the left edge of the figure, not of its axes.
LEFT: dict[str, Any] = {"x": 0, "xref": "container"}
TOP, BOTTOM = ({"y": y, "yref": "container", "yanchor": anchor} for y, anchor in ((1, "top"), (0, "bottom")))
TITLE = {**LEFT, "xanchor": "left", **TOP, "pad": {"t": TOP_PX, "l": 0}, "font": {"size": TITLE_PX}}
LEGEND = {"orientation": "h", **LEFT, **BOTTOM, "font": {"size": FONT_PX}, "title": {"text": ""}}
TITLE_CHARS, BASIS_CHARS = 54, 62  # a line of each on a phone of 420 px, measured

# One colour a name, on every page. Conditions of a kind share it: base_semantic is semantic's.
NAMES = {
    GREY: ("none", "memo", "tuned_s_none"),
    BLUE: ("semantic", "base_semantic", "base_best", "within", "all-MiniLM-L6-v2", "O(1)"),
    SKY: ("base", "base_query", "lexical", "O(n)"),
    GREEN: ("label_only", "tuned", "tuned_s", "train", "train_s", "all-mpnet-base-v2", "O(log n)"),
    RED: ("vote", "tuned_r", "train_r", "O(n^2)"),
    ORANGE: ("recent", "temporal", "base_temporal", "between", "hybrid", "O(2^n)"),
    PURPLE: ("random", "tuned_s_random", "paraphrase-MiniLM-L6-v2", "O(n log n)"),
}
NAMED = {name: colour for colour, names in NAMES.items() for name in names}


def colour(name: str, among: Sequence[str] = ()) -> str:
    """Return the colour of a condition; of a class, host or embedder by its place in `among`, which must be a fixed order."""
    if name in NAMED:
        return NAMED[name]
    return OKABE_ITO[list(among).index(name) % len(OKABE_ITO)] if name in among else GREY


def symbol(name: str, among: Sequence[str]) -> str:
    """Return the shape of a name, so that colour is never alone."""
    return SYMBOLS[list(among).index(name) % len(SYMBOLS)] if name in among else SYMBOLS[0]


def titled(finding: str, basis: str, x_title: str, y_title: str, height: int = 280) -> go.Figure:
    """Return an empty figure with the finding as its title and n, test or interval below it; all texts are escaped.

    `height` is that of the plot inside its axes, in pixels.
    """
    finding, basis, x_title = map(conditions, (finding, basis, x_title))
    lines, small = balanced(finding, TITLE_CHARS) or [""], balanced(basis, BASIS_CHARS)
    text = f"<b>{'<br>'.join(map(escape, lines))}</b>"
    if small:
        quiet = f"font-size:{FONT_PX}px;color:{GREY};font-weight:400"
        text += f'<br><span style="{quiet}">{"<br>".join(map(escape, small))}</span>'
    above = TOP_PX + 8 + 20 * len(lines) + 18 * len(small)
    sizes = {"height": above + 20 + height + BOTTOM_PX, "margin": {"l": 8, "r": 16, "t": above + 20, "b": BOTTOM_PX}}
    legend = {"hovermode": "closest", "showlegend": False, "legend": LEGEND}
    figure = go.Figure()
    figure.update_layout(title={"text": text, **TITLE}, **sizes, **legend, hoverlabel={"font": {"size": FONT_PX}})
    fixed = {"automargin": True, "zeroline": False, "fixedrange": True}
    axes = {"title_font_size": FONT_PX, "tickfont_size": FONT_PX, **fixed}
    figure.update_xaxes(title_text=escape(x_title), **axes)
    figure.update_yaxes(title_text=escape(y_title), ticklabelstandoff=6, **axes)
    return figure


def balanced(text: str, most: int) -> list[str]:
    """Break a text into as few lines of at most `most` characters as possible, all about as long.

    An interval in brackets and a number with its letter or sign are not broken; a dot ends a line.
    """
    unbroken = re.sub(
        r"\([^()]{1,24}\)| %| ·|\b(?:text|k|rho|delta) (?=[-+\d])", lambda found: found[0].replace(" ", "\u00a0"), text
    )
    lines = textwrap.wrap(unbroken, most)
    for width in range(most - 1, most // 2, -1):
        if len(narrower := textwrap.wrap(unbroken, width)) > len(lines):
            break
        lines = narrower
    return lines


def with_legend(figure: go.Figure) -> go.Figure:
    """Add a legend below the plot, where direct labels do not fit, and return the figure."""
    margin = figure.layout.margin.b + 28
    figure.for_each_trace(lambda trace: trace.update(name=conditions(trace.name or "")))
    figure.update_layout(showlegend=True, margin_b=margin, height=figure.layout.height + 28)
    return figure


def threshold(
    figure: go.Figure,
    at: float | None,
    label: str | None = None,
    axis: str = "x",
    solid: bool = False,
    place: str = "top",
) -> None:
    """Draw a labelled line at a threshold (dashed) or a point of reference such as zero (solid); none for None.

    `place` is that of the label at a line across x, in plotly's words; beside another line "top left" or "top right".
    """
    if at is None:
        return
    style = {"line_color": GREY, "line_width": 1 if solid else 1.5, "line_dash": "solid" if solid else "dash"}
    note = _note(f"threshold {at:g}" if label is None else label)
    if axis == "x":
        figure.add_vline(x=at, annotation_position=place, annotation_yanchor="bottom", **style, **note)
    else:
        figure.add_hline(y=at, annotation_position="top right", **style, **note)


def _note(text: str) -> dict[str, Any]:
    return {"annotation_text": escape(text), "annotation_font_size": FONT_PX, "annotation_font_color": GREY}


def band(figure: go.Figure, low: float, high: float, label: str, axis: str = "x") -> None:
    """Shade a range, such as an equivalence margin, and label it."""
    note = _note(label)
    shape = {"fillcolor": GREY, "opacity": 0.16, "line_width": 0, "layer": "below"}
    if axis == "x":
        figure.add_vrect(x0=low, x1=high, annotation_position="outside top", **shape, **note)
    else:
        figure.add_hrect(y0=low, y1=high, annotation_position="top left", **shape, **note)


def rows(figure: go.Figure, labels: Sequence[str], above: float = 0.6, below: float = 0.4) -> None:
    """Make the y axis a list, its first label at the top; "\n" breaks a line, `above` and `below` are room in rows."""
    ticks = ["<br>".join(map(escape, conditions(label).split("\n"))) for label in labels]
    ends = [len(ticks) - below, -above]
    figure.update_yaxes(tickvals=list(range(len(ticks))), ticktext=ticks, range=ends, showgrid=False)


def undefined(figure: go.Figure, row: int) -> None:
    """Write "undefined" in a row that has no value."""
    font = {"color": GREY, "size": FONT_PX}
    figure.add_annotation(x=0, xref="paper", xanchor="left", y=row, text=UNDEFINED, showarrow=False, font=font)


def bars(
    values: Sequence[float], colours: Sequence[str], texts: Sequence[str], hover: Sequence[str], position: str
) -> go.Bar:
    """Return horizontal bars, one a row, each with a text at `position` (plotly's textposition)."""
    inside = {"text": list(texts), "textposition": position, "textangle": 0, "textfont": {"size": FONT_PX}}
    bar = {"orientation": "h", "x": list(values), "y": list(range(len(values))), "marker": {"color": list(colours)}}
    return go.Bar(**bar, **inside, **hovering(hover), cliponaxis=False)


def hovering(texts: Sequence[str] | str) -> dict[str, Any]:
    """Return plotly's arguments that show these texts, which hold HTML, and nothing else on hover."""
    return {
        "hoverinfo": "text",
        "hovertext": conditions(texts) if isinstance(texts, str) else list(map(conditions, texts)),
    }


def error_bars(rows: Sequence[Row], colour: str) -> dict[str, Any]:
    """Return plotly's error_x or error_y for rows with value, low and high; a row without an interval has none."""
    above = [r["high"] - r["value"] if defined(r["high"]) else 0 for r in rows]
    below = [r["value"] - r["low"] if defined(r["low"]) else 0 for r in rows]
    return {"type": "data", "color": colour, "thickness": 2, "width": 5, "array": above, "arrayminus": below}


def draw(figure: go.Figure, name: str) -> None:
    """Show a figure on the page; its one button saves it as <name>.svg with its title."""
    bar = {"displaylogo": False, "modeBarButtons": [["toImage"]], "displayModeBar": "hover"}
    image = {"format": "svg", "filename": name, "width": 720, "height": figure.layout.height}
    st.plotly_chart(figure, config={**bar, "toImageButtonOptions": image}, key=f"plot-{name}")
