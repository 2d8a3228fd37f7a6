"""The style of every plot: the finding as its title, axes with units, thresholds as labelled lines, fixed colours.

Colours and sizes suit white and near-black; text takes its colour from the theme (style.css), so it has none here.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

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
FONT_PX, TITLE_PX, LINE_PX = 13, 15, 17
TOP_PX = 16  # above the title of a file: with 6 the first of several lines is cut in half (in Chromium, plotly.js 3)
ABOVE_PX, BOTTOM_PX, NUMBER_PX = 26, 60, 68  # labels of lines; numbers and title of the axis; the column of numbers
# Title and legend begin at the left edge of the figure, not of its axes.
LEFT: dict[str, Any] = {"x": 0, "xref": "container"}
TOP, BOTTOM = ({"y": y, "yref": "container", "yanchor": anchor} for y, anchor in ((1, "top"), (0, "bottom")))
TITLE = {**LEFT, "xanchor": "left", **TOP, "pad": {"t": TOP_PX, "l": 8}, "font": {"size": TITLE_PX}}
LEGEND = {"orientation": "h", **LEFT, **BOTTOM, "font": {"size": FONT_PX}, "title": {"text": ""}}
SAVED_PX, TITLE_CHARS, BASIS_CHARS = 720, 84, 100  # a file: its width, and a line of title and basis in it
AXIS_CHARS = 36  # a line of an axis title, which must fit beside labels of rows on a phone of 420 px
LABEL_CHARS, LABEL_LINES = 24, 3  # of a row; a longer label ends in an ellipsis

# One colour a name, on every page. Conditions of a kind share it: base_semantic is semantic's.
NAMES = {
    GREY: ("none", "memo", "tuned_s_none", "bm25"),
    BLUE: ("semantic", "base_semantic", "base_best", "within", "all-MiniLM-L6-v2", "O(1)"),
    SKY: ("base", "base_query", "lexical", "centred", "O(n)"),
    GREEN: ("label_only", "tuned", "tuned_s", "train", "train_s", "all-mpnet-base-v2", "O(log n)"),
    RED: ("vote", "tuned_r", "train_r", "structure", "O(n^2)"),
    ORANGE: ("recent", "temporal", "base_temporal", "between", "hybrid", "O(2^n)"),
    PURPLE: ("random", "tuned_s_random", "paraphrase-MiniLM-L6-v2", "tfidf", "O(n log n)"),
    YELLOW: ("lm:smollm2-135m@20",),
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


class Drawing(NamedTuple):
    """A figure as it is shown: its title as HTML, which wraps at the width of the plot, and the plot without it."""

    head: str
    plot: go.Figure


def titled(finding: str, basis: str, x_title: str, y_title: str, height: int = 280) -> go.Figure:
    """Return an empty figure with the finding as its title and n, test or interval below it.

    `height` is that of the plot inside its axes, in pixels.
    """
    finding, basis, x_title = map(conditions, (finding, basis, x_title))
    across, up = balanced(x_title, AXIS_CHARS), balanced(y_title, AXIS_CHARS)
    below = BOTTOM_PX + LINE_PX * max(0, len(across) - 1)
    sizes = {"height": ABOVE_PX + height + below, "margin": {"l": 8, "r": 16, "t": ABOVE_PX, "b": below}}
    legend = {"hovermode": "closest", "showlegend": False, "legend": LEGEND}
    figure = go.Figure()
    figure.update_layout(meta={"finding": finding, "basis": basis}, **sizes, **legend)
    figure.update_layout(hoverlabel={"font": {"size": FONT_PX}})
    fixed = {"automargin": True, "zeroline": False, "fixedrange": True}
    axes = {"title_font_size": FONT_PX, "tickfont_size": FONT_PX, **fixed}
    figure.update_xaxes(title_text=lined(across), **axes)
    figure.update_yaxes(title_text=lined(up), ticklabelstandoff=6, **axes)
    return figure


def drawing(figure: go.Figure, name: str = "plot") -> Drawing:
    """Return a figure as it is shown; its meta has what a file of this name has in addition, for save.js."""
    finding, basis = figure.layout.meta["finding"], figure.layout.meta["basis"]
    lines, small = balanced(finding, TITLE_CHARS) or [""], balanced(basis, BASIS_CHARS)
    text = f"<b>{lined(lines)}</b>"
    text += "".join(f'<br><span style="font-size:{FONT_PX}px">{lined([line])}</span>' for line in small)
    above = TOP_PX + 8 + 20 * len(lines) + 18 * len(small)
    margin = figure.layout.margin.to_plotly_json()
    saved = {
        "title": {"text": text, **TITLE},
        "margin": margin | {"t": margin["t"] + above},
        "height": figure.layout.height + above,
        "width": SAVED_PX,
        "filename": name,
    }
    plot = go.Figure(figure).update_layout(meta={**figure.layout.meta, "saved": saved})
    head, quiet = (escape(unbroken(text)) for text in (finding, basis))
    head = (
        f'<div class="lab-plot"><div><p><strong>{head}</strong></p><p class="lab-quiet">{quiet}</p></div>'
        f"<span>{''.join(map(_button, ('png', 'svg')))}</span></div>"
    )
    return Drawing(head, plot)


def lined(lines: Sequence[str]) -> str:
    """Return lines as one text of a plot, in which nothing is markup; plotly knows no entity for a quotation mark."""
    return "<br>".join(escape(line, quote=False) for line in lines)


def _button(kind: str) -> str:
    name = kind.upper()
    return f'<button type="button" data-save="{kind}" aria-label="Save this plot as {name}"><i></i>{name}</button>'


def balanced(text: str, most: int) -> list[str]:
    """Break a text into as few lines of at most `most` characters as possible, all about as long."""
    text = unbroken(text)
    lines = textwrap.wrap(text, most)
    for width in range(most - 1, most // 2, -1):
        if len(narrower := textwrap.wrap(text, width)) > len(lines):
            break
        lines = narrower
    return lines


def unbroken(text: str) -> str:
    """Tie together an interval in brackets, and a number with its letter or sign; a dot ends a line."""
    tied = r"\([^()]{1,24}\)| %| ·|\b(?:text|k|rho|delta) (?=[-+\d])"
    return re.sub(tied, lambda found: found[0].replace(" ", "\u00a0"), text)


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
        figure.add_hline(y=at, annotation_position="top right" if place == "top" else place, **style, **note)


def _note(text: str) -> dict[str, Any]:
    return {"annotation_text": lined([text]), "annotation_font_size": FONT_PX}


def band(figure: go.Figure, low: float, high: float, label: str, axis: str = "x") -> None:
    """Shade a range, such as an equivalence margin, and label it."""
    note = _note(label)
    shape = {"fillcolor": GREY, "opacity": 0.16, "line_width": 0, "layer": "below"}
    if axis == "x":
        figure.add_vrect(x0=low, x1=high, annotation_position="outside top", **shape, **note)
    else:
        figure.add_hrect(y0=low, y1=high, annotation_position="top left", **shape, **note)


def rows(figure: go.Figure, labels: Sequence[str], row_px: int) -> None:
    """Make the y axis a list, its first label at the top; rows of `row_px` grow where a label has more lines."""
    broken = [wrapped(conditions(label)) for label in labels]
    ticks = [lined(lines) for lines in broken]
    more = max(0, LINE_PX * max(map(len, broken), default=1) + 8 - row_px) * len(labels)
    figure.update_layout(height=figure.layout.height + more)
    figure.update_yaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.4, -0.6], showgrid=False
    )


def wrapped(label: str) -> list[str]:
    """Break a label of a row into lines; the last of LABEL_LINES ends in an ellipsis if some of it is left out."""
    lines = textwrap.wrap(label, LABEL_CHARS, max_lines=LABEL_LINES, placeholder="…")
    return lines or [""]


def beside(figure: go.Figure, y: float, text: str) -> None:
    """Write a text in the column at the right of the plot, where no line or interval crosses it."""
    figure.update_layout(margin_r=max(figure.layout.margin.r, NUMBER_PX))
    where = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 8, "y": y, "yanchor": "middle", "align": "left"}
    figure.add_annotation(text=text, showarrow=False, font_size=FONT_PX, **where)


def within(figure: go.Figure, low: float, high: float) -> None:
    """Show the x axis from `low` to `high`; what goes on beyond, an interval or a point, ends in an arrow at the edge."""
    for trace in list(figure.data):
        ends, colour = trace.error_x, trace.marker.color
        for i, (x, y) in enumerate(zip(trace.x, trace.y, strict=True)):
            left, right = x - (ends.arrayminus or [0] * (i + 1))[i], x + (ends.array or [0] * (i + 1))[i]
            for beyond, at, symbol in ((left < low, low, "triangle-left"), (right > high, high, "triangle-right")):
                if beyond:
                    trace.cliponaxis = True
                    arrow = {"mode": "markers", "marker": {"symbol": symbol, "size": 11, "color": colour}}
                    figure.add_scatter(x=[at], y=[y], cliponaxis=False, showlegend=False, hoverinfo="skip", **arrow)
    figure.update_xaxes(range=[low, high])


def undefined(figure: go.Figure, row: int) -> None:
    """Write "undefined" in a row that has no value."""
    where = {"x": 0, "xref": "paper", "xanchor": "left", "y": row}
    figure.add_annotation(text=UNDEFINED, showarrow=False, font_size=FONT_PX, **where)


def ink(colour: str) -> str:
    """Return white or black, whichever is read better on a colour such as "#0072B2"; 4.5:1 or more (WCAG 2.2, 1.4.3)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#FFFFFF" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


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
    """Show a figure on the page, its title above it; two buttons save it, with its title, as <name>.png and <name>.svg."""
    shown = drawing(figure, name)
    with st.container(key=f"plot-{name}", gap="xxsmall"):
        st.html(shown.head)
        st.plotly_chart(shown.plot, config={"displayModeBar": False}, key=f"chart-{name}")
