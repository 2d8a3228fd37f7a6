"""E2's second outcome: do tuned models need fewer attempts than the base of the hypothesis, or steadier ones?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.outcome import Outcome
from experiments.analysis import attempts
from experiments.analysis.e2_settings import BASE, CROSSED, TUNED_WRITERS, WRITERS, AnalysisConfig, first_trained
from experiments.analysis.ends import margin_row, scale_of
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Metrics, Trial


def rows(
    table: attempts.Table, tuned: Sequence[str], base: str, config: AnalysisConfig, by: Resampling
) -> list[Metric]:
    """Compare tuned conditions with the base: one-sided tests with Holm, improvement, variation, and by the margin."""
    return [
        *attempts.comparisons(table, [(c, base) for c in tuned], "less", by),
        *(m for c in tuned for m in _against(table, c, base, by)),
        *(m for c in tuned for m in _by_margin(table, c, base, config, by)),
        margin_row(scale_of(config), config.margin),
    ]


def _against(table: attempts.Table, tuned: str, base: str, by: Resampling) -> list[Metric]:
    """Compare a tuned condition with its base: improvement in percent, and ratio of the coefficients of variation."""
    name = f"{tuned} - {base}"
    ratio = by.ratio(table[tuned], table[base])

    def saved(value: float | None) -> float | None:
        return None if value is None else 100.0 * (1.0 - value)

    improvement = replace(ratio, value=saved(ratio.value), low=saved(ratio.high), high=saved(ratio.low))
    both = attempts.whole(table, (tuned, base))
    left, right = (np.array(list(both[c].values())) for c in (tuned, base))

    def variation(i: NDArray[np.intp]) -> float | None:
        own, other = attempts.cv(left[i]), attempts.cv(right[i])
        return own / other if own is not None and other else None

    found = by.positive("ratio of std / mean", variation, list(both[base]))
    if found.value is None:
        found = replace(found, method="attempts of the base do not vary" if len(right) > 1 else "needs two problems")
    return [attempts.row("improvement_percent", name, improvement), attempts.row("cv_ratio", name, found)]


def _by_margin(table: attempts.Table, tuned: str, base: str, config: AnalysisConfig, by: Resampling) -> list[Metric]:
    """Test a tuned condition against the margin: not worse by it, worse by it, and no saving as large."""
    margin = scale_of(config).part(config.margin)
    more, saved = attempts.differences(table, tuned, base), attempts.differences(table, base, tuned)
    rows = []
    for metric, values, bound, words in (
        ("noninferiority_p", more, margin, f"fewer than {margin:.3g} more attempts are needed"),
        ("inferiority_p", saved, -margin, f"over {margin:.3g} more attempts are needed"),
        ("no_saving_p", saved, margin, f"fewer than {margin:.3g} attempts are saved"),
    ):
        test = by.under(values, bound)
        note = f"; {test.note}" if test.note else ""
        method = f"one-sided paired t test that {words}{note}"
        rows.append(Metric(metric, test.p, n=test.n, condition=f"{tuned} - {base}", method=method))
    return rows


class Compared(NamedTuple):
    """One tuned condition against its base; p and difference have values."""

    p: Metric
    difference: Metric
    shown: Outcome
    variation: Metric | None
    not_worse: bool  # by the margin
    worse: bool  # by the margin
    no_saving: bool  # as large as the margin


def _compared(metrics: Metrics, pair: str, config: AnalysisConfig) -> Compared | None:
    """Return what was measured of a pair, None where it could not be compared."""
    p, d, v = (metrics.find(name, pair) for name in ("adjusted_p", "mean_difference", "cv_ratio"))
    shown = attempts.outcome(metrics, pair, config.alpha)
    if shown is Outcome.UNMEASURED or p is None or d is None:
        return None

    def under(metric: str, level: float) -> bool:
        found = metrics.find(metric, pair)
        return found is not None and found.value is not None and found.value < level

    # That attempts are worse is one of two ways to refute stabilization, so it has half of the level.
    worse, alpha = under("inferiority_p", config.alpha / 2), config.alpha
    return Compared(p, d, shown, v, under("noninferiority_p", alpha), worse, under("no_saving_p", alpha))


class Answer(NamedTuple):
    """The answer by attempts: confirmed, refuted or inconclusive, the number that it rests on, and that as text."""

    word: str
    main: Metric | None
    text: str


def answer(metrics: Metrics, hypothesis: str, base: str, tuned: Sequence[str], config: AnalysisConfig) -> Answer:
    """Answer the second outcome by the hypothesis's own rule."""
    known = [row for c in tuned if (row := _compared(metrics, f"{c} - {base}", config))]
    if not known:
        return Answer("inconclusive", None, f"no tuned condition could be compared with {base}")
    return _by_variation(known, config) if hypothesis == "stabilization" else _by_attempts(known)


