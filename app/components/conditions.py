"""Plots that P2, E1 and E2 share: attempts by condition, accuracies, paired differences of two conditions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app import format as words
from app.components.phase_page import Phase, Row
from app.plots import phases as plots
from app.plots import style
from common.outcome import LEVEL, Outcome, outcome_of
from warehouse.queries import phases as reading_phases


def attempts(phase: Phase, order: Sequence[str]) -> None:
    """Draw how many attempts trials need, by condition."""
    rows = [r for r in phase.read(reading_phases.attempt_counts) if r["condition"] in order]
    if not rows:
        return
    first = {}
    for c in order:
        own = [r for r in rows if r["condition"] == c]
        if own:
            first[c] = sum(r["first_right"] for r in own) / sum(r["trials"] for r in own)
    best, worst = max(first, key=lambda c: first[c]), min(first, key=lambda c: first[c])
    finding = f"Right at the first guess: {best} {100 * first[best]:.0f} %"
    finding += f", {worst} {100 * first[worst]:.0f} %" if worst != best else ""
    phase.draw(plots.attempts(rows, order, finding), "attempts")


def accuracies(phase: Phase, order: Sequence[str]) -> None:
    """Draw the share of first guesses that are right, with its interval; `order` has the conditions of the phase's question."""
    known = [r for r in phase.defined("accuracy") if r["condition"] in order]
    if not known:
        return
    best = max(known, key=lambda r: float(r["value"]))  # a control may be higher: it says what a gain is made of
    finding = f"Accuracy is highest with {best['condition']}: {words.estimate(best)}"
    basis = f"n {best['n']:,} problems a condition · {best['method']}"
    title = "accuracy (share of first guesses that are right)"
    figure = plots.rows_with_intervals(phase.of("accuracy"), finding, basis, title)
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(figure, "accuracy")


def differences(phase: Phase, first: str, second: str, margin: float | None = None) -> None:
    """Draw paired differences of two conditions with the margin of equivalence or the smallest visible effect."""
    rows = phase.read(reading_phases.paired_differences, first, second)
    if not rows:
        return
    n = sum(r["problems"] for r in rows)
    main = phase.find("mean_difference", f"{first} - {second}")
    fewer = sum(r["problems"] for r in rows if r["difference"] < 0)
    finding = f"{first} needs fewer attempts than {second} in {fewer:,} of {n:,} problems"
    outcome = shown(phase, f"{first} - {second}")
    if main and outcome in (Outcome.FEWER, Outcome.MORE):
        verb = "saves" if outcome is Outcome.FEWER else "costs"
        finding = f"{first.capitalize()} {verb} {words.estimate_abs(main)} attempts a problem against {second}"
    elif main:
        what = (
            "differs, mean and signed ranks on opposite sides,"
            if outcome is Outcome.MIXED
            else "is not shown to differ"
        )
        finding = f"{first.capitalize()} {what} from {second}: {words.estimate(main)} attempts a problem"
    basis = [f"n {n:,} problems, median of the seeds"]
    for metric, name in (("adjusted_p", "adjusted p"), ("equivalence_p", "equivalence p (TOST)")):
        if found := phase.find(metric, f"{first} - {second}"):
            basis.append(f"{name} {words.number(found['value'])}")
    effect, spread = phase.find("smallest_effect"), _spread(rows)
    visible = effect["value"] * spread if effect and spread else None
    if visible:
        basis.append(f"smallest visible effect at 80 % power ±{words.number(visible)} attempts")
    figure = plots.differences(rows, main, finding, " · ".join(basis), first, second, margin)
    if visible and margin is None:
        style.threshold(figure, -visible, f"visible from {words.number(-visible)}", place="top left")
    phase.draw(figure, f"paired-{first}-{second}")


def margin_of(phase: Phase) -> float | None:
    """Return the margin of equivalence in attempts; runs before it was a share of their range have it as a setting."""
    found = phase.find("equivalence_margin")
    return float(found["value"]) if found else phase.setting("margin")


def shown(phase: Phase, pair: str) -> Outcome:
    """Return what a comparison shows, by the gate's own test and level, so that no title says what a verdict denies.

    Where the model without memory is not above chance, attempts show nothing.
    """
    if phase.verdict and phase.verdict["findings"].get("base_above_chance") is False:
        return Outcome.OPEN
    found = [phase.find(name, pair) for name in ("adjusted_p", "mean_difference", "rank_biserial")]
    p, mean, ranks = (None if row is None else row["value"] for row in found)
    # E1 has a level for each direction.
    fewer, more = (
        phase.setting(name) or phase.setting("alpha") or LEVEL for name in ("amplification_p", "correction_p")
    )
    outcome = outcome_of(p, mean, ranks, fewer)
    return outcome if outcome is Outcome.FEWER else outcome_of(p, mean, ranks, more if (mean or 0) > 0 else fewer)


def pairs(phase: Phase, margin: float | None = None) -> None:
    """Draw the paired differences of the comparison that the reader chooses, of each in a report."""
    # A vote has no trials, and so no pairs to draw.
    found = [c for r in phase.of("mean_difference") if " - " in (c := str(r["condition"])) and "vote" not in c]
    if found:

        def draw(pair: str) -> None:
            first, second = pair.split(" - ", 1)
            differences(phase, first, second, margin)

        phase.one_of("Paired differences of", found, phase.main, draw)


def _spread(rows: Sequence[Row]) -> float | None:
    """Return the standard deviation of the differences, from their counts."""
    each = np.repeat([r["difference"] for r in rows], [r["problems"] for r in rows])
    return float(each.std(ddof=1)) if len(each) > 1 else None
