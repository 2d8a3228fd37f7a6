"""Tests, effect sizes, intervals and power, from scipy and statsmodels where they have them.

An edge case (too few observations, no variation) gives None and a reason in `note` or `method`; never a crash or NaN.
A missing or infinite number, unequal pairs and the like are a mistake of the caller: ValueError.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000  # docs/science.md, P2
WILCOXON_EFFICIENCY = 3 / np.pi  # asymptotic, against the paired t test under normality (Hodges and Lehmann 1956)
MOST_PAIRS = 1_000_000  # what asks for more is not worth planning
POWER, ALPHA, LEVEL = 0.8, 0.05, 0.95  # docs/science.md, Statistics
FEWEST_PAIRS = (
    6  # with fewer even the most extreme outcome, p = 2 / 2^n of the two-sided signed-rank test, is over ALPHA
)


@dataclass(frozen=True)
class Test:
    """A test of n pairs or problems; its p-value is None when it is undefined, and `note` says why."""

    __test__ = False  # pytest collects classes called Test

    p: float | None
    n: int
    note: str = ""


@dataclass(frozen=True)
class Interval:
    """A value between its bounds; None for what cannot be estimated, and `method` says why."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str


@dataclass(frozen=True)
class MeanTest:
    """Paired t tests of a mean difference against a margin; `shown` is p < 0.05.

    For equivalence low and high bound the mean difference at 90 %; for non-inferiority high bounds it at 95 %, one-sided.
    """

    p: float | None
    mean_difference: float | None
    low: float | None
    high: float | None
    shown: bool | None
    n: int
    note: str = ""


Numbers = Sequence[float] | NDArray[np.float64]
Groups = Sequence[str] | None  # one a number; None where each number is drawn by itself
Statistic = Callable[[NDArray[np.intp]], float | None]  # indices of the drawn observations; None where it is undefined


def _numbers(values: Numbers) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected one row of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("NaN or infinity is no observation: leave failed trials out and count them")
    return array


