"""Tests, effect sizes and intervals, from scipy and statsmodels where they have them.

An edge case (too few observations, no variation) gives None and a reason in `note` or `method`; never a crash or NaN.
A missing or infinite number, unequal pairs and the like are a mistake of the caller: ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000  # docs/science.md, P2
ALPHA, LEVEL = 0.05, 0.95  # docs/science.md, Statistics
DECIMALS = 12  # of differences that are ranked; attempts and shares have errors of some 1e-16
MOST_STEPS = 300_000_000  # additions of an exact signed-rank test, half a second; else the normal approximation


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


class StandardError(NamedTuple):
    """The standard error of a mean, and the degrees of freedom of Student's t for it."""

    value: float
    freedom: int


Numbers = Sequence[float] | NDArray[np.float64]
Groups = Sequence[str] | None  # one a number; None where each number is drawn by itself
Statistic = Callable[[NDArray[np.intp]], float | None]  # indices of the drawn observations; None where it is undefined


def numbers_of(values: Numbers) -> NDArray[np.float64]:
    """Return observations as an array; ValueError where one is missing or infinite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected one row of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("NaN or infinity is no observation: leave failed trials out and count them")
    return array


def pair_of(a: Numbers, b: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return paired observations as arrays; ValueError where their numbers differ."""
    x, y = numbers_of(a), numbers_of(b)
    if x.shape != y.shape:
        raise ValueError(f"pairs need equal lengths, got {len(x)} and {len(y)}")
    return x, y


def _differences(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x - y without its last bits: of shares in fifths, 0.8 - 0.6 and 0.6 - 0.4 are one rank, and 0.1 + 0.2 is 0.3."""
    return np.round(x - y, DECIMALS)


def wilcoxon_paired(a: Numbers, b: Numbers, alternative: str = "two-sided", groups: Groups = None) -> Test:
    """Exact Wilcoxon signed-rank test of a - b, zero differences dropped (Wilcoxon 1945; ties: Streitberg and Roehmel 1986).

    With groups the ranks are those of all pairs, and the signs of a group are flipped together: the clustered test of
    Rosner, Glynn and Lee (2006), as a randomisation test (Canay, Romano and Shaikh 2017). It holds its level however
    alike the pairs of a group are, where their common distribution is symmetric about zero.

    Args:
        alternative: "two-sided", "less" (a smaller) or "greater".
        groups: one a pair.
    """
    from scipy.stats import norm, rankdata

    if alternative not in ("two-sided", "less", "greater"):
        raise ValueError(f"unknown alternative {alternative!r}")
    x, y = pair_of(a, b)
    member = members_of(len(x), groups)
    if not len(x):
        return Test(None, 0, "no pairs")
    difference = _differences(x, y)
    difference, member = difference[difference != 0], member[difference != 0]
    if not len(difference):
        return Test(1.0, len(x), "all differences are zero")
    # Midranks are halves: twice them are whole numbers, so that sums are exact.
    signed = np.rint(2 * rankdata(np.abs(difference)) * np.sign(difference)).astype(np.int64)
    sums = np.bincount(member, weights=signed).astype(np.int64)
    sums, total = sums[sums != 0], int(sums.sum())
    if not len(sums):
        return Test(1.0, len(x), "the ranks of each group cancel")
    size = int(np.abs(sums).sum())
    if size * len(sums) > MOST_STEPS:
        z = total / float(np.sqrt((sums.astype(np.float64) ** 2).sum()))
        less, greater, note = float(norm.cdf(z)), float(norm.sf(z)), "normal approximation"
    else:
        chances = _sign_flips(np.abs(sums), size)
        at = (total + size) // 2
        less, greater, note = float(chances[: at + 1].sum()), float(chances[at:].sum()), ""
    p = {"less": less, "greater": greater, "two-sided": 2 * min(less, greater)}[alternative]
    return Test(min(1.0, p), len(x), note)


def members_of(n: int, groups: Groups) -> NDArray[np.intp]:
    """Return each observation's group as a number from 0; without groups each is its own."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"{n} observations need {n} groups, got {len(groups)}")
    return np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]


