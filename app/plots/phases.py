"""Plots that several phases share: rows with intervals, attempts, paired differences, losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from app import format as words
from app.plots import style
from app.reading import Row

ROW_PX = 36


def rows_with_intervals(
    rows: Sequence[Row],
    finding: str,
    basis: str,
    x_title: str,
    y_title: str = "",
    among: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Draw one row per condition: its value as a point, its interval as a line; an undefined one says so.

    `colours` and `labels` are by condition; other names without a fixed colour have one by their place in `among`.
    """
    figure = style.titled(finding, basis, x_title, y_title, height=16 + ROW_PX * max(len(rows), 1))
    names = [str(r["condition"]) for r in rows]
    for i, row in enumerate(rows):
        if not words.defined(row["value"]):
            style.undefined(figure, i)
            continue
        colour = (colours or {}).get(names[i]) or style.colour(names[i], among)
        point = {"x": [row["value"]], "y": [i], "error_x": style.error_bars([row], colour), "cliponaxis": False}
        look = {"mode": "markers", "marker": {"color": colour, "size": 10}}
        hover = style.hovering(f"{escape(names[i] or 'all')}: {words.estimate(row)}, n {row['n']:,}")
        figure.add_scatter(**point, **look, **hover)
        style.beside(figure, i, words.number(row["value"]))
    style.rows(figure, [(labels or {}).get(n, n) or "all" for n in names], ROW_PX)
    return figure


def curve(rows: Sequence[Row], finding: str, basis: str, title: str, say: Callable[[Row], str]) -> go.Figure:
    """Draw many effects in their order, those with another conclusion in another colour; `say` names one on hover."""
    figure = style.titled(finding, basis, "specifications, by their effect", title, height=260)
    for same, colour, name in ((True, style.BLUE, "the same conclusion"), (False, style.RED, "another conclusion")):
        own = [(i, r) for i, r in enumerate(rows, 1) if r["same"] is same and words.defined(r["value"])]
        if not own:
            continue
        ends = style.error_bars([r for _, r in own], colour)
        hover = [f"{escape(say(r))}: {escape(r['conclusion'])}, {words.estimate(r)}, n {r['n']:,}" for _, r in own]
        x, y = [i for i, _ in own], [r["value"] for _, r in own]
        look = {"mode": "markers", "marker": {"color": colour, "size": 6}, "name": name}
        figure.add_scatter(x=x, y=y, error_y=ends, **look, **style.hovering(hover))
    figure.add_hline(y=0, line_width=1, line_color=style.GREY)
    return style.with_legend(figure)


def curves(
    lines: Mapping[str, Sequence[Row]], best: str, finding: str, basis: str, x_title: str, y_title: str
) -> go.Figure:
    """Draw shares by the number of memos, a line a candidate, on a log scale; the best is wider and has its intervals.

    Args:
        lines: name -> rows with memos, value, low and high, in the order of memos.
    """
    figure = style.titled(finding, basis, x_title, y_title, height=300)
    names = list(lines)
    for name, rows in lines.items():
        colour, marked = style.colour(name, names), name == best
        x, y = [r["memos"] for r in rows], [r["value"] for r in rows]
        line = {"color": colour, "width": 3 if marked else 1.5}
        marker = {"color": colour, "size": 9 if marked else 7, "symbol": style.symbol(name, names)}
        ends = {"error_y": style.error_bars(rows, colour)} if marked else {}
        hover = [f"{escape(name)}, {r['memos']:,} memos: {words.estimate(r)}" for r in rows]
        look = {"mode": "lines+markers", "name": escape(words.shortened(name, 24)), "line": line, "marker": marker}
        figure.add_scatter(x=x, y=y, **look, **ends, **style.hovering(hover))
    ticks = sorted({r["memos"] for rows in lines.values() for r in rows})
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{n:,}" for n in ticks])
    figure.update_yaxes(range=[-0.02, 1.02])
    return style.with_legend(figure)