def _pair(a: Numbers, b: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = _numbers(a), _numbers(b)
    if x.shape != y.shape:
        raise ValueError(f"pairs need equal lengths, got {len(x)} and {len(y)}")
    return x, y


def wilcoxon_paired(a: Numbers, b: Numbers, alternative: str = "two-sided") -> Test:
    """Wilcoxon signed-rank test of a - b, zero differences dropped (Wilcoxon 1945).

    Args:
        alternative: "two-sided", "less" (a smaller) or "greater".
    """
    from scipy.stats import wilcoxon

    if alternative not in ("two-sided", "less", "greater"):
        raise ValueError(f"unknown alternative {alternative!r}")
    x, y = _pair(a, b)
    if not len(x):
        return Test(None, 0, "no pairs")
    # Dropped before the call: scipy would leave its exact method at the sight of a zero.
    difference = (x - y)[x != y]
    if not len(difference):
        return Test(1.0, len(x), "all differences are zero")
    return Test(float(wilcoxon(difference, alternative=alternative).pvalue), len(x))


def friedman(matrix: Sequence[Sequence[float]] | NDArray[np.float64]) -> Test:
    """Friedman's test; rows are problems, columns conditions (at least three of each)."""
    from scipy.stats import friedmanchisquare

    if len({len(row) for row in matrix}) > 1:
        raise ValueError("every problem needs a number under every condition")
    n = len(matrix)
    if n < 3 or len(matrix[0]) < 3:
        return Test(None, n, "needs three problems and three conditions")
    table = np.array([_numbers(row) for row in matrix])
    if np.all(table == table[:, :1]):
        return Test(1.0, n, "all conditions are equal")
    return Test(float(friedmanchisquare(*table.T).pvalue), n)


def mcnemar_exact(both: int, only_a: int, only_b: int, neither: int) -> Test:
    """McNemar's exact test: do a and b solve equally many of the same problems? Arguments are counts of problems."""
    from statsmodels.stats.contingency_tables import mcnemar

    counts = (both, only_a, only_b, neither)
    if min(counts) < 0:
        raise ValueError(f"counts cannot be negative: {counts}")
    n = sum(counts)
    if not n:
        return Test(None, 0, "no pairs")
    if not only_a + only_b:
        return Test(1.0, n, "a and b solve the same problems")
    return Test(float(mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue), n)


def adjusted(ps: Sequence[float | None], method: Literal["holm", "bonferroni"]) -> tuple[float | None, ...]:
    """Adjust p-values by Holm's step-down method or Bonferroni's; None stays None and is not counted."""
    from statsmodels.stats.multitest import multipletests

    known = [p for p in ps if p is not None]
    if not all(0 <= p <= 1 for p in known):
        raise ValueError(f"p-values lie between 0 and 1: {known}")
    if not known:
        return tuple(ps)
    corrected = iter(multipletests(known, method=method)[1])
    return tuple(None if p is None else float(next(corrected)) for p in ps)


def cliffs_delta(a: Numbers, b: Numbers) -> float | None:
    """P(a > b) - P(a < b) over all pairs (Cliff 1993); positive: a is larger. None without observations."""
    x, y = _numbers(a), _numbers(b)
    if not len(x) or not len(y):
        return None
    return float(np.sign(x[:, None] - y[None, :]).mean())


def rank_biserial_paired(a: Numbers, b: Numbers) -> float | None:
    """Matched-pairs rank-biserial correlation (Kerby 2014); None when all differences are zero."""
    from scipy.stats import rankdata

    x, y = _pair(a, b)
    difference = (x - y)[x != y]
    if not len(difference):
        return None
    ranks = rankdata(np.abs(difference))
    return float((ranks[difference > 0].sum() - ranks[difference < 0].sum()) / ranks.sum())


def tost_paired(a: Numbers, b: Numbers, margin: float) -> MeanTest:
    """Two one-sided paired t tests that |mean(a - b)| < margin (Schuirmann 1987); margin in the unit of a."""
    return _mean_test(a, b, margin, equivalence=True)


def noninferiority_paired(a: Numbers, b: Numbers, margin: float) -> MeanTest:
    """One-sided paired t test that mean(a - b) < margin, one half of Schuirmann's two (1987); margin in the unit of a.

    Shown where less is better, that a is not worse than b by the margin; where more is better, that b is not worse than a.
    """
    return _mean_test(a, b, margin, equivalence=False)


def _mean_test(a: Numbers, b: Numbers, margin: float, equivalence: bool) -> MeanTest:
    from statsmodels.stats.weightstats import DescrStatsW

    if not margin > 0:
        raise ValueError(f"the margin is {margin}, it must be positive")
    x, y = _pair(a, b)
    n, difference = len(x), x - y
    if n < 2:
        return MeanTest(None, float(difference.mean()) if n else None, None, None, None, n, "needs two pairs")
    mean = float(difference.mean())
    if np.all(difference == difference[0]):
        inside, low = (abs(mean) < margin, mean) if equivalence else (mean < margin, None)
        return MeanTest(0.0 if inside else 1.0, mean, low, mean, inside, n, "differences do not vary")
    described = DescrStatsW(difference)
    if equivalence:
        p, bounds = described.ttost_mean(-margin, margin)[0], described.tconfint_mean(alpha=0.10)
        return MeanTest(float(p), mean, float(bounds[0]), float(bounds[1]), bool(p < 0.05), n)
    p, bounds = described.ttest_mean(margin, alternative="smaller")[1], described.tconfint_mean(0.05, "smaller")
    return MeanTest(float(p), mean, None, float(bounds[1]), bool(p < 0.05), n)


def _resampled(n: int, seed: int | np.random.Generator, groups: Groups) -> list[NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    if groups is None:
        return [rng.integers(0, n, n) for _ in range(RESAMPLES)]
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(member == g) for g in range(len(names))]
    return [np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))]) for _ in range(RESAMPLES)]


def bootstrap(
    name: str, statistic: Statistic, n: int, seed: int | np.random.Generator, groups: Groups = None
) -> Interval:
    """Any statistic of n observations with a percentile bootstrap interval, resampled by observation or whole group.

    Resamples in which it is undefined are left out, and `method` says how many are behind the interval.

    Args:
        name: what the statistic is, in the words with which `method` begins.
    """
    if groups is not None and len(groups) != n:
        raise ValueError(f"{n} observations need {n} groups, got {len(groups)}")
    if not n:
        return Interval(None, None, None, 0, "no observations")
    value = statistic(np.arange(n))
    if value is None:
        return Interval(None, None, None, n, f"{name}, undefined")
    if n == 1 or (groups is not None and len(set(groups)) == 1):
        return Interval(value, None, None, n, f"one {'observation' if n == 1 else 'group'} has no interval")
    drawn = [v for i in _resampled(n, seed, groups) if (v := statistic(i)) is not None]
    if not drawn:
        return Interval(value, None, None, n, f"{name}, undefined in every resample")
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    unit = "by problem" if groups is None else f"by group ({len(set(groups))} groups)"
    return Interval(value, float(low), float(high), n, f"{name}, bootstrap {unit}, {len(drawn)} resamples, {LEVEL:.0%}")