def _sign_flips(sizes: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """Return P(the positive ones sum to i) for i from 0 to total, each size positive or negative with probability 1/2.

    The shift algorithm of Streitberg and Roehmel (1986): one pass a size, instead of all 2^n ways to sign them.
    """
    chances = np.zeros(total + 1)
    chances[0], reached = 1.0, 0
    for size in sizes.tolist():
        chances[: reached + 1] *= 0.5
        chances[size : reached + size + 1] += chances[: reached + 1].copy()
        reached += size
    return chances


def friedman(matrix: Sequence[Sequence[float]] | NDArray[np.float64]) -> Test:
    """Friedman's test; rows are problems, columns conditions (at least three of each)."""
    from scipy.stats import friedmanchisquare

    if len({len(row) for row in matrix}) > 1:
        raise ValueError("every problem needs a number under every condition")
    n = len(matrix)
    if n < 3 or len(matrix[0]) < 3:
        return Test(None, n, "needs three problems and three conditions")
    table = np.array([numbers_of(row) for row in matrix])
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
    """Adjust p-values by Holm's step-down method or Bonferroni's; None stays None and is not counted.

    Not statsmodels' multipletests, which collects all garbage of the process at each call: 0.2 to 0.4 s.
    """
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    if not all(0 <= p <= 1 for p, _ in known):
        raise ValueError(f"p-values lie between 0 and 1: {known}")
    found: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        # Holm: the smallest of m against alpha / m, the next against alpha / (m - 1), none below those before it.
        largest = max(largest, p * (len(known) - rank))
        found[i] = min(1.0, largest if method == "holm" else p * len(known))
    return tuple(found)


def cliffs_delta(a: Numbers, b: Numbers) -> float | None:
    """P(a > b) - P(a < b) over all pairs (Cliff 1993); positive: a is larger. None without observations."""
    x, y = numbers_of(a), numbers_of(b)
    if not len(x) or not len(y):
        return None
    return float(np.sign(x[:, None] - y[None, :]).mean())


def rank_biserial_paired(a: Numbers, b: Numbers) -> float | None:
    """Matched-pairs rank-biserial correlation (Kerby 2014); None when all differences are zero."""
    from scipy.stats import rankdata

    x, y = pair_of(a, b)
    difference = _differences(x, y)
    difference = difference[difference != 0]
    if not len(difference):
        return None
    ranks = rankdata(np.abs(difference))
    return float((ranks[difference > 0].sum() - ranks[difference < 0].sum()) / ranks.sum())


def standard_error(values: Numbers, groups: Groups = None) -> StandardError | None:
    """Delete-one-group jackknife of the mean (CV3 of MacKinnon, Nielsen and Webb 2023, J. Econometrics 232:272).

    Without groups it is s / sqrt(n) with n - 1 degrees of freedom. None with fewer than two groups.
    """
    x = numbers_of(values)
    member = members_of(len(x), groups)
    sums, sizes = np.bincount(member, weights=x), np.bincount(member)
    count = len(sums)
    if count < 2:
        return None
    without = (x.sum() - sums) / (len(x) - sizes)
    error = float(np.sqrt((count - 1) / count * ((without - x.mean()) ** 2).sum()))
    return StandardError(error, count - 1)


def _resampled(n: int, seed: int | np.random.Generator, groups: Groups) -> Sequence[NDArray[np.intp]]:
    names = None if groups is None else tuple(groups)
    return _drawn(n, seed, names) if isinstance(seed, int) else _draw(n, seed, names)


def _draw(n: int, seed: int | np.random.Generator, groups: tuple[str, ...] | None) -> Sequence[NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    if groups is None:
        return [rng.integers(0, n, n) for _ in range(RESAMPLES)]
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(member == g) for g in range(len(names))]
    return [np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))]) for _ in range(RESAMPLES)]


