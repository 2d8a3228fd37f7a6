"""The forest plot: one metric by condition and host, with intervals and the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from app import format as words
from app.plots import style
from app.plots.style import GREY, OKABE_ITO, SYMBOLS
from app.reading import Row
from warehouse.queries.snapshot import ALL_HOSTS

MAX_CONDITIONS = 24  # rows that can be read at once; E0's grid has 120
ROW_PX = 34


class Mark(NamedTuple):
    """The colour and shape of a host, as plotly names them."""

    colour: str
    symbol: str


OVERALL = Mark(GREY, "diamond-open")


def host_marks(known: Sequence[str]) -> dict[str, Mark]:
    """Return the mark of each host; `known` in the order in which hosts were first seen."""
    return {h: Mark(OKABE_ITO[i % 7], SYMBOLS[(i + i // 7) % 7]) for i, h in enumerate(known)}


def finding(rows: Sequence[Row], verdict: Row | None) -> str:
    """Summarise the rows of one phase and metric in a sentence."""
    metric = words.words(str(rows[0]["metric"]))
    defined = [r for r in rows if words.defined(r["value"])]
    if not defined:
        return f"{metric.capitalize()} is undefined in every condition"
    if verdict and verdict["main_metric"] == rows[0]["metric"] and words.defined(verdict["value"]):
        about = f" for {verdict['main_condition']}" if verdict["main_condition"] else ""
        text = f"{metric.capitalize()} {words.estimate(verdict)}{about}"
        if words.defined(verdict["threshold"]):
            side = words.side(verdict["value"], verdict["threshold"])
            text += f", {side} the threshold {verdict['threshold']:g}"
        return text
    lower = words.lower_is_better(rows[0]["metric"])
    overall = [r for r in defined if r["host"] == ALL_HOSTS]
    best = (min if lower else max)(overall or defined, key=lambda r: float(r["value"]))
    about = f" for {best['condition']}" if best["condition"] else ""
    text = f"{'Lowest' if lower else 'Highest'} {metric}{about}: {words.estimate(best)}"
    return text if overall or len({r["host"] for r in rows}) == 1 else f"{text} on {best['host']}"


def basis(rows: Sequence[Row], shown: int) -> str:
    """Return the subtitle: n, test or interval, the host if there is one, how many conditions are shown."""
    sizes = sorted({int(r["n"]) for r in rows})
    n = f"n {sizes[0]:,}" if len(sizes) == 1 else f"n {sizes[0]:,} to {sizes[-1]:,}"
    parts = [n, next((str(r["method"]) for r in rows if words.defined(r["value"])), "")]
    hosts = {r["host"] for r in rows} - {ALL_HOSTS}
    if len(hosts) == 1:
        parts.append(f"on {next(iter(hosts))}")
    total = len({r["condition"] for r in rows})
    if shown < total:
        parts.append(f"{shown} of {total} conditions")
    return " · ".join(p for p in parts if p)


def chosen_conditions(rows: Sequence[Row], keep: str | None) -> list[str]:
    """Return at most MAX_CONDITIONS conditions, best first, `keep` among them; in the order of the phase when all fit."""
    order = list(dict.fromkeys(str(r["condition"]) for r in rows))
    if len(order) <= MAX_CONDITIONS:
        return order
    sign = 1 if words.lower_is_better(rows[0]["metric"]) else -1
    best: dict[str, float] = {}
    for r in rows:
        if words.defined(r["value"]):
            best[r["condition"]] = min(best.get(r["condition"], float("inf")), sign * float(r["value"]))
    ranked = sorted(best, key=lambda c: best[c])
    first = ranked[:MAX_CONDITIONS]
    return first if keep is None or keep in first or keep not in order else [*first[:-1], keep]


def forest(rows: Sequence[Row], known_hosts: Sequence[str], verdict: Row | None) -> go.Figure:
    """Draw a row per condition, a point and interval per host, the threshold of the main metric as a labelled line.

    `rows` are of one phase and metric, by host and overall; `known_hosts`, in the order first seen, fix the colours.
    """
    is_main = bool(verdict and verdict["main_metric"] == rows[0]["metric"])
    conditions = chosen_conditions(rows, verdict["main_condition"] if verdict and is_main else None)
    marks = {ALL_HOSTS: OVERALL, **host_marks(known_hosts)}
    hosts = [h for h in marks if any(r["host"] == h for r in rows)]
    hosts += sorted({str(r["host"]) for r in rows} - set(hosts))
    figure = style.titled(finding(rows, verdict), basis(rows, len(conditions)), words.axis(str(rows[0]["metric"])), "")
    for i, host in enumerate(hosts):
        offset = (i - (len(hosts) - 1) / 2) * min(0.24, 0.7 / len(hosts))
        figure.add_trace(_points(rows, host, conditions, offset, marks.get(host, Mark(GREY, "circle"))))
    for i, condition in enumerate(conditions):
        if not any(words.defined(r["value"]) for r in rows if r["condition"] == condition):
            style.undefined(figure, i)
    if is_main and verdict and words.defined(verdict["threshold"]):
        style.threshold(figure, verdict["threshold"])
    elif "difference" in str(rows[0]["metric"]):
        style.threshold(figure, 0, "no difference", solid=True)
    elif str(rows[0]["metric"]).endswith("_ratio"):
        style.threshold(figure, 1, "no change", solid=True)
    _lay_out(figure, conditions, hosts)
    return figure


def _points(rows: Sequence[Row], host: str, conditions: Sequence[str], offset: float, mark: Mark) -> go.Scatter:
    own = [r for r in rows if r["host"] == host and r["condition"] in conditions and words.defined(r["value"])]
    hover = [f"{escape(_label(r['condition']))}<br>{escape(host)}: {words.estimate(r)}, n {r['n']}" for r in own]
    points = {
        "x": [r["value"] for r in own],
        "y": [conditions.index(r["condition"]) + offset for r in own],
        "error_x": style.error_bars(own, mark.colour),
    }
    marker = {"color": mark.colour, "symbol": mark.symbol, "size": 9}
    return go.Scatter(**points, name=escape(host), mode="markers", marker=marker, **style.hovering(hover))


def _label(condition: str) -> str:
    return condition or "all"


def distinct_parts(conditions: Sequence[str]) -> list[str]:
    """Return the conditions without the leading parts that all of them share ("all-MiniLM-L6-v2 | ")."""
    parts = [c.split(" | ") for c in conditions]
    shared = 0
    while len(parts) > 1 and all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return [" | ".join(p[shared:]) for p in parts]


def _lay_out(figure: go.Figure, conditions: Sequence[str], hosts: Sequence[str]) -> None:
    row_px = ROW_PX + 14 * max(0, len(hosts) - 1)
    figure.update_layout(height=figure.layout.margin.t + figure.layout.margin.b + 16 + row_px * len(conditions))
    if len(hosts) > 1:
        style.with_legend(figure)
    style.rows(figure, [_label(c) for c in distinct_parts(conditions)], row_px)
