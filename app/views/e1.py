"""E1: the latest memos of a stream, or the most similar ones? Attempts, their difference, retrieval, labels alone, classes, tokens."""

from __future__ import annotations

from functools import partial
from html import escape

from app import format as words
from app.components import conditions, phase_page, robustness
from app.plots import phases as plots
from app.plots import style
from common.outcome import LEVEL, Outcome, outcome_of
from warehouse.queries import phases as reading_phases

CONDITIONS = ("none", "temporal", "semantic")
RETRIEVING = ("temporal", "semantic", "lexical", "other_families", "oracle")
EXPLAINING = ("none", "semantic", "label_only", "vote", "shuffled_labels", "other_families", "vote_other_families")


def body(phase: phase_page.Phase) -> None:
    """Draw eight plots."""
    attempts = partial(conditions.attempts, order=CONDITIONS)
    margin = conditions.margin_of(phase)
    difference = partial(conditions.differences, first="semantic", second="temporal", margin=margin)
    phase.beside(attempts, difference, retrieval, copying, by_class, effects, relevance, tokens)
    robustness.draw(phase)


def retrieval(phase: phase_page.Phase) -> None:
    """Draw the share of the memos shown that are of the problem's class: what holds where attempts say nothing."""
    rows = [r for r in phase.of("type_match") if r["condition"] in RETRIEVING]
    if not rows:
        return
    finding = "Memos of the problem's class among those shown"
    pair = "semantic - temporal"
    difference, p, ranks = (
        phase.find(f"precision_{name}", pair) for name in ("difference", "adjusted_p", "rank_biserial")
    )
    if difference and p:
        outcome = outcome_of(p["value"], difference["value"], ranks["value"] if ranks else None, LEVEL)
        often = {Outcome.MORE: "are more often", Outcome.FEWER: "are less often"}.get(
            outcome, "are not shown to be more often"
        )
        finding = f"Semantic memos {often} of the right class than temporal ones: {words.estimate(difference)}"
    basis = f"n {rows[0]['n']:,} problems · share of the memos shown · {rows[0]['method']}"
    figure = plots.rows_with_intervals(rows, finding, basis, "type match (share)")
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(figure, "retrieval")


def copying(phase: phase_page.Phase) -> None:
    """Draw the attempts that semantic memos need beside those of their labels alone."""
    found = {r["condition"]: r for r in phase.of("attempts_mean")}
    rows = [found[c] for c in EXPLAINING if c in found]
    if not {"label_only", "vote"} & set(found):
        return
    share = phase.find("gain_share", "label_only")
    finding = "Semantic memos beside their labels alone"
    if share and conditions.shown(phase, "semantic - none") is Outcome.FEWER:
        finding = f"Labels alone save {share['value']:.0%} of what semantic memos save"
    basis = f"n {rows[0]['n']:,} problems · label_only: other problems under the same labels · vote: no model"
    phase.draw(plots.rows_with_intervals(rows, finding, basis, "attempts (mean)"), "copying")


def by_class(phase: phase_page.Phase) -> None:
    """Draw the accuracy of each class under each condition."""
    rows = [
        {**r, "label": r["condition"].rpartition(" ")[0], "strategy": r["condition"].rpartition(" ")[2]}
        for r in phase.defined("class_accuracy")
    ]
    if not rows:
        return
    labels = list(dict.fromkeys(r["label"] for r in rows))
    at = {(r["label"], r["strategy"]): r["value"] for r in rows}
    gains = {
        label: at[label, "semantic"] - at[label, "none"]
        for label in labels
        if (label, "semantic") in at and (label, "none") in at
    }
    finding = "Accuracy by class"
    if gains:
        most, least = max(gains, key=lambda x: gains[x]), min(gains, key=lambda x: gains[x])
        finding = f"Semantic memos help most with {most} ({100 * gains[most]:+.0f} points), least with {least} ({100 * gains[least]:+.0f})"
    basis = f"n {rows[0]['n']:,} problems a class and condition · {rows[0]['method']}"
    title = "accuracy (share of first guesses that are right)"
    figure = style.titled(finding, basis, title, "", height=10 + 48 * len(labels))
    for i, strategy in enumerate(CONDITIONS):
        own = [r for r in rows if r["strategy"] == strategy]
        x, y = [r["value"] for r in own], [labels.index(r["label"]) + 0.22 * (i - 1) for r in own]
        marker = {"color": style.colour(strategy), "symbol": style.symbol(strategy, CONDITIONS), "size": 9}
        ends = style.error_bars(own, style.colour(strategy))
        hover = style.hovering([f"{escape(r['condition'])}: {words.estimate(r)}, n {r['n']}" for r in own])
        figure.add_scatter(x=x, y=y, name=strategy, mode="markers", marker=marker, error_x=ends, **hover)
    style.rows(figure, labels, 48)
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(style.with_legend(figure), "classes")


