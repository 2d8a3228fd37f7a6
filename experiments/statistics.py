"""Tests and intervals, from scipy and statsmodels where they have them. Edge cases give a stated result in `note`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000  # SCIENCE, P2
WILCOXON_EFFICIENCY = 3 / np.pi  # asymptotic, against the paired t test under normality (Hodges and Lehmann 1956)


@dataclass(frozen=True)
class Test:
    """A test's statistic and p-value; both None when it is undefined, and `note` says why."""

    __test__ = False  # pytest collects classes called Test

    statistic: float | None
    p: float | None
    n: int
    note: str = ""


@dataclass(frozen=True)
class Interval:
    """A value between its bounds; all None when there is nothing to estimate."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str


@dataclass(frozen=True)
class Equivalence:
    """Result of two one-sided tests; low and high bound the mean difference at 90 %."""

    p: float | None
    mean_difference: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""


def _numbers(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if np.isnan(array).any():
        raise ValueError("NaN is no observation: leave failed trials out and count them")
    return array


def _pair(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = _numbers(a), _numbers(b)
    if x.shape != y.shape:
        raise ValueError(f"pairs need equal lengths, got {len(x)} and {len(y)}")
    return x, y


def wilcoxon_paired(a: Sequence[float], b: Sequence[float], alternative: str = "two-sided") -> Test:
    """Wilcoxon signed-rank test of a - b, zero differences dropped (Wilcoxon 1945).

    Args:
        alternative: "two-sided", "less" (a smaller) or "greater".
    """
    from scipy.stats import wilcoxon

    x, y = _pair(a, b)
    if not len(x):
        return Test(None, None, 0, "no pairs")
    if np.all(x == y):
        return Test(0.0, 1.0, len(x), "all differences are zero")
    found = wilcoxon(x, y, zero_method="wilcox", alternative=alternative)
    return Test(float(found.statistic), float(found.pvalue), len(x))


def friedman(rows: Sequence[Sequence[float]]) -> Test:
    """Friedman's test; rows are problems, columns conditions (at least three of each)."""
    from scipy.stats import friedmanchisquare

    if len(rows) < 3 or len(rows[0]) < 3:
        return Test(None, None, len(rows), "needs three problems and three conditions")
    table = _numbers([v for row in rows for v in row]).reshape(len(rows), -1)
    if np.all(table == table[:, :1]):
        return Test(0.0, 1.0, len(rows), "all conditions are equal")
    found = friedmanchisquare(*table.T)
    return Test(float(found.statistic), float(found.pvalue), len(rows))


def _adjusted(ps: Sequence[float | None], method: str) -> tuple[float | None, ...]:
    from statsmodels.stats.multitest import multipletests

    known = [p for p in ps if p is not None]
    if not known:
        return tuple(ps)
    corrected = iter(multipletests(known, method=method)[1])
    return tuple(None if p is None else float(next(corrected)) for p in ps)


