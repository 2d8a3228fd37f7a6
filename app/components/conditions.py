"""Plots that P2, E1 and E2 share: attempts by condition, accuracies, paired differences of two conditions."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import format as words
from app.components import filters
from app.components.phase_page import Phase, Row
from app.plots import phases as plots
from app.plots import style
from warehouse.queries import phases as reading_phases


def attempts(phase: Phase, order: Sequence[str]) -> None:
    """How many attempts trials need, by condition."""
    rows = [r for r in phase.read(reading_phases.attempt_counts) if r["condition"] in order]
    if not rows:
        return
    first = {}
    for c in order:
        own = [r for r in rows if r["condition"] == c]
        if own:
            first[c] = sum(r["trials"] for r in own if r["attempts"] == 1) / sum(r["trials"] for r in own)
    best, worst = max(first, key=lambda c: first[c]), min(first, key=lambda c: first[c])
    finding = f"Right at the first guess: {best} {100 * first[best]:.0f} %"
    finding += f", {worst} {100 * first[worst]:.0f} %" if worst != best else ""
    phase.draw(plots.attempts(rows, order, finding), "attempts")


def accuracies(phase: Phase) -> None:
    """Share of first guesses that are right, with Wilson's interval."""
    rows = phase.of("accuracy")
    known = [r for r in rows if words.defined(r["value"])]
    if not known:
        return
    best = max(known, key=lambda r: float(r["value"]))
    finding = (
        f"Accuracy is highest with {best['condition']}: {words.with_interval(best['value'], best['low'], best['high'])}"
    )
    basis = f"n {known[0]['n']:,} trials a condition, seeds of a problem are not independent · Wilson 95 %"
    figure = plots.rows_with_intervals(rows, finding, basis, "accuracy (share of first guesses that are right)")
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(figure, "accuracy")


def differences(phase: Phase, first: str, second: str, margin: float | None = None) -> None:
    """Paired differences of two conditions, the margin of equivalence or the smallest visible effect drawn."""
    rows = phase.read(reading_phases.paired_differences, first, second)
    if not rows:
        return
    n = sum(r["problems"] for r in rows)
    main = phase.find("mean_difference", f"{first} - {second}")
    fewer = sum(r["problems"] for r in rows if r["difference"] < 0)
    finding = f"{first} needs fewer attempts than {second} in {fewer:,} of {n:,} problems"
    if main:
        said = words.with_interval_abs(main["value"], main["low"], main["high"])
        verb = "saves" if main["value"] < 0 else "costs"
        finding = f"{first.capitalize()} {verb} {said} attempts a problem against {second}"
        if words.holds_zero(main["low"], main["high"]):
            said = words.with_interval(main["value"], main["low"], main["high"])
            finding = f"{first.capitalize()} is not told apart from {second}: {said} attempts a problem"
    basis = [f"n {n:,} problems, median of the seeds"]
    for name, said in (("adjusted_p", "adjusted p"), ("equivalence_p", "equivalence p (TOST)")):
        if found := phase.find(name, f"{first} - {second}"):
            basis.append(f"{said} {words.number(found['value'])}")
    visible, spread = phase.find("smallest_effect"), _spread(rows)
    if visible and spread:
        basis.append(f"smallest visible effect at 80 % power ±{words.number(visible['value'] * spread)} attempts")
    figure = plots.differences(rows, main, finding, " · ".join(basis), first, second, margin)
    if visible and spread and margin is None:
        at = -visible["value"] * spread
        style.threshold(figure, at, f"visible from {words.number(at)}", place="top left")
    phase.draw(figure, f"paired-{first}-{second}")


def chosen_pair(phase: Phase, pairs: Sequence[str], default: str | None, margin: float | None = None) -> None:
    """The paired differences of one comparison; which one is chosen below, so that plots beside each other stand in line."""
    place = st.container()
    first, second = filters.choice("Paired differences of", pairs, "pair", default).split(" - ", 1)
    with place:
        differences(phase, first, second, margin)


def _spread(rows: Sequence[Row]) -> float | None:
    """Standard deviation of the differences, from their counts."""
    n = sum(r["problems"] for r in rows)
    if n < 2:
        return None
    mean = sum(r["difference"] * r["problems"] for r in rows) / n
    return float((sum(r["problems"] * (r["difference"] - mean) ** 2 for r in rows) / (n - 1)) ** 0.5)