def crossed(trials: Sequence[Trial], config: AnalysisConfig, by: Resampling) -> list[Metric]:
    """Measure what the writer and what the solver change: main effects of the 3 x 3 layout, in attempts.

    A tuned writer's effect is attempts with its queries less attempts with those of the untuned one, the mean over the
    three solvers, over problems with all nine results; a solver's likewise (Fisher 1935, The Design of Experiments,
    chapter VI). All cells of an adapter are of its first training that succeeded.
    """
    own = {"": BASE, "s": "tuned_s", "r": "tuned_r"}
    cells = {(own_of.writer, own[own_of.solver]): name for name, own_of in CROSSED.items()} | {
        (c, c): c for c in WRITERS
    }
    first = {c: first_trained(config, (t.seed for t in trials if t.condition == c)) for c in TUNED_WRITERS}
    of_first = [t for t in trials if t.seed == first.get(t.condition, t.seed)]
    table = attempts.whole(attempts.median_attempts(of_first, list(cells.values())), list(cells.values()))
    problems = list(table[BASE])
    if not problems:
        return []
    found = []
    for c in TUNED_WRITERS:
        pairs = {
            "writer": [(table[cells[c, m]], table[cells[BASE, m]]) for m in WRITERS],
            "solver": [(table[cells[w, c]], table[cells[w, BASE]]) for w in WRITERS],
        }
        for factor, columns in pairs.items():
            effect = {p: float(np.mean([a[p] - b[p] for a, b in columns])) for p in problems}
            note = f"; mean over three {'solvers' if factor == 'writer' else 'writers'}, first training"
            found.append(attempts.row("crossed_difference", f"{factor}: {c} - {BASE}", by.mean(effect), note=note))
    return found


def _by_attempts(rows: Sequence[Compared]) -> Answer:
    """Answer by attempts saved; any tuned condition confirms, since Holm's p covers all of them."""
    better = [r for r in rows if r.shown is Outcome.FEWER]
    best = min(better or rows, key=lambda r: number(r.difference))
    text = f"{best.difference.condition} {number(best.difference):+.2f}, adjusted p {number(best.p):.3g}"
    if better:
        return Answer("confirmed", best.difference, text)
    # Refuted: each is shown not to save as much as the smallest saving worth having.
    refuted = all(r.no_saving for r in rows)
    return Answer("refuted" if refuted else "inconclusive", best.difference, text)


def _by_variation(rows: Sequence[Compared], config: AnalysisConfig) -> Answer:
    """Answer by the ratio of the coefficients of variation, tuned to base, against 1, where attempts are not worse.

    A model that fails everywhere is steady too. Each interval is one of two at 95 %, so both together hold 5 % on one side.
    """
    found = [(r, r.variation) for r in rows if r.variation is not None and r.variation.value is not None]
    if not found:
        nothing = rows[0].variation or Metric("cv_ratio", None, condition=rows[0].difference.condition)
        return Answer("inconclusive", nothing, f"CV ratio undefined, {nothing.method}")
    steadier = [(r, m) for r, m in found if m.high is not None and m.high < 1.0]
    confirmed = [(r, m) for r, m in steadier if r.not_worse]
    row, best = min(confirmed or steadier or found, key=lambda pair: number(pair[1]))
    worse = "" if row.not_worse else f", not shown to be within {scale_of(config).part(config.margin):.3g}"
    text = f"{best.condition} CV ratio {number(best):.2f}, {number(row.difference):+.2f} attempts{worse}"
    refuted = all(r.worse or (m.low is not None and m.low > 1.0) for r, m in found)
    return Answer("confirmed" if confirmed else "refuted" if refuted else "inconclusive", best, text)


def number(metric: Metric) -> float:
    assert metric.value is not None  # noqa: S101
    return metric.value