def holm(ps: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's step-down adjustment; None stays None and is not counted."""
    return _adjusted(ps, "holm")


def bonferroni(ps: Sequence[float | None]) -> tuple[float | None, ...]:
    """Bonferroni's adjustment; None stays None and is not counted."""
    return _adjusted(ps, "bonferroni")


def cliffs_delta(a: Sequence[float], b: Sequence[float]) -> float | None:
    """P(a > b) - P(a < b) over all pairs (Cliff 1993); positive: a is larger. None without observations."""
    x, y = _numbers(a), _numbers(b)
    if not len(x) or not len(y):
        return None
    return float(np.sign(x[:, None] - y[None, :]).mean())


def rank_biserial_paired(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Matched-pairs rank-biserial correlation (Kerby 2014); None when all differences are zero."""
    from scipy.stats import rankdata

    x, y = _pair(a, b)
    difference = (x - y)[x != y]
    if not len(difference):
        return None
    ranks = rankdata(np.abs(difference))
    return float((ranks[difference > 0].sum() - ranks[difference < 0].sum()) / ranks.sum())


def tost_paired(a: Sequence[float], b: Sequence[float], margin: float) -> Equivalence:
    """Two one-sided paired t tests that |mean(a - b)| < margin (Schuirmann 1987)."""
    from scipy.stats import t

    x, y = _pair(a, b)
    n, difference = len(x), x - y
    if n < 2:
        return Equivalence(None, float(difference.mean()) if n else None, None, None, n, "needs two pairs")
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(n))
    if error == 0:
        inside = abs(mean) < margin
        return Equivalence(0.0 if inside else 1.0, mean, mean, mean, n, "differences do not vary")
    p = max(float(t.sf((mean + margin) / error, n - 1)), float(t.cdf((mean - margin) / error, n - 1)))
    half = float(t.ppf(0.95, n - 1)) * error
    return Equivalence(p, mean, mean - half, mean + half, n)


def _resampled(n: int, seed: int, groups: Sequence[str] | None, resamples: int) -> list[np.ndarray]:
    """Index arrays drawn with replacement, by observation or by whole group."""
    rng = np.random.default_rng(seed)
    if groups is None:
        return [rng.integers(0, n, n) for _ in range(resamples)]
    names = sorted(set(groups))
    members = [np.flatnonzero(np.asarray(groups) == g) for g in names]
    return [np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))]) for _ in range(resamples)]


def _percentiles(values: Sequence[float], level: float) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def bootstrap_mean(
    values: Sequence[float], seed: int, groups: Sequence[str] | None = None, resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:  # fmt: skip
    """Mean with a percentile bootstrap interval, resampled by observation, or by group when groups are given."""
    x = _numbers(values)
    unit = "by group" if groups is not None else "by problem"
    method = f"mean, bootstrap {unit}, {resamples} resamples, {level:.0%}"
    if not len(x):
        return Interval(None, None, None, 0, "no observations")
    if len(x) == 1:
        return Interval(float(x[0]), None, None, 1, "one observation has no interval")
    low, high = _percentiles([float(x[i].mean()) for i in _resampled(len(x), seed, groups, resamples)], level)
    return Interval(float(x.mean()), low, high, len(x), method)


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], seed: int, groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES, level: float = 0.95,
) -> Interval:  # fmt: skip
    """sum(numerators) / sum(denominators), pairs resampled together; resamples without a denominator are left out."""
    x, y = _pair(numerators, denominators)
    if not len(x) or y.sum() == 0:
        return Interval(None, None, None, len(x), "the denominator is zero")
    drawn = [float(x[i].sum() / y[i].sum()) for i in _resampled(len(x), seed, groups, resamples) if y[i].sum() != 0]
    low, high = _percentiles(drawn, level)
    method = f"ratio of sums, paired bootstrap, {len(drawn)} resamples, {level:.0%}"
    return Interval(float(x.sum() / y.sum()), low, high, len(x), method)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """A share with Wilson's score interval (Wilson 1927)."""
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return Interval(None, None, None, 0, "no observations")
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    return Interval(successes / n, float(low), float(high), n, f"share, Wilson {level:.0%}")


def correlation(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Spearman's rank correlation with Fisher's interval (variance 1.06 / (n - 3), Fieller et al. 1957)."""
    from scipy.stats import spearmanr

    a, b = _pair(x, y)
    n = len(a)
    if n < 4:
        return Interval(None, None, None, n, "needs four pairs")
    if np.all(a == a[0]) or np.all(b == b[0]):
        return Interval(None, None, None, n, "one side does not vary")
    rho = float(spearmanr(a, b).statistic)
    if abs(rho) >= 1:
        return Interval(rho, rho, rho, n, "Spearman, perfect order")
    half = 1.96 * float(np.sqrt(1.06 / (n - 3)))
    middle = float(np.arctanh(rho))
    return Interval(rho, float(np.tanh(middle - half)), float(np.tanh(middle + half)), n, "Spearman, Fisher 95%")


def smallest_effect(n: int, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Smallest standardised paired difference (Cohen's dz) that Wilcoxon's test sees; None below three pairs."""
    from statsmodels.stats.power import TTestPower

    if n < 3:
        return None
    return float(TTestPower().solve_power(nobs=n * WILCOXON_EFFICIENCY, power=power, alpha=alpha))


def required_n(dz: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Pairs needed to see dz; None when dz is not positive, or so small that a million pairs would not do."""
    from statsmodels.stats.power import TTestPower

    if not dz > 0.003:
        return None
    if dz > 3:
        return 6  # fewer than six pairs can never reach p < 0.05 in a two-sided signed-rank test
    n = float(np.ravel(TTestPower().solve_power(effect_size=dz, power=power, alpha=alpha))[0])
    return max(6, int(np.ceil(n / WILCOXON_EFFICIENCY)))