def effects(phase: phase_page.Phase) -> None:
    """Draw Cliff's delta and the matched-pairs rank-biserial of each pair, between -1 and 1."""
    pairs = [c for r in phase.of("cliffs_delta") if set((c := str(r["condition"])).split(" - ")) <= set(CONDITIONS)]
    main = phase.find("cliffs_delta", "semantic - temporal")
    if not pairs:
        return
    finding = "Effect sizes of the three comparisons"
    if main:
        size = abs(main["value"])
        # Romano and others 2006.
        word = "negligible" if size < 0.147 else "small" if size < 0.33 else "medium" if size < 0.474 else "large"
        finding = f"Semantic against temporal is a {word} effect: Cliff's delta {main['value']:+.2f}"
    basis = f"n {phase.of('cliffs_delta')[0]['n']:,} problems, paired · negative: the first needs fewer attempts"
    figure = style.titled(finding, basis, "effect size (-1 to 1)", "", height=20 + 52 * len(pairs))
    for metric, name, colour, shape in (
        ("cliffs_delta", "Cliff's delta", style.BLUE, "circle"),
        ("rank_biserial", "rank-biserial, matched pairs", style.RED, "diamond"),
    ):
        own = [r for r in phase.defined(metric) if r["condition"] in pairs]
        lower = -0.18 if shape == "circle" else 0.18
        x, y = [r["value"] for r in own], [pairs.index(r["condition"]) + lower for r in own]
        look = {"mode": "markers", "marker": {"color": colour, "size": 11, "symbol": shape}}
        hover = style.hovering([f"{escape(r['condition'])}: {name} {r['value']:+.3f}, n {r['n']}" for r in own])
        figure.add_scatter(x=x, y=y, name=name, **look, **hover)
        for value, row in zip(x, y, strict=True):
            style.beside(figure, row, f"{value:+.2f}")
    style.threshold(figure, 0, "no effect", solid=True)
    figure.update_xaxes(range=[-1.05, 1.05])
    style.rows(figure, pairs, 52)
    phase.draw(style.with_legend(figure), "effects")


def relevance(phase: phase_page.Phase) -> None:
    """Draw attempts by relevance of what was retrieved."""
    rows = [r for r in phase.read(reading_phases.relevance_against_attempts) if r["condition"] in CONDITIONS]
    if not rows:
        return
    found = phase.find("relevance_attempts_correlation", "semantic")
    finding = "Attempts by relevance of the memos"
    if found:
        verb = "save" if found["value"] < 0 else "do not save"
        finding = f"More relevant memos {verb} attempts: rho {words.estimate(found)}"
    totals = {c: sum(r["n"] for r in rows if r["condition"] == c) for c in dict.fromkeys(r["condition"] for r in rows)}
    basis = f"n {', '.join(f'{n:,} problems {c}' for c, n in totals.items())} · Spearman (semantic); means with 95 % intervals"
    title = "relevance of what was retrieved (0 to 1, steps of 0.1)"
    figure = style.titled(finding, basis, title, "mean attempts", height=240)
    for c in totals:
        own = [r for r in rows if r["condition"] == c]
        colour = style.colour(c)
        x, y, ends = [r["relevance"] for r in own], [r["value"] for r in own], style.error_bars(own, colour)
        marker = {"size": 8, "symbol": style.symbol(c, CONDITIONS)}
        look = {"mode": "lines+markers", "line": {"color": colour, "width": 2}, "marker": marker}
        hover = [f"{escape(c)}, relevance {r['relevance']:g}: {words.estimate(r)}, n {r['n']:,}" for r in own]
        figure.add_scatter(x=x, y=y, name=escape(c), error_y=ends, **look, **style.hovering(hover))
    figure.update_yaxes(rangemode="tozero")
    phase.draw(style.with_legend(figure), "relevance")


def tokens(phase: phase_page.Phase) -> None:
    """Draw the tokens of a trial under each condition."""
    rows = phase.of("tokens_mean")
    if not rows:
        return
    none, semantic = (phase.find("tokens_mean", c) for c in ("none", "semantic"))
    finding = "Tokens of a trial by condition"
    if none and semantic:
        finding = f"Semantic memos cost {semantic['value'] / none['value']:.1f} times the tokens of none"
    seconds = {r["condition"]: words.duration(r["value"]) for r in phase.of("latency_s")}
    basis = f"n {rows[0]['n']:,} trials a condition · median time: " + ", ".join(f"{c} {s}" for c, s in seconds.items())
    figure = plots.rows_with_intervals(rows, finding, basis, "tokens of a trial (in and out, mean)")
    figure.update_xaxes(rangemode="tozero")
    phase.draw(figure, "tokens")


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("e1", body)
