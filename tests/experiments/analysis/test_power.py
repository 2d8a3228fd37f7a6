"""The smallest visible effect and the pairs that it needs, at the level of each test."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import power
from experiments.mean_tests import tost_paired
from experiments.statistics import jackknife

quick = settings(max_examples=30, deadline=None)


def test_power_against_published_numbers():
    """A paired t test sees dz 0.5 with 34 pairs at 80 % (Cohen 1988, G*Power); Wilcoxon's efficiency makes it 35."""
    # 33.37 pairs in theory; divided by 3 / pi, 34.94.
    assert power.required_n(0.5) == 35
    assert power.smallest_effect(35) == pytest.approx(0.5, abs=0.001)


@quick
@given(st.integers(6, 3000))
def test_power_goes_there_and_back(n):
    """The n asked for by the smallest effect of n is n; more pairs see smaller effects."""
    effect = power.smallest_effect(n)
    assert effect is not None
    assert power.required_n(effect * (1 + 1e-6)) == n
    assert power.smallest_effect(n + 1) < effect


def test_power_edges():
    """Five pairs never reach p < 0.05 (2 / 2^5), no effect needs no number, and no size of effect crashes."""
    assert power.smallest_effect(5) is None
    assert power.smallest_effect(0) is None
    assert power.smallest_effect(6) is not None
    assert power.required_n(0.0) is None
    assert power.required_n(-0.5) is None
    assert power.required_n(0.001) is None
    assert power.required_n(3.0) == power.required_n(1e9) == power.required_n(math.inf) == 6


def test_at_level_zero_nothing_is_shown() -> None:
    """A gate that shall never pass, alpha = 0, ended the run in a division by zero before its first trial."""
    assert power.smallest_effect(1000, power.Level(0.0, 4)) is None
    assert power.required_n(3.0, power.Level(0.0)) is None


def test_the_level_is_that_of_the_smallest_p_of_a_family() -> None:
    """5 % on two sides over four comparisons is 1 / 160 in a tail: 2^-7 is over it, 2^-8 is not."""
    level = power.Level(0.05, 4)
    assert level.tail == 0.05 / 8 and level.fewest_pairs == 8
    assert power.smallest_effect(7, level) is None
    plain, strict = power.smallest_effect(30), power.smallest_effect(30, level)
    assert plain is not None and strict is not None and strict > 1.2 * plain
    assert power.required_n(strict, level) in (30, 31) and str(level) == "two-sided 0.05 over 4 comparisons"
    assert str(power.Level(0.05, 1, 1)) == "one-sided 0.05"


def test_the_power_of_equivalence_by_hand() -> None:
    """With so many pairs that their spread is known: 2 Phi(margin / error - z) - 1, of 2.5 errors 2 Phi(0.855) - 1."""
    n, sd = 40_000, 20.0  # error 0.1
    assert power.equivalence(n, 0.25, sd) == pytest.approx(
        2 * NormalDist().cdf(2.5 - NormalDist().inv_cdf(0.95)) - 1, abs=0.001
    )
    # A margin of one standard error is never shown: z alone is more.
    assert power.equivalence(n, 0.1, sd) == pytest.approx(0.0, abs=1e-6)
    assert power.equivalence(1, 0.25, 1.0) is None and power.largest_sd(1, 0.25) is None


@pytest.mark.parametrize(("n", "sd"), [(18, 0.4), (60, 0.85)])
def test_equal_strategies_are_shown_equal_as_often_as_was_said(n: int, sd: float) -> None:
    """Simulated: 1,000 studies of pairs that are truly equal."""
    rng = np.random.default_rng([n, 17])
    shown = [bool(tost_paired(rng.normal(0, sd, n), np.zeros(n), 0.25).shown) for _ in range(1000)]
    said = power.equivalence(n, 0.25, sd)
    assert said is not None and abs(np.mean(shown) - said) < 3 * (said * (1 - said) / 1000) ** 0.5 + 0.005


@pytest.mark.parametrize("n", [2, 18, 150])
def test_the_largest_spread_is_that_of_80_percent(n: int) -> None:
    """There and back; more pairs allow more spread, and a margin twice as wide twice as much."""
    sd = power.largest_sd(n, 0.25)
    assert sd is not None and power.equivalence(n, 0.25, sd) == pytest.approx(0.8, abs=0.001)
    wider, more = power.largest_sd(n, 0.5), power.largest_sd(n + 1, 0.25)
    assert wider == pytest.approx(2 * sd, rel=1e-3) and more is not None and more > sd


def test_the_smallest_wide_variation_is_seen_at_80_percent() -> None:
    """Simulated with the interval that the rule has: a jackknife of the logarithm, of 60 normal attempts."""
    n, rng = 60, np.random.default_rng(17)
    ratio = power.smallest_ratio(n, 0.5)
    assert ratio is not None and 0.5 < ratio < 0.7 and power.smallest_ratio(1, 0.5) is None
    shown = 0
    for _ in range(300):
        x = rng.normal(0, ratio, n)
        low = jackknife("std", lambda i, x=x: float(x[i].std(ddof=1)), n).low
        shown += low is not None and low > 0.5
    assert abs(shown / 300 - 0.8) < 3 * (0.8 * 0.2 / 300) ** 0.5 + 0.02
