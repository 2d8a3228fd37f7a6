"""P1: do embeddings put problems with the same answer near each other? Ratio, kNN, map of clusters, similarities."""

from __future__ import annotations

from functools import partial
from html import escape

from app import format as words
from app.components import phase_page
from app.plots import phases as plots
from app.plots import style
from app.reading import Row
from warehouse.queries import phases as reading_phases


def body(phase: phase_page.Phase) -> None:
    """Draw the plots; those of vectors are of one embedder, which the reader chooses."""
    phase.beside(ratio, knn)
    if embedders := phase.read(reading_phases.embedders_of):
        embedder = phase.choose("Embedder of the map and of the similarities", embedders, "embedder", phase.main)
        phase.beside(partial(clusters, embedder=embedder), partial(similarities, embedder=embedder))


def _against(row: Row, needed: float | None) -> str:
    """Return a value with its interval and, if there is a threshold, on which side of it the value is."""
    side = f", {words.side(row['value'] or 0, needed)} {needed:g}" if needed is not None else ""
    return words.estimate(row) + side


def ratio(phase: phase_page.Phase) -> None:
    """Draw the within / between similarity of each embedder against the threshold."""
    rows = phase.of("similarity_ratio")
    if not rows:
        return
    needed = phase.setting("ratio_threshold")
    finding = "No embedder has a defined ratio"
    if best := phase.best("similarity_ratio"):
        finding = f"{best['condition']} has the highest ratio: {_against(best, needed)}"
    basis = f"n {rows[0]['n']:,} problems · {rows[0]['method']}"
    title, embedders = "similarity within / between classes", phase.read(reading_phases.embedders_of)
    figure = plots.rows_with_intervals(rows, finding, basis, title, among=embedders)
    style.threshold(figure, needed)
    phase.draw(figure, "ratio")


def knn(phase: phase_page.Phase) -> None:
    """Draw the accuracy of the nearest neighbours, with families mixed and with families separated."""
    mixed = phase.of("knn_accuracy")
    apart = {r["condition"]: r for r in phase.of("knn_accuracy_groupwise")}
    if not mixed:
        return
    needed, embedders = phase.setting("knn_threshold"), phase.read(reading_phases.embedders_of)
    rows = [
        {**r, "condition": f"{r['condition']}, {kind}"}
        for m in mixed
        for r, kind in ((m, "mixed"), (apart.get(m["condition"]), "families apart"))
        if r
    ]
    best = max(mixed, key=lambda r: r["value"] or 0.0)
    finding = f"Neighbours of {best['condition']} share its class in {_against(best, needed)}"
    separated = f", {next(iter(apart.values()))['n']:,} with families separated" if apart else ""
    basis = f"n {mixed[0]['n']:,} held out{separated} · {mixed[0]['method']}"
    colours = {r["condition"]: style.colour(r["condition"].rpartition(", ")[0], embedders) for r in rows}
    figure = plots.rows_with_intervals(rows, finding, basis, "kNN accuracy (share)", colours=colours)
    style.threshold(figure, needed)
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(figure, "knn")


def clusters(phase: phase_page.Phase, embedder: str) -> None:
    """Draw the t-SNE map, coloured by class."""
    points = phase.read(reading_phases.map_points, embedder)
    if not points:
        return
    classes = sorted({p["truth"] for p in points})
    score = phase.find("silhouette", embedder)
    finding = f"{len(classes)} classes on the map of {embedder}"
    if score:
        apart = "apart" if score["value"] > 0.25 else "hardly apart" if score["value"] > 0 else "mixed"
        finding = f"The classes are {apart} in {embedder}: silhouette {words.number(score['value'])}"
    how = "t-SNE to two dimensions, for the eye only; the silhouette is of all dimensions"
    basis = f"n {len(points):,} problems · {how}"
    figure = style.titled(finding, basis, "t-SNE 1 (no unit)", "t-SNE 2 (no unit)", height=330)
    for name in classes:
        own = [p for p in points if p["truth"] == name]
        x, y, label = [p["x"] for p in own], [p["y"] for p in own], escape(words.shortened(name, 20))
        colour, symbol = style.colour(name, classes), style.symbol(name, classes)
        marker = {"color": colour, "symbol": symbol, "size": 8, "opacity": 0.85}
        hover = style.hovering([_hover(p) for p in own])
        figure.add_scatter(x=x, y=y, mode="markers", name=label, marker=marker, **hover)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    phase.draw(style.with_legend(figure), f"map-{embedder}")


def _hover(point: Row) -> str:
    return "<br>".join(escape(str(point[k])) for k in ("problem_id", "truth", "family"))


def similarities(phase: phase_page.Phase, embedder: str) -> None:
    """Draw how similar pairs of one class, and of two classes, are."""
    bins = phase.read(reading_phases.similarity_bins, embedder)
    if not bins:
        return
    within, between = (phase.find(f"{kind}_similarity", embedder) for kind in ("within", "between"))
    finding = f"Pairs by similarity in {embedder}"
    if within and between:
        gap = within["value"] - between["value"]
        finding = f"Pairs of one class are {words.number(abs(gap))} {'more' if gap > 0 else 'less'} similar than others in {embedder}"
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
