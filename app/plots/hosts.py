"""Plots of the hosts: when each worked on what, how fast each is, predicted and actual durations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import tzinfo
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go

from app import format as words
from app.phase_names import ORDER, named
from app.plots import style
from app.reading import Row

LANE_PX, DATE_PX = 34, 20  # a lane or row; the second line of a date below the axis


class Speed(NamedTuple):
    """A measured speed in words."""

    name: str
    unit: str
    column: str  # of a table


SPEEDS = {  # field of a capability report
    "matrix_gflops": Speed("Matrix product", "10⁹ operations a second", "matrix product, GFLOPS"),
    "embedding_texts_per_s": Speed("Embedding", "texts a second", "embedding, texts/s"),
    "prefill_tokens_per_s": Speed("Reading prompts", "tokens a second", "prompts, tokens/s"),
    "disk_write_mb_s": Speed("Writing to disk", "MB a second", "disk, MB/s"),
}


class Lanes(NamedTuple):
    """The places where stretches of work are drawn: the lane of each, and the middle of each host's lanes."""

    of: list[int]
    middle: dict[str, float]


def busy_by_host(stretches: Sequence[Row]) -> dict[str, float]:
    """Return the seconds of work of each host, the busiest first."""
    found: dict[str, float] = {}
    for s in stretches:
        found[s["host"]] = found.get(s["host"], 0.0) + s["work_s"]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def gantt(stretches: Sequence[Row], where: tzinfo | None) -> go.Figure:
    """Draw the work of each host as bars in lanes, more than one lane where it did several things at once."""
    busy = busy_by_host(stretches)
    whole, most = sum(busy.values()), next(iter(busy))
    share = f"{100 * busy[most] / whole:.0f} %" if whole and len(busy) > 1 else "all"
    lasted_s = (max(s["ended_at"] for s in stretches) - min(s["begun_at"] for s in stretches)).total_seconds()
    units = sum(s["units"] for s in stretches)
    lanes = _lanes(stretches)
    rows = max(lanes.of) + 1
    finding = f"{most} did {share} of the work of {words.duration(whole)}"
    basis = f"{words.count(units, 'result')} · {words.duration(lasted_s)} from the first start to the last end"
    clock = stretches[0]["begun_at"].astimezone(where).strftime("%Z")
    title = f"time ({clock})" if clock else "time"
    figure = style.titled(finding, basis, title, "", height=DATE_PX + LANE_PX * rows)
    for phase in ORDER:
        own = [(s, lane) for s, lane in zip(stretches, lanes.of, strict=True) if s["phase"] == phase]
        if own:
            figure.add_trace(_bars(phase, own, lasted_s, where))
    middle, names = list(lanes.middle.values()), list(map(escape, lanes.middle))
    figure.update_yaxes(tickvals=middle, ticktext=names, range=[rows - 0.4, -0.6], showgrid=False)
    figure.update_xaxes(type="date")
    figure.update_layout(barmode="overlay", bargap=0.2)
    return style.with_legend(figure)


def _lanes(stretches: Sequence[Row]) -> Lanes:
    """Put each stretch into the first lane of its host that is free when it begins."""
    lanes = [0] * len(stretches)
    ticks: dict[str, float] = {}
    first = 0
    for host in sorted({s["host"] for s in stretches}):
        ends: list[Any] = []
        own = [i for i, s in enumerate(stretches) if s["host"] == host]
        for i in sorted(own, key=lambda i: stretches[i]["begun_at"]):
            free = next((k for k, end in enumerate(ends) if end <= stretches[i]["begun_at"]), len(ends))
            ends[free : free + 1] = [stretches[i]["ended_at"]]
            lanes[i] = first + free
        ticks[host] = first + (len(ends) - 1) / 2
        first += len(ends)
    return Lanes(lanes, ticks)


def _bars(phase: str, own: Sequence[tuple[Row, int]], lasted_s: float, where: tzinfo | None) -> go.Bar:
    lengths = [(s["ended_at"] - s["begun_at"]).total_seconds() for s, _ in own]
    hover = [
        f"{escape(named(phase))} on {escape(s['host'])}<br>{words.local_time(s['begun_at'], where)}, "
        f"{words.duration(took)}<br>{words.count(s['units'], 'result')}, {words.duration(s['work_s'])} of work"
        for (s, _), took in zip(own, lengths, strict=True)
    ]
    colour = style.OKABE_ITO[list(ORDER).index(phase)]
    inside = {"textposition": "inside", "insidetextanchor": "middle", "textangle": 0}
    return go.Bar(
        orientation="h",
        name=phase.upper(),
        marker={"color": colour, "line": {"width": 0}},
        base=[s["begun_at"].astimezone(where).replace(tzinfo=None) for s, _ in own],
        x=[1000 * max(took, lasted_s / 400) for took in lengths],  # in ms; none so short that it cannot be seen
        y=[lane for _, lane in own],
        text=[phase.upper() if took > lasted_s / 16 else "" for took in lengths],
        textfont={"size": style.FONT_PX, "color": style.ink(colour)},
        **inside,
        **style.hovering(hover),
    )


def predicted(rows: Sequence[Row]) -> go.Figure:
    """Draw predicted and actual durations of the phases, the two of each joined by a line."""
    ratios = {r["phase"]: r["actual_s"] / r["predicted_s"] for r in rows}
    whole = sum(r["actual_s"] for r in rows) / sum(r["predicted_s"] for r in rows)
    off = max(ratios, key=lambda p: abs(math.log(max(ratios[p], 1e-9))))
    finding = f"The phases took {words.number(whole)} times what was predicted"
    if len(rows) > 1:
        finding += f"; {off.upper()} was furthest off, {words.number(ratios[off])} times"
    longest = max(max(r["actual_s"], r["predicted_s"]) for r in rows)
    unit, size = ("minutes", 60.0) if longest >= 180 else ("seconds", 1.0)
    basis = f"n {words.count(len(rows), 'phase')} · time on the clock, from the first unit to the verdict"
    figure = style.titled(finding, basis, f"duration ({unit})", "", height=LANE_PX * len(rows))
    for i, r in enumerate(rows):
        ends = {"x0": r["predicted_s"] / size, "x1": r["actual_s"] / size, "y0": i, "y1": i}
        figure.add_shape(type="line", **ends, line={"color": style.GREY, "width": 2}, layer="below")
    for name, field, mark in (("predicted", "predicted_s", "circle-open"), ("actual", "actual_s", "circle")):
        marker = {"symbol": mark, "size": 11, "color": style.BLUE, "line": {"width": 2, "color": style.BLUE}}
        hover = style.hovering([f"{r['phase'].upper()} {name}: {words.duration(r[field])}" for r in rows])
        x, y = [r[field] / size for r in rows], list(range(len(rows)))
        figure.add_scatter(x=x, y=y, mode="markers", name=name, marker=marker, **hover)
    style.rows(figure, [named(r["phase"]) for r in rows], LANE_PX)
    figure.update_xaxes(rangemode="tozero")
    return style.with_legend(figure)
