"""Retrieval precision that E1 and E2 share: the share of the k memos with the problem's own label, compared in pairs.

It is precision at k (Manning, Raghavan and Schuetze 2008, Introduction to Information Retrieval, section 8.4); a trial has it
as its type match.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean

from common.outcome import Outcome, outcome_of
from experiments.analysis import attempts
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Metrics, Trial

COMPARED = {
    "mean_difference": "precision_difference",
    "p": "precision_p",
    "adjusted_p": "precision_adjusted_p",
    "rank_biserial": "precision_rank_biserial",
    "p_by_problem": "precision_p_by_problem",
}  # metric of attempts -> the same of precision


def by_problem(trials: Sequence[Trial], condition: str, value: Callable[[Trial], float | None]) -> dict[str, float]:
    """Return the mean value of each problem under a condition; problems in order, those without a value left out."""
    found: dict[str, list[float]] = defaultdict(list)
    for t in trials:
        if t.condition == condition and t.error is None and (number := value(t)) is not None:
            found[t.problem_id].append(number)
    return {p: mean(found[p]) for p in sorted(found)}


def precision_of(trials: Sequence[Trial], condition: str) -> dict[str, float]:
    """Return the retrieval precision of each problem under a condition, the mean over its trials."""
    return by_problem(trials, condition, lambda t: t.details.get("type_match"))


def compared(table: attempts.Table, pairs: Sequence[attempts.Pair], alternative: str, by: Resampling) -> list[Metric]:
    """Compare pairs of conditions as `attempts.comparisons` does, under the names of precision."""
    found = attempts.comparisons(table, pairs, alternative, by)
    return [replace(m, metric=COMPARED[m.metric]) for m in found if m.metric in COMPARED]


def outcome(metrics: Metrics, pair: str, level: float) -> Outcome:
    """Return what a comparison shows at this level: MORE where the first is more precise, mean and signed ranks alike."""
    names = ("precision_adjusted_p", "precision_difference", "precision_rank_biserial")
    p, difference, ranks = (None if (m := metrics.find(name, pair)) is None else m.value for name in names)
    return outcome_of(p, difference, ranks, level)
