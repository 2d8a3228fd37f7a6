"""P2: does a memory help at all? Attempts by condition, paired differences, accuracies, the smallest visible effect."""

from __future__ import annotations

from app import format as words
from app.components import conditions, phase_page
from app.plots import phases, style

CONDITIONS = ("none", "random", "recent", "semantic")


def body(phase: phase_page.Phase) -> None:
    """Four plots; the differences are of one retrieval, which the reader chooses."""
    left, right = phase_page.pair()
    with left:
        conditions.attempts(phase, CONDITIONS)
    with right:
        against_none(phase)
    left, right = phase_page.pair()
    with left:
        conditions.accuracies(phase)
    pairs = [r["condition"] for r in phase.of("mean_difference")]
    if not pairs:
        return
    with right:
        main = phase.verdict["main_condition"] if phase.verdict else None
        conditions.chosen_pair(phase, pairs, main)


def in_report(phase: phase_page.Phase) -> None:
    """Every plot, the differences pair by pair."""
    conditions.attempts(phase, CONDITIONS)
    against_none(phase)
    conditions.accuracies(phase)
    for row in phase.of("mean_difference"):
        conditions.differences(phase, *row["condition"].split(" - ", 1))


def against_none(phase: phase_page.Phase) -> None:
    """Mean paired difference of each retrieval from none."""
    rows = phase.of("mean_difference")
    if not rows:
        return
    known = [r for r in rows if words.defined(r["value"])]
    finding = "No retrieval could be compared with none"
    if known:
        best = min(known, key=lambda r: float(r["value"]))
        p = phase.find("adjusted_p", best["condition"])
        chance = f", adjusted p {words.number(p['value'])}" if p else ""
        verb = "saves" if best["value"] < 0 else "saves none; it costs"
        finding = (
            f"{best['condition'].split(' - ')[0].capitalize()} retrieval {verb} "
            f"{words.with_interval_abs(best['value'], best['low'], best['high'])} attempts a problem{chance}"
        )
        if words.holds_zero(best["low"], best["high"]):
            said = words.with_interval(best["value"], best["low"], best["high"])
            finding = f"No retrieval is told apart from none; nearest: {best['condition'].split(' - ')[0]}, {said} attempts{chance}"
    basis = f"n {rows[0]['n']:,} problems, paired · {rows[0]['method']} · Wilcoxon, Holm"
    colours = {r["condition"]: style.colour(r["condition"].split(" - ")[0]) for r in rows}
    figure = phases.rows_with_intervals(
        rows, finding, basis, "attempts more (+) or fewer (-) than none", colours=colours
    )
    style.threshold(figure, 0, "no difference", solid=True)
    phase.draw(figure, "differences")


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("p2", body)
