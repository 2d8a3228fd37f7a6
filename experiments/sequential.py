"""A test of a mean that stays valid however often the data are looked at, by betting on bounded numbers.

Somebody bets on each observation against the null hypothesis; where that is true, a capital of 1 stays at 1 in the mean
whatever is bet, and ever reaches 1 / alpha with a probability of alpha at most (Ville 1939). So whoever looks at any time,
and stops when they like, is wrong no more often than alpha: Waudby-Smith and Ramdas 2024, "Estimating means of bounded
random variables by betting", J. R. Stat. Soc. B 86:1 (doi 10.1093/jrsssb/qkad009), where the means that are not rejected
are the confidence sequence.

Of their bets these are constant ones, a mixture of BETS of them: the capital is then the same in whatever order the
observations came. It also takes observations whose means differ within a balanced block (classes in turn): the product of
the block's factors has a mean of 1 at most if theirs have a mean of 1, since a geometric mean is no larger than an
arithmetic one. Bets that follow the data would not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.statistics import ALPHA, Groups, Numbers, members_of, numbers_of

BETS = 20  # shares of what may be lost, 0.025 to 0.975; an even mixture, since no effect is expected beforehand


@dataclass(frozen=True)
class AlwaysValid:
    """A two-sided test that a mean is zero, and its confidence sequence at 1 - ALPHA, at this number of observations."""

    p: float | None
    mean: float | None
    low: float | None
    high: float | None
    n: int  # independent observations
    note: str = ""


def capital_below(values: Numbers, bound: float, low: float, high: float) -> NDArray[np.float64]:
    """Return the capital of bets that the mean lies below `bound`, after each observation.

    Args:
        values: independent numbers from low to high, with one mean.
        bound: between low and high.
    """
    x = numbers_of(values)
    if not low < bound < high:
        raise ValueError(f"the bound {bound} is not between {low} and {high}")
    if len(x) and not (low <= x.min() and x.max() <= high):
        raise ValueError(f"observations from {x.min()} to {x.max()} are not within {low} to {high}")
    won = np.cumsum(np.log(_factors(x, bound, high)), axis=0)
    return np.asarray(np.exp(np.logaddexp.reduce(won, axis=1)) / BETS)


def _factors(x: NDArray[np.float64], bound: float, high: float) -> NDArray[np.float64]:
    """Return by what each bet multiplies its capital at each observation; shape (observations, BETS)."""
    shares = (np.arange(BETS) + 0.5) / BETS
    # If the mean is the bound or more, the quotient has a mean of 1 at most.
    return np.asarray(1 + shares * ((high - x[:, None]) / (high - bound) - 1))


def zero_mean(values: Numbers, reach: float, groups: Groups = None) -> AlwaysValid:
    """Test that the mean of numbers from -reach to reach is zero, by the larger of two capitals that share the level.

    With groups the mean of each group is one observation: numbers of a group may be alike, and whole groups are drawn.
    """
    x = numbers_of(values)
    if not len(x):
        return AlwaysValid(None, None, None, None, 0, "no pairs")
    member = members_of(len(x), groups)
    means = np.bincount(member, weights=x) / np.bincount(member)
    if np.abs(means).max() > reach * (1 + 1e-12):
        raise ValueError(f"observations up to {np.abs(means).max()} are beyond {reach}")
    means = np.clip(means, -reach, reach)  # a mean of sums can come out some 1e-16 beyond
    most = max(_logarithm(signed, 0.0, reach) for signed in (means, -means))
    p = min(1.0, 2 / float(np.exp(most)))
    return AlwaysValid(p, float(means.mean()), -_last(-means, reach), _last(means, reach), len(means))


def _logarithm(means: NDArray[np.float64], bound: float, reach: float) -> float:
    """Return the logarithm of the last capital of `capital_below`."""
    return float(np.logaddexp.reduce(np.log(_factors(means, bound, reach)).sum(axis=0)) - np.log(BETS))


def _last(means: NDArray[np.float64], reach: float) -> float:
    """Return the largest bound that is not rejected; the higher a bound, the more is won against it."""
    from scipy.optimize import brentq

    def beyond(bound: float) -> float:
        return _logarithm(means, bound, reach) - float(np.log(2 / ALPHA))

    end = reach * (1 - 1e-9)
    return float(brentq(beyond, -end, end, xtol=1e-9 * reach)) if beyond(end) > 0 else reach