_drawn = lru_cache(maxsize=2)(_draw)  # metrics of a phase are of the same problems: half of their time was drawing


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
    x = numbers_of(values)
    # Of equal values the mean is that value; summed and divided, it can come out some 1e-17 beside it.
    same = bool(len(x)) and bool(np.all(x == x[0]))
    found = bootstrap("mean", lambda i: float(x[0] if same else x[i].mean()), len(x), seed, groups)
    return replace(found, method=f"{found.method}, values do not vary") if same and found.low is not None else found


def bootstrap_ratio(numerators: Numbers, denominators: Numbers, seed: int, groups: Groups = None) -> Interval:
    """sum(numerators) / sum(denominators), pairs resampled together; resamples without a denominator are left out."""
    x, y = pair_of(numerators, denominators)

    def ratio(i: NDArray[np.intp]) -> float | None:
        below = y[i].sum()
        return None if below == 0 else float(x[i].sum() / below)

    found = bootstrap("ratio of sums of pairs", ratio, len(x), seed, groups)
    if len(x) and found.value is None:
        return Interval(None, None, None, len(x), "the denominator is zero")
    return found


def jackknife(name: str, statistic: Statistic, n: int, groups: Groups = None) -> Interval:
    """A positive statistic of n observations; its logarithm's interval by Student's t and the delete-one-group jackknife.

    Miller 1974 (Biometrika 61:1), for the logarithm of a standard deviation. No bounds where it is 0 or undefined
    without some group.
    """
    from scipy.special import stdtrit

    member = members_of(n, groups)
    value, count = statistic(np.arange(n)) if n else None, len(np.unique(member))
    if value is None:
        return Interval(None, None, None, n, f"{name}, undefined" if n else "no observations")
    left = [statistic(np.flatnonzero(member != g)) for g in range(count)] if count > 1 else []
    if value <= 0 or not left or not all(left):
        return Interval(value, None, None, n, f"{name}, too little variation for an interval")
    logs = np.log(np.array(left, dtype=np.float64))
    error = float(np.sqrt((count - 1) / count * ((logs - np.log(value)) ** 2).sum()))
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    by = "problem" if groups is None else f"group ({count} groups)"
    method = f"{name}, jackknife of its logarithm by {by}, {LEVEL:.0%}"
    return Interval(value, float(value * np.exp(-half)), float(value * np.exp(half)), n, method)


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


def share(values: Numbers, groups: Groups = None) -> Interval:
    """Mean of one share a problem, each from 0 to 1, with Wilson's interval for the effective number of problems.

    That is n over the design effect, the squared `standard_error` over that of n independent problems (Kish 1965; Dean
    and Pagano 2015, J. Survey Stat. Methodol. 3:484), never more than n; where no problem differs, the number of groups.
    """
    from statsmodels.stats.proportion import proportion_confint

    x = numbers_of(values)
    n = len(x)
    if n and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"shares lie between 0 and 1: {x.min()} to {x.max()}")
    if not n:
        return Interval(None, None, None, 0, "no observations")
    count = len(np.unique(members_of(n, groups)))
    by = "problem" if groups is None else f"group ({count} groups)"
    mean, error = float(x.mean()), standard_error(x, groups)
    plain = mean * (1 - mean) / n
    effective = float(count)
    if error is not None and plain > 0 and error.value > 0:
        # With single problems and values of 0 and 1 the design effect is exactly 1, for its variance divides by n.
        effective = min(float(n), n * plain / (error.value**2 * (count - 1) / count))
    low, high = proportion_confint(mean * effective, effective, alpha=1 - LEVEL, method="wilson")
    low, high = min(float(low), mean), max(float(high), mean)
    return Interval(mean, low, high, n, f"share, Wilson {LEVEL:.0%} by {by}, effective n {effective:.4g}")


def correlation(x: Numbers, y: Numbers) -> Interval:
    """Spearman's rank correlation with Fisher's interval (variance 1.06 / (n - 3), Fieller et al. 1957)."""
    from scipy.stats import norm, spearmanr

    a, b = pair_of(x, y)
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
