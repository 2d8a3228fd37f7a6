"""Analysis of attempts that P2, E1 and E2 share: one value a problem and condition, then paired comparisons.

Pairs are made whole for each comparison: it rests on the problems that have a result under both of its conditions, so
that a condition which failed costs its own comparisons and no other. Numbers of one condition rest on what it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments import statistics
from experiments.analysis.resampling import BY_PROBLEM, Resampling
from experiments.contract import Metric, Metrics, PhaseConfig, Trial

NEARLY_ALL = 0.9  # share of problems at one end: nine of ten, the usual mark for a ceiling
ENDS = {"ceiling": "problems solved at the first guess", "floor": "problems that take the most attempts there are"}
Table = dict[str, dict[str, float]]  # condition -> problem id -> median attempts over the seeds
Pair = tuple[str, str]  # two conditions, the first minus the second


def median_attempts(trials: Sequence[Trial], conditions: Sequence[str]) -> Table:
    """Return the median attempts of each problem that has a result under a condition; problems in order."""
    seen: dict[str, dict[str, list[int]]] = {c: defaultdict(list) for c in conditions}
    for t in trials:
        if t.condition in seen and t.attempts is not None:
            seen[t.condition][t.problem_id].append(t.attempts)
    return {c: {p: float(np.median(seen[c][p])) for p in sorted(seen[c])} for c in conditions}


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
    """attempts_mean, accuracy, success_rate and censoring_rate of each condition."""
    rows = []
    for condition, values in table.items():
        done = [t for t in trials if t.condition == condition and t.attempts is not None]
        lost = failed_in(trials, condition)
        rows.append(row("attempts_mean", condition, by.mean(values), lost))
        for metric, hits in (
            ("accuracy", sum(t.attempts == 1 for t in done)),
            ("success_rate", sum(bool(t.solved) for t in done)),
            ("censoring_rate", sum(not t.solved for t in done)),
        ):
            note = "; n counts trials, seeds of a problem are not independent"
            rows.append(row(metric, condition, statistics.wilson(hits, len(done)), lost, note))
    return rows


def row(metric: str, condition: str, interval: statistics.Interval, failed: int = 0, note: str = "") -> Metric:
    """Return an interval as a Metric."""
    return Metric(
        metric, interval.value, interval.low, interval.high, interval.n, failed, condition, interval.method + note
    )


def comparisons(
    table: Table, pairs: Sequence[Pair], alternative: str = "two-sided", by: Resampling = BY_PROBLEM
) -> list[Metric]:
    """For each pair (first, second): p, Holm and Bonferroni over all pairs, effect sizes, mean difference first - second.

    A negative difference means that the first needs fewer attempts. A pair without common problems has rows without a
    value and is not counted in the adjustments.
    """
    tests = [statistics.wilcoxon_paired(*paired(table, a, b), alternative=alternative) for a, b in pairs]
    ps = [t.p for t in tests]
    holm, bonferroni = statistics.adjusted(ps, "holm"), statistics.adjusted(ps, "bonferroni")
    known = len(ps) - ps.count(None)
    rows = []
    for (a, b), test, by_holm, by_bonferroni in zip(pairs, tests, holm, bonferroni, strict=True):
        name, (x, y) = f"{a} - {b}", paired(table, a, b)
        note = f"; {test.note}" if test.note else ""
        method = f"Wilcoxon signed-rank, {alternative}{note}"

        def number(metric: str, value: float | None, how: str, name: str = name, n: int = test.n) -> Metric:
            return Metric(metric, value, n=n, condition=name, method=how)

        rows += [
            row("mean_difference", name, by.mean(differences(table, a, b))),
            number("p", test.p, method),
            number("adjusted_p", by_holm, f"{method}, Holm over {known}"),
            number("bonferroni_p", by_bonferroni, f"{method}, Bonferroni over {known}"),
            number("cliffs_delta", statistics.cliffs_delta(x, y), "Cliff 1993"),
            number("rank_biserial", statistics.rank_biserial_paired(x, y), "matched pairs"),
            _first_guesses(name, x, y),
        ]
    return rows


def _first_guesses(name: str, x: Sequence[float], y: Sequence[float]) -> Metric:
    """McNemar's exact test on first guesses; a problem is right where the median attempts of its seeds are 1."""
    first, second = np.array(x) == 1, np.array(y) == 1
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    test = statistics.mcnemar_exact(int((first & second).sum()), only_first, only_second, int((~first & ~second).sum()))
    a, _, b = name.partition(" - ")
    method = (
        f"McNemar exact, two-sided, first guess right (median of the seeds is 1): {only_first} only under {a}, "
        f"{only_second} only under {b}; not adjusted, outside Holm's family of Wilcoxon's p"
    )
    return Metric("mcnemar_p", test.p, n=test.n, condition=name, method=method)


def ends(table: Table, most: int) -> list[Metric]:
    """ceiling_share and floor_share of each condition: problems at one attempt, and at the most there are."""
    rows = []
    for condition, values in table.items():
        found = np.array(list(values.values()))
        for end, at_end in (("ceiling", found == 1), ("floor", found >= most)):
            share = statistics.wilson(int(at_end.sum()), len(found))
            rows.append(
                row(f"{end}_share", condition, share, note=f"; {ENDS[end]} ({1 if end == 'ceiling' else most})")
            )
    return rows


def at_end(metrics: Metrics, end: str, condition: str) -> bool:
    """Return True if nearly all problems of a condition are at this end, so that a difference can hardly show."""
    share = metrics.find(f"{end}_share", condition)
    return share is not None and share.value is not None and share.value >= NEARLY_ALL


def ceiling_and_floor(table: Table, most: int) -> dict[str, list[str]]:
    """Return the conditions at either end (`at_end`)."""
    found = Metrics(tuple(ends(table, most)))
    return {end: [c for c in table if at_end(found, end, c)] for end in ENDS}


def ends_in_words(flags: dict[str, list[str]]) -> str:
    """Return the flags as the end of a reason, "" when there are none."""
    return "".join(
        f" At the {end} ({NEARLY_ALL:.0%} or more {ENDS[end]}): {', '.join(names)}."
        for end, names in flags.items()
        if names
    )


def smallest_visible(n: int) -> Metric:
    """Compute the smallest standardised paired difference seen at 80 % power with n problems."""
    return Metric(
        "smallest_effect",
        statistics.smallest_effect(n),
        n=n,
        method="Cohen's dz at 80 % power, two-sided 5 %, paired t with Wilcoxon's relative efficiency 3/pi",
    )


def fewest_pairs(table: Table, pairs: Sequence[Pair]) -> int:
    """Return the number of problems behind the comparison that has the fewest, not counting those without any."""
    counts = [len(differences(table, a, b)) for a, b in pairs]
    return min((n for n in counts if n), default=0)


def foretold(config: PhaseConfig) -> str:
    """Return the smallest effect that a phase of this config can see, as a sentence; "" where it solves no problems."""
    n = getattr(config, "n_test", None)
    if n is None:
        return ""
    dz = smallest_visible(n).value
    if dz is None:
        return f"{n} problems cannot show any effect: even the most extreme outcome stays above p 0.05"
    return (
        f"{n} problems show an effect of {dz:.2f} standard deviations of the paired difference, or more, at 80 % power"
    )


def cv(values: statistics.Numbers) -> float | None:
    """Return the coefficient of variation of attempts, one a problem; None with fewer than two problems."""
    found = np.array(values)
    return float(found.std(ddof=1) / found.mean()) if len(found) > 1 else None
