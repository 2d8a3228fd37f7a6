"""Tests of a mean against a bound, by Student's t with an error that takes groups as wholes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.statistics import ALPHA, LEVEL, Groups, Numbers, pair_of, standard_error


@dataclass(frozen=True)
class MeanTest:
    """Paired t tests of a mean difference against a margin; `shown` is p < 0.05, None where there is no p.

    For equivalence low and high bound the mean difference at 90 %; for non-inferiority high bounds it at 95 %, one-sided.
    """

    p: float | None
    mean_difference: float | None
    low: float | None
    high: float | None
    shown: bool | None
    n: int
    note: str = ""


def tost_paired(a: Numbers, b: Numbers, margin: float, groups: Groups = None) -> MeanTest:
    """Two one-sided paired t tests that |mean(a - b)| < margin (Schuirmann 1987); margin in the unit of a.

    With groups its error is `standard_error`'s. Differences that do not vary have no p: nothing says how far the next
    one may lie from them.
    """
    return _mean_test(a, b, margin, True, groups)


def noninferiority_paired(a: Numbers, b: Numbers, margin: float, groups: Groups = None) -> MeanTest:
    """One-sided paired t test that mean(a - b) < margin, one half of Schuirmann's two (1987); margin in the unit of a.

    Shown where less is better, that a is not worse than b by the margin; where more is better, that b is not worse than a.
    Errors and differences that do not vary are as in `tost_paired`.
    """
    if not margin > 0:
        raise ValueError(f"the margin is {margin}, it must be positive")
    return _mean_test(a, b, margin, False, groups)


def under(values: Numbers, bound: float, groups: Groups = None) -> MeanTest:
    """One-sided t test that the mean of these values lies under a bound (Student 1908); errors as in `tost_paired`."""
    return _mean_test(values, [0.0] * len(values), bound, False, groups)


def _mean_test(a: Numbers, b: Numbers, margin: float, equivalence: bool, groups: Groups) -> MeanTest:
    from scipy.special import stdtr, stdtrit

    if equivalence and not margin > 0:
        raise ValueError(f"the margin is {margin}, it must be positive")
    x, y = pair_of(a, b)
    n, difference = len(x), x - y
    found = standard_error(difference, groups)
    if n < 2 or found is None:
        few = "needs two pairs" if n < 2 else "needs two groups"
        return MeanTest(None, float(difference.mean()) if n else None, None, None, None, n, few)
    mean = float(difference.mean())
    if np.ptp(difference) <= 1e-12 * max(1.0, float(np.abs(difference).max())) or found.value == 0:
        return MeanTest(None, mean, None, None, None, n, "no variation: all differences are equal")
    half = float(stdtrit(found.freedom, LEVEL)) * found.value
    over = float(stdtr(found.freedom, (mean - margin) / found.value))
    if not equivalence:
        return MeanTest(over, mean, None, mean + half, over < ALPHA, n)
    p = max(over, float(stdtr(found.freedom, -(mean + margin) / found.value)))
    return MeanTest(p, mean, mean - half, mean + half, p < ALPHA, n)
