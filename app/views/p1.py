"""P1: do embeddings put problems with the same answer near each other? Ratio, kNN, map of clusters, similarities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app import format as words
from app.components import filters, phase_page
from app.plots import phases as plots
from app.plots import style
from warehouse.queries import phases as reading_phases

Row = Mapping[str, Any]


def body(phase: phase_page.Phase) -> None:
    """The plots; those of vectors are of one embedder, which the reader chooses."""
    embedders = phase.read(reading_phases.embedders_of)
    left, right = phase_page.pair()
    with left:
        ratio(phase, embedders)
    with right:
        knn(phase, embedders)
    if not embedders:
        return
    main = phase.verdict["main_condition"] if phase.verdict else None
    embedder = filters.choice("Embedder of the map and of the similarities", embedders, "embedder", main)
    left, right = phase_page.pair()
    with left:
        clusters(phase, embedder)
    with right:
        similarities(phase, embedder)


def in_report(phase: phase_page.Phase) -> None:
    """Every plot, those of vectors of the main embedder."""
    embedders = phase.read(reading_phases.embedders_of)
    ratio(phase, embedders)
    knn(phase, embedders)
    if not embedders:
        return
    main = str(phase.verdict["main_condition"]) if phase.verdict else ""
    embedder = main if main in embedders else str(embedders[0])
    clusters(phase, embedder)
    similarities(phase, embedder)


def ratio(phase: phase_page.Phase, embedders: Sequence[str]) -> None:
    """Within / between similarity of each embedder against the threshold."""
    rows = phase.of("similarity_ratio")
    if not rows:
        return
    needed = float(phase.config.get("ratio_threshold", 1.2))
    known = [r for r in rows if words.defined(r["value"])]
    finding = "No embedder has a defined ratio"
    if known:
        best = max(known, key=lambda r: float(r["value"]))
        said = words.with_interval(best["value"], best["low"], best["high"])
        finding = f"{best['condition']} has the highest ratio: {said}, {words.side(best['value'], needed)} {needed:g}"
    basis = f"n {rows[0]['n']:,} problems · {rows[0]['method']}"
    figure = plots.rows_with_intervals(rows, finding, basis, "similarity within / between classes", among=embedders)
    style.threshold(figure, needed, f"threshold {needed:g}")
    phase.draw(figure, "ratio")


def knn(phase: phase_page.Phase, embedders: Sequence[str]) -> None:
    """Accuracy of the nearest neighbours, with families mixed and with families kept apart."""
    mixed, apart = phase.of("knn_accuracy"), phase.of("knn_accuracy_groupwise")
    if not mixed:
        return
    needed = float(phase.config.get("knn_threshold", 0.70))
    rows = [
        {**r, "condition": f"{r['condition']}, {kind}"}
        for m, a in zip(mixed, apart, strict=True)
        for r, kind in ((m, "mixed"), (a, "families apart"))
    ]
    best = max(mixed, key=lambda r: r["value"] or 0.0)
    said = words.with_interval(best["value"], best["low"], best["high"])
    finding = f"Neighbours of {best['condition']} share its class in {said}, {words.side(best['value'] or 0, needed)} {needed:g}"
    basis = f"n {mixed[0]['n']:,} held out, {apart[0]['n']:,} of families kept apart · {mixed[0]['method']}"
    colours = {r["condition"]: style.colour(r["condition"].rpartition(", ")[0], embedders) for r in rows}
    figure = plots.rows_with_intervals(rows, finding, basis, "kNN accuracy (share)", colours=colours)
    style.threshold(figure, needed, f"threshold {needed:g}")
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(figure, "knn")


def clusters(phase: phase_page.Phase, embedder: str) -> None:
    """The t-SNE map, coloured by class."""
    points = phase.read(reading_phases.map_points, embedder)
    if not points:
        return
    classes = sorted({p["truth"] for p in points})
    score = phase.find("silhouette", embedder)
    finding = f"{len(classes)} classes on the map of {embedder}"
    if score:
        apart = "apart" if score["value"] > 0.25 else "hardly apart" if score["value"] > 0 else "mixed"
        finding = f"The classes are {apart} in {embedder}: silhouette {words.number(score['value'])}"
    basis = (
        f"n {len(points):,} problems · t-SNE to two dimensions, for the eye only; the silhouette is of all dimensions"
    )
    figure = style.titled(finding, basis, "t-SNE 1 (no unit)", "t-SNE 2 (no unit)", height=330)
    for name in classes:
        own = [p for p in points if p["truth"] == name]
        figure.add_scatter(
            x=[p["x"] for p in own],
            y=[p["y"] for p in own],
            mode="markers",
            name=escape(words.shortened(name, 20)),
            marker={
                "color": style.colour(name, classes),
                "symbol": style.symbol(name, classes),
                "size": 8,
                "opacity": 0.85,
            },
            hoverinfo="text",
            hovertext=[_said(p) for p in own],
        )
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    phase.draw(style.with_legend(figure), f"map-{embedder}")


def _said(point: Row) -> str:
    return "<br>".join(escape(str(point[k])) for k in ("problem_id", "truth", "family"))


def similarities(phase: phase_page.Phase, embedder: str) -> None:
    """How alike pairs of one class, and of two, are."""
    bins = phase.read(reading_phases.similarity_bins, embedder)
    if not bins:
        return
    within, between = (phase.find(f"{kind}_similarity", embedder) for kind in ("within", "between"))
    finding = f"Pairs by similarity in {embedder}"
    if within and between:
        gap = within["value"] - between["value"]
        finding = f"Pairs of one class are {words.number(abs(gap))} {'more' if gap > 0 else 'less'} alike than others in {embedder}"
    totals = {kind: sum(b["pairs"] for b in bins if b["kind"] == kind) for kind in ("within", "between")}
    basis = f"n {totals['within']:,} pairs within a class, {totals['between']:,} between; lines at the means"
    figure = style.titled(finding, basis, "cosine similarity of two problems", "share of pairs (%)", height=330)
    for kind in ("between", "within"):
        own = [b for b in bins if b["kind"] == kind]
        figure.add_bar(
            x=[b["cosine"] for b in own],
            y=[100 * b["pairs"] / totals[kind] for b in own],
            width=2 / reading_phases.BINS,
            name=f"{kind} classes" if kind == "between" else "within a class",
            marker_color=style.colour(kind),
            opacity=0.6,
            hovertemplate=f"{kind}: cosine %{{x:.2f}}, %{{y:.1f}} %<extra></extra>",
        )
    figure.update_layout(barmode="overlay")
    for row, kind in ((within, "within"), (between, "between")):
        if row:
            figure.add_vline(x=row["value"], line_color=style.colour(kind), line_width=2, line_dash="dot")
    phase.draw(style.with_legend(figure), f"similarities-{embedder}")


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("p1", body)
