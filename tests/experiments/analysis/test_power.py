"""The smallest visible effect and the pairs that it needs, at the level of each test."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import power

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
