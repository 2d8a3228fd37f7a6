"""E0: which retrieval parameters are most useful in bounded time? Heat map, Pareto front, what each factor explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app import format as words
from app.components import filters, phase_page
from app.plots import pareto, phases, style

Row = Mapping[str, Any]
SAME_TIME_S = 0.005  # of E0's config, where a run has none on record


def body(phase: phase_page.Phase) -> None:
    """The grid of one embedder and distance, all cells in relevance and time, the factors."""
    cells = pareto.cells(phase.of("relevance"), phase.of("retrieval_time_s"))
    if not cells:
        return
    embedders, distances = (sorted({c[k] for c in cells}) for k in ("embedder", "distance"))
    main = phase.verdict["main_condition"] if phase.verdict else None
    chosen = next((c for c in cells if c["cell"] == main), None)
    left, right = phase_page.pair()
    with left:
        embedder = filters.choice("Embedder", embedders, "embedder", chosen["embedder"] if chosen else None)
    with right:
        distance = filters.choice("Distance", distances, "distance", chosen["distance"] if chosen else None)
    left, right = phase_page.pair()
    with left:
        grid(phase, [c for c in cells if (c["embedder"], c["distance"]) == (embedder, distance)], chosen)
    with right:
        front(phase, cells, chosen)
    left, _ = phase_page.pair()
    with left:
        shares(phase)


def in_report(phase: phase_page.Phase) -> None:
    """Every plot, the grid of the chosen embedder and distance."""
    cells = pareto.cells(phase.of("relevance"), phase.of("retrieval_time_s"))
    if not cells:
        return
    main = phase.verdict["main_condition"] if phase.verdict else None
    chosen = next((c for c in cells if c["cell"] == main), None)
    of = chosen or max(cells, key=lambda c: float(c["value"]))
    grid(phase, [c for c in cells if (c["embedder"], c["distance"]) == (of["embedder"], of["distance"])], chosen)
    front(phase, cells, chosen)
    shares(phase)


def grid(phase: phase_page.Phase, cells: Sequence[Row], chosen: Row | None) -> None:
    """Relevance by weight of text and k."""
    if not cells:
        return
    weights, ks = sorted({c["weight"] for c in cells}), sorted({c["k"] for c in cells})
    found = {(c["weight"], c["k"]): c for c in cells}
    best = max(cells, key=lambda c: float(c["value"]))
    finding = (
        f"Relevance is highest at text {best['weight']:g}, k {best['k']}: "
        f"{words.with_interval(best['value'], best['low'], best['high'])}"
    )
    basis = f"n {best['n']:,} queries a cell · {best['embedder']}, {best['distance']} · {best['method']}"
    figure = style.titled(finding, basis, "weight of text (the rest is features)", "k (memos brought back)", height=260)

    def say(w: float, k: int) -> str:
        c = found.get((w, k))
        return f"text {w:g}, k {k}: {words.with_interval(c['value'], c['low'], c['high'])}, n {c['n']}" if c else ""

    # One hue from pale to dark, so that it reads without colours; its text stands on its own colours in both themes.
    figure.add_heatmap(
        x=[f"{w:g}" for w in weights],
        y=[str(k) for k in ks],
        xgap=2,
        ygap=2,
        showscale=False,
        z=[[found[w, k]["value"] if (w, k) in found else None for w in weights] for k in ks],
        hoverinfo="text",
        hovertext=[[say(w, k) for w in weights] for k in ks],
        colorscale=[[0, "#E3EFF9"], [1, "#0B4F85"]],
    )
    low, high = min(float(c["value"]) for c in cells), max(float(c["value"]) for c in cells)

    def ink(cell: Row) -> str:
        return "#16181D" if cell["value"] - low < 0.45 * (high - low) else "#FFFFFF"

    for (w, k), c in found.items():
        figure.add_annotation(
            x=weights.index(w),
            y=ks.index(k),
            text=words.number(c["value"]),
            showarrow=False,
            font={"size": style.FONT_PX, "color": ink(c)},
        )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    if chosen and (chosen["embedder"], chosen["distance"]) == (best["embedder"], best["distance"]):
        x, y = weights.index(chosen["weight"]), ks.index(chosen["k"])
        figure.add_shape(
            type="rect", x0=x - 0.48, x1=x + 0.48, y0=y - 0.48, y1=y + 0.48, line={"color": style.ORANGE, "width": 3}
        )
        figure.add_annotation(x=x, y=y - 0.3, text="chosen", showarrow=False, font={"size": 12, "color": ink(chosen)})
    phase.draw(figure, f"grid-{best['embedder']}-{best['distance']}")


def front(phase: phase_page.Phase, cells: Sequence[Row], chosen: Row | None) -> None:
    """Relevance against time: all cells, the front, the choice, the bounds."""
    best = pareto.front(cells, float(phase.config.get("time_resolution_s", SAME_TIME_S)))
    bound_s, needed = (
        float(phase.config.get("choice_time_s", 0.1)),
        float(phase.config.get("relevance_threshold", 0.75)),
    )
    finding = "No configuration could be chosen"
    if chosen:
        said = words.with_interval(chosen["value"], chosen["low"], chosen["high"])
        finding = (
            f"Chosen: text {chosen['weight']:g}, k {chosen['k']}, {chosen['distance']}: relevance {said}, "
            f"{words.side(chosen['value'], needed)} {needed:g}"
        )
    basis = f"n {cells[0]['n']:,} queries for each of {len(cells)} configurations · {len(best)} on the Pareto front"
    figure = style.titled(finding, basis, "time of a retrieval (ms, median)", "relevance (0 to 1)", height=260)
    on_front = {c["cell"] for c in best}
    for name, own, colour, size, mode in (
        ("beaten by another", [c for c in cells if c["cell"] not in on_front], style.GREY, 7, "markers"),
        ("Pareto front", best, style.BLUE, 9, "lines+markers"),
        ("chosen", [chosen] if chosen else [], style.ORANGE, 15, "markers"),
    ):
        figure.add_scatter(
            x=[1000 * c["time_s"] for c in own],
            y=[c["value"] for c in own],
            name=name,
            mode=mode,
            line={"color": colour, "width": 1.5},
            marker={
                "color": colour,
                "size": size,
                "symbol": "diamond-open" if name == "chosen" else "circle",
                "line": {"width": 3 if name == "chosen" else 0},
            },
            hoverinfo="text",
            hovertext=[
                f"{escape(c['cell'])}<br>relevance {words.with_interval(c['value'], c['low'], c['high'])}, {1000 * c['time_s']:.3g} ms"
                for c in own
            ],
        )
    style.threshold(figure, needed, f"gate {needed:g}", axis="y")
    slowest = max(float(c["time_s"]) for c in cells)
    if slowest > bound_s / 3:
        style.threshold(figure, 1000 * bound_s, f"at most {1000 * bound_s:g} ms")
    phase.draw(style.with_legend(figure), "pareto")


def shares(phase: phase_page.Phase) -> None:
    """How much of the variance of relevance each factor explains."""
    rows = [{**r, "value": None if r["value"] is None else 100 * r["value"]} for r in phase.of("variance_share")]
    known = [r for r in rows if words.defined(r["value"])]
    if not known:
        return
    most = max(known, key=lambda r: float(r["value"]))
    finding = (
        f"{words.words(most['condition']).capitalize()} explains {most['value']:.0f} % of the variance of relevance"
    )
    basis = f"n {most['n']:,} configurations · {most['method']}"
    labels = {r["condition"]: words.words(r["condition"]) for r in rows}
    colours = {r["condition"]: style.BLUE for r in rows}
    figure = phases.rows_with_intervals(rows, finding, basis, "share of variance (%)", labels=labels, colours=colours)
    for i, r in enumerate(rows):
        figure.add_shape(type="line", x0=0, x1=r["value"] or 0, y0=i, y1=i, line={"color": style.BLUE, "width": 2})
    figure.update_xaxes(range=[-2, 104])
    phase.draw(figure, "factors")


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("e0", body)