def attempts(rows: Sequence[Row], order: Sequence[str], finding: str) -> go.Figure:
    """Draw the share of trials by attempts needed, grouped bars, one colour per condition."""
    named = [c for c in order if any(r["condition"] == c for r in rows)]
    totals = {c: sum(r["trials"] for r in rows if r["condition"] == c) for c in named}
    basis = "n " + ", ".join(f"{totals[c]:,} {c}" for c in named) + " trials"
    sizes = set(totals.values())
    if len(sizes) == 1:
        basis = f"n {sizes.pop():,} trials a condition"
    figure = style.titled(finding, basis, "attempts needed (rounded)", "share of trials (%)", height=240)
    for c in named:
        own = [r for r in rows if r["condition"] == c]
        shares = [100 * r["trials"] / totals[c] for r in own]
        hover = [
            f"{escape(c)}: {words.number(s)} % need {r['attempts']}, {r['trials']:,} of {totals[c]:,}"
            for r, s in zip(own, shares, strict=True)
        ]
        x, colour = [r["attempts"] for r in own], style.colour(c, order)
        figure.add_bar(x=x, y=shares, name=escape(c), marker_color=colour, **style.hovering(hover))
    figure.update_layout(barmode="group", bargap=0.25)
    most = max((r["attempts"] for r in rows), default=1)
    figure.update_xaxes(dtick=1 if most <= 10 else 2, range=[0.4, most + 0.6])
    return style.with_legend(figure) if len(named) > 1 else figure


def differences(
    rows: Sequence[Row],
    main: Row | None,
    finding: str,
    basis: str,
    first: str,
    second: str,
    margin: float | None = None,
) -> go.Figure:
    """Draw problems by paired difference; the mean with its interval above, zero as a line, a margin as a band.

    `margin` is the attempts within which the two count as equivalent.
    """
    figure = style.titled(finding, basis, f"attempts of {first} minus {second}, a problem", "problems", height=240)
    if margin is not None:
        style.band(figure, -margin, margin, f"equivalence ±{margin:g}")
    wide = 0.42 if len(rows) > 24 else 0.8
    signs = [
        style.colour(first) if r["difference"] < 0 else style.colour(second) if r["difference"] > 0 else style.GREY
        for r in rows
    ]
    x, y = [r["difference"] for r in rows], [r["problems"] for r in rows]
    hover = [f"{r['difference']:+g} attempts: {words.count(r['problems'], 'problem')}" for r in rows]
    figure.add_bar(x=x, y=y, width=wide, marker_color=signs, opacity=0.75, **style.hovering(hover))
    style.threshold(figure, 0, "" if margin is not None else "no difference", solid=True, place="top right")
    top = max((r["problems"] for r in rows), default=1)
    if main is not None and words.defined(main["value"]):
        ends = {**style.error_bars([main], style.GREY), "thickness": 2.5}
        look = {"mode": "markers", "marker": {"color": style.GREY, "size": 11, "symbol": "diamond"}}
        above = style.hovering(f"mean {words.estimate(main)}, n {main['n']:,}")
        figure.add_scatter(x=[main["value"]], y=[top * 1.12], error_x=ends, **look, **above)
        style.beside(figure, top * 1.12, f"mean<br>{main['value']:+.2f}")
    figure.update_yaxes(range=[0, top * 1.25])
    return figure


def losses(rows: Sequence[Row], finding: str, basis: str) -> go.Figure:
    """Draw training loss by epoch as a full line and validation loss, from before the first epoch, dashed."""
    figure = style.titled(finding, basis, "epoch", "loss (nats a token)", height=230)
    for row in rows:
        colour = style.colour(row["condition"])
        seed = f", seed {row['seed']}" if sum(r["condition"] == row["condition"] for r in rows) > 1 else ""
        for kind, first, dash in (("train_loss", 1, "solid"), ("validation_loss", 0, "dash")):
            values = row[kind] or []
            if not values:
                continue
            name = f"{row['condition']}{seed}, {'training' if kind == 'train_loss' else 'validation'}"
            line = {"color": colour, "width": 2, "dash": dash}
            marker = {"size": 7, "symbol": "circle" if first else "circle-open"}
            look = {"mode": "lines+markers", "name": escape(name), "line": line, "marker": marker}
            hover = [f"{escape(name)}, epoch {i + first}: {words.number(v)}" for i, v in enumerate(values)]
            x = list(range(first, first + len(values)))
            figure.add_scatter(x=x, y=values, **look, **style.hovering(hover))
    figure.update_xaxes(dtick=1)
    return style.with_legend(figure) if len(figure.data) > 1 else figure
