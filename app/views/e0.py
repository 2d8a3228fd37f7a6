"""E0: which retrieval parameters are most useful in bounded time? Heat map, Pareto front, what each factor explains.

The grid and the front are of the queries that choose; the chosen configuration is judged on those held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape

from app import format as words
from app.components import phase_page
from app.plots import pareto, phases, style
from app.reading import Row

PALE, DARK = (227, 239, 249), (11, 79, 133)  # red, green, blue of the lowest and the highest relevance
CHOSEN = {"symbol": "diamond-open", "line": {"width": 3}}


def body(phase: phase_page.Phase) -> None:
    """Draw the grid of one embedder and distance, all configurations in relevance and time, the factors."""
    # Before protocol 2 the same queries chose and judged, and there is one relevance.
    choosing = phase.of("relevance_choosing")
    cells = pareto.cells(choosing or phase.of("relevance"), phase.of("retrieval_time_s"))
    if cells:
        chosen = next((c for c in cells if c["cell"] == phase.main), None)
        default = chosen or max(cells, key=lambda c: float(c["value"]))
        options = {factor: sorted({str(c[factor]) for c in cells}) for factor in ("embedder", "distance")}
        of = phase.choose_each(options, {factor: str(default[factor]) for factor in options})
        own = [c for c in cells if all(c[factor] == value for factor, value in of.items())]
        held = phase.find("relevance", str(phase.main)) if choosing and chosen else None
        phase.beside(partial(grid, cells=own, chosen=chosen), partial(front, cells=cells, chosen=chosen, held=held))
    phase.beside(shares)


def grid(phase: phase_page.Phase, cells: Sequence[Row], chosen: Row | None) -> None:
    """Draw relevance by weight of text and k."""
    if not cells:
        return
    weights, ks = sorted({c["weight"] for c in cells}), sorted({c["k"] for c in cells})
    found = {(c["weight"], c["k"]): c for c in cells}
    best = max(cells, key=lambda c: float(c["value"]))
    finding = f"Relevance is highest at text {best['weight']:g}, k {best['k']}: {words.estimate(best)}"
    basis = f"n {best['n']:,} queries a configuration · {best['embedder']}, {best['distance']} · {best['method']}"
    figure = style.titled(finding, basis, "weight of text (the rest is features)", "k (memos brought back)", height=260)

    def say(w: float, k: int) -> str:
        c = found.get((w, k))
        return f"text {w:g}, k {k}: {words.estimate(c)}, n {c['n']}" if c else ""

    # One hue from pale to dark, so that it reads without colours; its texts have fixed colours in both themes.
    figure.add_heatmap(
        x=[f"{w:g}" for w in weights],
        y=[str(k) for k in ks],
        xgap=2,
        ygap=2,
        showscale=False,
        z=[[found[w, k]["value"] if (w, k) in found else None for w in weights] for k in ks],
        hoverinfo="text",
        hovertext=[[say(w, k) for w in weights] for k in ks],
        colorscale=[[0, f"rgb{PALE}"], [1, f"rgb{DARK}"]],
    )
    low, high = min(float(c["value"]) for c in cells), max(float(c["value"]) for c in cells)

    def write(cell: Row, y: float, text: str) -> None:
        share = (cell["value"] - low) / (high - low or 1)
        shade = "".join(f"{round(a + share * (b - a)):02X}" for a, b in zip(PALE, DARK, strict=True))
        coloured = f'<span style="color:{style.ink(f"#{shade}")}">{text}</span>'  # its own colour, not the theme's
        x = weights.index(cell["weight"])
        figure.add_annotation(x=x, y=y, text=coloured, showarrow=False, font_size=style.FONT_PX)

    for (_, k), c in found.items():
        write(c, ks.index(k), words.number(c["value"]))
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    if chosen and (chosen["embedder"], chosen["distance"]) == (best["embedder"], best["distance"]):
        x, y = weights.index(chosen["weight"]), ks.index(chosen["k"])
        corners = {"x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.48, "y1": y + 0.48}
        figure.add_shape(type="rect", **corners, line={"color": style.ORANGE, "width": 3})
        write(chosen, y - 0.3, "chosen")
    phase.draw(figure, f"grid-{best['embedder']}-{best['distance']}")


def front(phase: phase_page.Phase, cells: Sequence[Row], chosen: Row | None, held: Row | None) -> None:
    """Draw relevance against time: all configurations, the front, the choice, its relevance on held-out queries, bounds."""
    best = pareto.front(cells, phase.setting("time_resolution_s") or 0.0)
    bound_s, needed = phase.setting("choice_time_s"), phase.setting("relevance_threshold")
    finding = "No configuration could be chosen"
    if chosen:
        judged = held or chosen
        side = f", {words.side(judged['value'], needed)} {needed:g}" if needed is not None else ""
        where = f" on held-out queries{side}; {words.number(chosen['value'])} where it was chosen" if held else side
        what = f"Chosen: text {chosen['weight']:g}, k {chosen['k']}, {chosen['distance']}"
        finding = f"{what}: relevance {words.estimate(judged)}{where}"
    basis = f"n {cells[0]['n']:,} queries for each of {len(cells)} configurations · {len(best)} on the Pareto front"
    if held:
        basis += f" · n {held['n']:,} held out"
    figure = style.titled(finding, basis, "time of a retrieval (s, median)", "relevance (0 to 1)", height=260)
    on_front = {c["cell"] for c in best}
    for name, own, colour, size, mode in (
        ("beaten by another", [c for c in cells if c["cell"] not in on_front], style.GREY, 7, "markers"),
        ("Pareto front", best, style.BLUE, 9, "lines+markers"),
        ("chosen", [chosen] if chosen else [], style.ORANGE, 15, "markers"),
    ):
        x, y = [c["time_s"] for c in own], [c["value"] for c in own]
        marker = {"color": colour, "size": size, **(CHOSEN if name == "chosen" else {})}
        look = {"mode": mode, "line": {"color": colour, "width": 1.5}, "marker": marker}
        hover = [f"{escape(c['cell'])}<br>relevance {words.estimate(c)}, {c['time_s']:.3g} s" for c in own]
        figure.add_scatter(x=x, y=y, name=name, **look, **style.hovering(hover))
    if chosen and held:
        look = {"mode": "markers", "marker": {"color": style.ORANGE, "size": 10, "symbol": "diamond"}}
        said = f"{escape(chosen['cell'])}<br>relevance {words.estimate(held)} on held-out queries"
        interval = {"error_y": style.error_bars([held], style.ORANGE)}
        at = {"x": [chosen["time_s"]], "y": [held["value"]]}
        figure.add_scatter(**at, name="chosen, held-out queries", **look, **interval, **style.hovering([said]))
    style.threshold(figure, needed, axis="y")
    if bound_s is not None and max(float(c["time_s"]) for c in cells) > bound_s / 3:
        style.threshold(figure, bound_s, f"at most {bound_s:g} s")
    phase.draw(style.with_legend(figure), "pareto")


def shares(phase: phase_page.Phase) -> None:
    """Draw how much of the variance of relevance each factor explains."""
    rows, most = words.percent(phase.of("variance_share")), phase.best("variance_share")
    if not most:
        return
    factor = words.words(most["condition"]).capitalize()
    finding = f"{factor} explains {100 * most['value']:.0f} % of the variance of relevance"
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
