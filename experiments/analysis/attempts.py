"""Analysis of attempts that P2, E1 and E2 share: one value a problem and condition, then paired comparisons.

Pairs are made whole for each comparison: it rests on the problems that have a result under both of its conditions, so
that a condition which failed costs its own comparisons and no other. Numbers of one condition rest on what it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from common.outcome import Outcome, outcome_of
from experiments import power, statistics
from experiments.analysis.resampling import BY_PROBLEM, Resampling
from experiments.contract import Metric, Metrics, Trial
from experiments.power import Level

Table = dict[str, dict[str, float]]  # condition -> problem id -> median attempts over the seeds
Pair = tuple[str, str]  # two conditions, the first minus the second


def median_attempts(trials: Sequence[Trial], conditions: Sequence[str]) -> Table:
    """Return the median attempts of each problem that has a result under a condition; problems in order."""
    seen: dict[str, dict[str, list[float]]] = {c: defaultdict(list) for c in conditions}
    for t in trials:
        if t.condition in seen and t.attempts is not None:
            seen[t.condition][t.problem_id].append(t.attempts)
    return {c: {p: float(median(seen[c][p])) for p in sorted(seen[c])} for c in conditions}


def whole(table: Table, conditions: Sequence[str]) -> Table:
    """Return these conditions only, with the problems that have a result under each of them."""
    shared = set.intersection(*(set(table[c]) for c in conditions)) if conditions else set()
    return {c: {p: v for p, v in table[c].items() if p in shared} for c in conditions}


class Pairs(NamedTuple):
    """Values of two conditions, of the same problems in the same order."""

    first: list[float]
    second: list[float]


def paired(table: Table, first: str, second: str) -> Pairs:
    """Return the values of two conditions over the problems that both have."""
    both = whole(table, (first, second))
    return Pairs(list(both[first].values()), list(both[second].values()))


def differences(table: Table, first: str, second: str) -> dict[str, float]:
    """Return first - second of each problem that both have."""
    return {p: v - table[second][p] for p, v in table[first].items() if p in table[second]}


def failed_in(trials: Sequence[Trial], condition: str) -> int:
    return sum(1 for t in trials if t.condition == condition and t.error is not None)


def errors_of(trials: Sequence[Trial]) -> list[str]:
    """Return the different errors of failed trials, the most frequent first."""
    found = [t.error for t in trials if t.error is not None]
    return sorted(set(found), key=lambda e: (-found.count(e), e))


def failures_in_words(errors: Sequence[str]) -> str:
    """Return the first of `errors_of` as the end of a reason, "" when there are none."""
    return f" Failed: {errors[0].rstrip('.')}." if errors else ""


def per_condition(trials: Sequence[Trial], table: Table, by: Resampling = BY_PROBLEM) -> list[Metric]:
    """attempts_mean, accuracy, success_rate and censoring_rate of each condition, each from one value a problem."""
    rows = []
    for condition, values in table.items():
        done = [t for t in trials if t.condition == condition and t.attempts is not None]
        lost = failed_in(trials, condition)
        rows.append(row("attempts_mean", condition, by.mean(values), lost))
        rows.append(row("accuracy", condition, by.share(first_guesses(done)), lost))
        for metric, hit in (("success_rate", lambda t: bool(t.solved)), ("censoring_rate", lambda t: not t.solved)):
            rows.append(row(metric, condition, by.share(shares(done, hit)), lost))
    return rows


def shares(trials: Iterable[Trial], hit: Callable[[Trial], bool]) -> dict[str, float]:
    """Return the share of each problem's trials that are a hit: trials of a problem are one observation."""
    seen: dict[str, list[bool]] = defaultdict(list)
    for t in trials:
        seen[t.problem_id].append(hit(t))
    return {p: sum(found) / len(found) for p, found in seen.items()}


def first_guesses(trials: Iterable[Trial]) -> dict[str, float]:
    """Return the probability that the first guess at each problem is right, the mean over its trials."""
    seen: dict[str, list[float]] = defaultdict(list)
    for t in trials:
        if t.first_right is not None:
            seen[t.problem_id].append(t.first_right)
    return {p: float(np.mean(found)) for p, found in seen.items()}


def row(metric: str, condition: str, interval: statistics.Interval, failed: int = 0, note: str = "") -> Metric:
    """Return an interval as a Metric."""
    return Metric(
        metric, interval.value, interval.low, interval.high, interval.n, failed, condition, interval.method + note
    )