def bootstrap_mean(values: Numbers, seed: int, groups: Groups = None) -> Interval:
    """Mean with a percentile bootstrap interval, resampled by observation, or by group when groups are given."""
    x = _numbers(values)
    # Of equal values the mean is that value; summed and divided, it can come out some 1e-17 beside it.
    same = bool(len(x)) and bool(np.all(x == x[0]))
    found = bootstrap("mean", lambda i: float(x[0] if same else x[i].mean()), len(x), seed, groups)
    return replace(found, method=f"{found.method}, values do not vary") if same and found.low is not None else found


def bootstrap_ratio(numerators: Numbers, denominators: Numbers, seed: int, groups: Groups = None) -> Interval:
    """sum(numerators) / sum(denominators), pairs resampled together; resamples without a denominator are left out."""
    x, y = _pair(numerators, denominators)

    def ratio(i: NDArray[np.intp]) -> float | None:
        below = y[i].sum()
        return None if below == 0 else float(x[i].sum() / below)

    found = bootstrap("ratio of sums of pairs", ratio, len(x), seed, groups)
    if len(x) and found.value is None:
        return Interval(None, None, None, len(x), "the denominator is zero")
    return found


def wilson(successes: int, n: int) -> Interval:
    """A share with Wilson's score interval (Wilson 1927)."""
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    if n == 0:
        return Interval(None, None, None, 0, "no observations")
    low, high = proportion_confint(successes, n, alpha=1 - LEVEL, method="wilson")
    share = successes / n
    # At 0 and n of n the bound is the share itself, but comes out some 1e-17 beside it.
    return Interval(share, min(float(low), share), max(float(high), share), n, f"share, Wilson {LEVEL:.0%}")


def correlation(x: Numbers, y: Numbers) -> Interval:
    """Spearman's rank correlation with Fisher's interval (variance 1.06 / (n - 3), Fieller et al. 1957)."""
    from scipy.stats import norm, spearmanr

    a, b = _pair(x, y)
    n = len(a)
    if n < 4:
        return Interval(None, None, None, n, "needs four pairs")
    if np.all(a == a[0]) or np.all(b == b[0]):
        return Interval(None, None, None, n, "one side does not vary")
    rho = float(spearmanr(a, b).statistic)
    if abs(rho) > 1 - 1e-12:
        rho = float(np.sign(rho))
        return Interval(rho, rho, rho, n, "Spearman, perfect order")
    half = float(norm.ppf((1 + LEVEL) / 2) * np.sqrt(1.06 / (n - 3)))
    middle = float(np.arctanh(rho))
    low, high = float(np.tanh(middle - half)), float(np.tanh(middle + half))
    return Interval(rho, low, high, n, f"Spearman, Fisher {LEVEL:.0%}")


def _power(dz: float, pairs: int) -> float:
    """Power of the two-sided test with that many pairs (Cohen 1988, paired t, times Wilcoxon's efficiency)."""
    from statsmodels.stats.power import TTestPower

    # The upper tail alone: the lower one adds under 1e-6 at any power worth having, and scipy gives NaN for it.
    found = float(TTestPower().power(dz, pairs * WILCOXON_EFFICIENCY, ALPHA / 2, alternative="larger"))
    # The upper tail is NaN only where dz * sqrt(pairs) is over 30 beyond the critical value, so the power is 1.
    return 1.0 if np.isnan(found) else found


def smallest_effect(n: int) -> float | None:
    """Smallest standardised paired difference (Cohen's dz) that Wilcoxon's test sees with n pairs at 80 % power.

    None with under FEWEST_PAIRS, however large the effect.
    """
    from scipy.optimize import brentq

    if n < FEWEST_PAIRS:
        return None
    # The upper end leaves the noncentrality at 60, far above any critical value at n pairs.
    return float(brentq(lambda dz: _power(dz, n) - POWER, 0.0, 60 / np.sqrt(n), xtol=1e-9))


def required_n(dz: float) -> int | None:
    """Fewest pairs that see dz at 80 % power; None when dz is not positive or asks for over a million pairs."""
    if np.isnan(dz):
        raise ValueError("NaN is no effect size")
    if not (dz > 0 and _power(dz, MOST_PAIRS) >= POWER):
        return None
    return bisect_left(range(MOST_PAIRS), POWER, lo=FEWEST_PAIRS, key=lambda n: _power(dz, n))
