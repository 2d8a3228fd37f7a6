"""P2: does a memory help at all? Attempts by condition, paired differences, accuracies, the smallest visible effect."""

from __future__ import annotations

from functools import partial

from app import format as words
from app.components import conditions, phase_page, robustness
from app.plots import phases, style
from common.outcome import Outcome

CONDITIONS = ("none", "random", "recent", "semantic", "lexical")


def body(phase: phase_page.Phase) -> None:
    """Draw four plots; the differences are of one retrieval, which the reader chooses."""
    attempts, accuracies = (partial(f, order=CONDITIONS) for f in (conditions.attempts, conditions.accuracies))
    phase.beside(attempts, against_none, accuracies, conditions.pairs)
    robustness.draw(phase)


def against_none(phase: phase_page.Phase) -> None:
    """Draw the mean paired difference of each retrieval from none."""
    retrievals = [f"{c} - none" for c in CONDITIONS]
    rows = [r for r in phase.of("mean_difference") if r["condition"] in retrievals]
    if not rows:
        return
    finding = "No retrieval could be compared with none"
    if best := min((r for r in rows if words.defined(r["value"])), key=lambda r: r["value"], default=None):
        name, p = best["condition"].split(" - ")[0], phase.find("adjusted_p", best["condition"])
        chance = f", adjusted p {words.number(p['value'])}" if p else ""
        finding = f"No retrieval is shown to save attempts; nearest: {name}, {words.estimate(best)} attempts{chance}"
        if conditions.shown(phase, best["condition"]) is Outcome.FEWER:
            finding = f"{name.capitalize()} memos save {words.estimate_abs(best)} attempts a problem{chance}"
    test = "betting" if phase.setting("look_every") else "Wilcoxon"
    basis = f"n {rows[0]['n']:,} problems, paired · {rows[0]['method']} · {test}, Holm"
    colours = {r["condition"]: style.colour(r["condition"].split(" - ")[0]) for r in rows}
    title = "attempts more (+) or fewer (-) than none"
    figure = phases.rows_with_intervals(rows, finding, basis, title, colours=colours)
    style.threshold(figure, 0, "no difference", solid=True)
    phase.draw(figure, "differences")


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("p2", body)