def comparisons(
    table: Table, pairs: Sequence[Pair], alternative: str = "two-sided", by: Resampling = BY_PROBLEM
) -> list[Metric]:
    """For each pair (first, second): p, Holm and Bonferroni over all pairs, effect sizes, mean difference first - second.

    A negative difference means that the first needs fewer attempts. Where problems share groups, the signs of a group
    are flipped together, and the protocol's test by problem stands beside it. A pair without common problems has rows
    without a value and is not counted in the adjustments.
    """
    shared = {pair: paired(table, *pair) for pair in pairs}
    grouped = {pair: by.of(differences(table, *pair)) for pair in pairs}
    tests = [statistics.wilcoxon_paired(*shared[pair], alternative, grouped[pair]) for pair in pairs]
    ps = [t.p for t in tests]
    holm, bonferroni = statistics.adjusted(ps, "holm"), statistics.adjusted(ps, "bonferroni")
    known = len(ps) - ps.count(None)
    rows = []
    for pair, test, by_holm, by_bonferroni in zip(pairs, tests, holm, bonferroni, strict=True):
        name, (x, y), groups = f"{pair[0]} - {pair[1]}", shared[pair], grouped[pair]
        note = f"; {test.note}" if test.note else ""
        flipped = "" if groups is None else f", signs flipped by group ({len(set(groups))} groups)"
        method = f"Wilcoxon signed-rank, {alternative}{flipped}{note}"

        def number(metric: str, value: float | None, how: str, name: str = name, n: int = test.n) -> Metric:
            return Metric(metric, value, n=n, condition=name, method=how)

        rows += [
            row("mean_difference", name, by.mean(differences(table, *pair))),
            number("p", test.p, method),
            number("adjusted_p", by_holm, f"{method}, Holm over {known}"),
            number("bonferroni_p", by_bonferroni, f"{method}, Bonferroni over {known}"),
            number("cliffs_delta", statistics.cliffs_delta(x, y), "Cliff 1993"),
            number("rank_biserial", statistics.rank_biserial_paired(x, y), "matched pairs"),
            _first_guesses(name, x, y),
        ]
        if groups is not None:
            alone = statistics.wilcoxon_paired(x, y, alternative)
            how = f"Wilcoxon signed-rank, {alternative}, by problem, not adjusted: the protocol's test, which takes "
            rows.append(number("p_by_problem", alone.p, f"{how}problems of a group as independent; decides nothing"))
    return rows


def outcome(metrics: Metrics, pair: str, level: float) -> Outcome:
    """Return what a comparison shows at this level: a direction needs the mean and the signed-rank statistic to agree.

    The test's p says only that signed ranks lean to one side; the mean, which a few large differences move, may lean to
    the other.
    """
    found = [metrics.find(name, pair) for name in ("adjusted_p", "mean_difference", "rank_biserial")]
    p, mean, ranks = (None if m is None else m.value for m in found)
    return outcome_of(p, mean, ranks, level)


def _first_guesses(name: str, x: Sequence[float], y: Sequence[float]) -> Metric:
    """McNemar's exact test on first guesses; a problem is right where the median attempts of its trials round to 1."""
    first, second = np.rint(x) == 1, np.rint(y) == 1
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    test = statistics.mcnemar_exact(int((first & second).sum()), only_first, only_second, int((~first & ~second).sum()))
    a, _, b = name.partition(" - ")
    method = (
        f"McNemar exact, two-sided, first guess right (median attempts round to 1): {only_first} only under {a}, "
        f"{only_second} only under {b}; not adjusted, outside Holm's family of Wilcoxon's p"
    )
    return Metric("mcnemar_p", test.p, n=test.n, condition=name, method=method)


def smallest_visible(n: int, level: Level) -> Metric:
    """Compute the smallest standardised paired difference seen at 80 % power with n problems, at the level tested."""
    return Metric(
        "smallest_effect",
        power.smallest_effect(n, level),
        n=n,
        method=f"Cohen's dz at 80 % power, {level}, paired t with Wilcoxon's relative efficiency 3/pi; "
        "problems of a group that are alike see less",
    )


def fewest_pairs(table: Table, pairs: Sequence[Pair]) -> int:
    """Return the number of problems behind the comparison that has the fewest, not counting those without any."""
    counts = [len(differences(table, a, b)) for a, b in pairs]
    return min((n for n in counts if n), default=0)


def cv(values: statistics.Numbers) -> float | None:
    """Return the coefficient of variation of attempts, one a problem; None with fewer than two problems."""
    found = np.array(values)
    return float(found.std(ddof=1) / found.mean()) if len(found) > 1 else None


def variation(values: Mapping[str, float], by: Resampling) -> statistics.Interval:
    """Coefficient of variation of attempts, one a problem, with its interval."""
    found = np.array(list(values.values()))
    return by.positive("std / mean over problems", lambda i: cv(found[i]), list(values))
