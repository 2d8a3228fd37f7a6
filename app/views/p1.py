"""P1: do embeddings put problems with the same answer near each other? kNN, learning curve, candidates, map, similarities."""

from __future__ import annotations

from functools import partial
from html import escape

from app import format as words
from app.components import phase_page
from app.plots import phases as plots
from app.plots import style
from app.reading import Row
from warehouse.queries import phases as reading_phases

NUMBERS = {  # metrics of the table of candidates -> the names of their columns
    "knn_accuracy": "kNN accuracy",
    "knn_accuracy_other_families": "kNN, other families",
    "auc": "AUC",
    "auc_other_families": "AUC, other families",
    "probe_accuracy": "probe accuracy",
    "similarity_ratio": "similarity ratio",
    "silhouette": "silhouette",
}


def body(phase: phase_page.Phase) -> None:
    """Draw what decides, the learning curve, the candidates side by side; map and similarities of one, as chosen."""
    phase.beside(knn, learning)
    candidates(phase)
    without = {r["condition"] for r in phase.of("silhouette") if not words.defined(r["value"])}
    if embedders := [e for e in phase.read(reading_phases.embedders_of) if e not in without]:
        first = phase.main if phase.main in embedders else None
        embedder = phase.choose("Candidate of the map and of the similarities", embedders, "embedder", first)
        phase.beside(partial(clusters, embedder=embedder), partial(similarities, embedder=embedder))


def _against(row: Row, needed: float | None) -> str:
    """Return a value with its interval and, if there is a threshold, on which side of it the value is."""
    side = f", {words.side(row['value'] or 0, needed)} {needed:g}" if needed is not None else ""
    return words.estimate(row) + side


def knn(phase: phase_page.Phase) -> None:
    """Draw the kNN accuracy of each candidate with the threshold and chance."""
    rows = phase.of("knn_accuracy")
    best = phase.best("knn_accuracy")
    if not rows or best is None:
        return
    needed, chance = phase.setting("knn_threshold"), phase.find("chance_accuracy")
    finding = f"Nearest memos of {best['condition']} share the problem's class in {_against(best, needed)}"
    basis = f"n {rows[0]['n']:,} problems · {rows[0]['method']}"
    names = [r["condition"] for r in rows]
    figure = plots.rows_with_intervals(rows, finding, basis, "kNN accuracy (share)", among=names)
    style.threshold(figure, needed, place="top right")
    if chance:
        style.threshold(figure, chance["value"], f"chance {words.number(chance['value'])}", solid=True)
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(figure, "knn")


def learning(phase: phase_page.Phase) -> None:
    """Draw the kNN accuracy of each candidate with more and more memos."""
    lines: dict[str, list[Row]] = {}
    for row in phase.defined("knn_accuracy_by_memory"):
        name, _, memos = row["condition"].rpartition(" | ")
        lines.setdefault(name, []).append({**row, "memos": int(memos.partition(" ")[0])})
    best = phase.best("knn_accuracy")
    if not lines or best is None or best["condition"] not in lines:
        return
    own = lines[best["condition"]]
    first, last = own[0], own[-1]
    change = f"from {words.number(first['value'])} to {words.number(last['value'])}"
    finding = f"With {first['memos']:,} to {last['memos']:,} memos {best['condition']} goes {change}"
    basis = (
        f"n {last['n']:,} problems · the first memos, of all classes alike; bars: 95 % interval of the best candidate"
    )
    figure = plots.curves(lines, best["condition"], finding, basis, "memos (log scale)", "kNN accuracy (share)")
    style.threshold(figure, phase.setting("knn_threshold"), axis="y", place="top left")
    phase.draw(figure, "learning")


def candidates(phase: phase_page.Phase) -> None:
    """Show what else was measured of each candidate, without vectors or not."""
    rows = [
        {"candidate": one["condition"]}
        | {title: _of(phase, metric, one["condition"]) for metric, title in NUMBERS.items()}
        for one in phase.of("knn_accuracy")
    ]
    if rows:
        note = (
            "Other families: the problem's own family is left out of memory. The probe is a linear rule that was "
            "fitted to the memory. The similarity ratio was protocol 1's criterion and decides nothing."
        )
        phase.table("Candidates", rows, "candidates", tuple(NUMBERS.values()), note)


def _of(phase: phase_page.Phase, metric: str, candidate: str) -> float | None:
    row = phase.find(metric, candidate)
    return row["value"] if row else None


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
    figure = style.titled(finding, basis, "cosine similarity of a problem and a memo", "share of pairs (%)", height=330)
    for kind in ("between", "within"):
        own = [b for b in bins if b["kind"] == kind]
        figure.add_bar(
            x=[b["cosine"] for b in own],
            y=[100 * b["pairs"] / totals[kind] for b in own],
            width=[b["width"] for b in own],
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
