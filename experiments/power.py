"""The power of n pairs, at the level really tested: the smallest effect, equivalence, a wide variation; and the pairs needed."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

import numpy as np

from experiments.statistics import LEVEL

WILCOXON_EFFICIENCY = 3 / math.pi  # asymptotic, against the paired t test under normality (Hodges and Lehmann 1956)
MOST_PAIRS = 1_000_000  # what asks for more is not worth planning
POWER = 0.8  # docs/science.md, Statistics
QUANTILES = 2000  # of a distribution that is averaged over: the mean is exact to some 1e-4


@dataclass(frozen=True)
class Level:
    """The level of one test in its family: Holm's method tests the smallest p at alpha / comparisons (Holm 1979)."""

    alpha: float = 0.05
    comparisons: int = 1
    sides: int = 2

    @property
    def tail(self) -> float:
        """The probability of each tail that rejects."""
        return self.alpha / self.comparisons / self.sides

    @property
    def fewest_pairs(self) -> int:
        """With fewer, even the most extreme outcome of a signed-rank test, 1 / 2^n in its tail, does not get under the level."""
        return math.floor(math.log2(1 / self.tail)) + 1 if self.tail else MOST_PAIRS + 1  # at level 0 nothing is shown

    def __str__(self) -> str:
        """Return the level as a method names it."""
        over = f" over {self.comparisons} comparisons" if self.comparisons > 1 else ""
        return f"{'two' if self.sides == 2 else 'one'}-sided {self.alpha:g}{over}"


PLAIN = Level()


def _power(dz: float, pairs: int, level: Level) -> float:
    """Power of the test with that many pairs (Cohen 1988, paired t, times Wilcoxon's efficiency)."""
    from statsmodels.stats.power import TTestPower

    # The upper tail alone: the lower one adds under 1e-6 at any power worth having, and scipy gives NaN for it.
    found = float(TTestPower().power(dz, pairs * WILCOXON_EFFICIENCY, level.tail, alternative="larger"))
    # The upper tail is NaN only where dz * sqrt(pairs) is over 30 beyond the critical value, so the power is 1.
    return 1.0 if math.isnan(found) else found


@cache
def smallest_effect(n: int, level: Level = PLAIN) -> float | None:
    """Smallest standardised paired difference (Cohen's dz) that Wilcoxon's test sees with n pairs at 80 % power.

    None where so few pairs cannot get under the level, however large the effect.
    """
    from scipy.optimize import brentq

    if n < level.fewest_pairs:
        return None
    # The upper end leaves the noncentrality at 60, far above any critical value at n pairs.
    return float(brentq(lambda dz: _power(dz, n, level) - POWER, 0.0, 60 / math.sqrt(n), xtol=1e-9))


def required_n(dz: float, level: Level = PLAIN) -> int | None:
    """Fewest pairs that see dz at 80 % power; None when dz is not positive or asks for over a million pairs."""
    if math.isnan(dz):
        raise ValueError("NaN is no effect size")
    if not (dz > 0 and level.tail and _power(dz, MOST_PAIRS, level) >= POWER):
        return None
    return bisect_left(range(MOST_PAIRS), POWER, lo=level.fewest_pairs, key=lambda n: _power(dz, n, level))


def equivalence(n: int, margin: float, sd: float, alpha: float = 0.05) -> float | None:
    """Power of two one-sided paired t tests if both are truly equal (Phillips 1990, J. Pharmacokinet. Biopharm. 18:137).

    Given the standard deviation of the sample, the mean must lie within the margin less t standard errors; the power is the
    mean of that chance over the standard deviation's distribution.

    Args:
        n: pairs.
        margin: of equivalence, in the unit of `sd`.
        sd: standard deviation of the paired differences, above 0.
        alpha: level of each of both tests.

    Returns:
        The probability that equivalence is shown; None with fewer than two pairs.
    """
    from scipy.special import chdtri, ndtr, stdtrit

    if n < 2:
        return None
    above = (np.arange(QUANTILES) + 0.5) / QUANTILES
    sample = sd * np.sqrt(chdtri(n - 1, above) / (n - 1))
    within = margin - stdtrit(n - 1, 1 - alpha) * sample / math.sqrt(n)
    return float(np.maximum(2 * ndtr(within * math.sqrt(n) / sd) - 1, 0).mean())


@cache
def largest_sd(n: int, margin: float, alpha: float = 0.05) -> float | None:
    """Largest standard deviation of paired differences at which n pairs show equivalence at 80 % power; None for n < 2."""
    from scipy.optimize import brentq

    if n < 2:
        return None
    wide = margin * math.sqrt(n)  # where the margin is one standard error, the power is under a half
    return float(brentq(lambda sd: (equivalence(n, margin, sd, alpha) or 0.0) - POWER, wide / 1000, wide))


def smallest_ratio(n: int, bound: float) -> float | None:
    """Smallest true ratio of standard deviations whose 95 % interval lies above `bound` at 80 % power; None for n < 2.

    Of the interval that is Student's t around the logarithm (statistics.jackknife), whose error for normal values is
    1 / sqrt(2 (n - 1)) (Miller 1974, Biometrika 61:1).
    """
    from scipy.special import ndtri, stdtrit

    if n < 2:
        return None
    return float(bound * math.exp((stdtrit(n - 1, (1 + LEVEL) / 2) + ndtri(POWER)) / math.sqrt(2 * (n - 1))))
