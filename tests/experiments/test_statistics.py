"""The statistics: each against a fixture small enough to compute by hand, and every edge case."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import statistics as s

numbers = st.lists(st.integers(1, 6).map(float), min_size=2, max_size=30)


def test_wilcoxon_by_hand():
    """Five positive differences: W- = 0 and the exact two-sided p is 2 / 2^5."""
    found = s.wilcoxon_paired([2, 4, 6, 8, 10], [1, 2, 3, 4, 5])
    assert found.statistic == 0
    assert found.p == pytest.approx(2 / 32)
    assert s.wilcoxon_paired([1, 2, 3, 4, 5], [2, 4, 6, 8, 10], "less").p == pytest.approx(1 / 32)


def test_wilcoxon_of_equal_values_says_so():
    """No difference at all is p = 1 with a note, not a crash or NaN."""
    assert s.wilcoxon_paired([1, 1], [1, 1]) == s.Test(0.0, 1.0, 2, "all differences are zero")
    assert s.wilcoxon_paired([], []).p is None


def test_nan_is_refused():
    """A missing value must not slip into a mean."""
    with pytest.raises(ValueError, match="NaN"):
        s.bootstrap_mean([1.0, math.nan], 42)


def test_friedman_by_hand():
    """Three problems with the same order of three conditions: chi2 = 6, p = exp(-3)."""
    found = s.friedman([[1, 2, 3], [1, 2, 3], [1, 2, 3]])
    assert found.statistic == pytest.approx(6.0)
    assert found.p == pytest.approx(math.exp(-3))
    assert s.friedman([[1, 1, 1]] * 3).p == 1.0
    assert s.friedman([[1, 2, 3]]).p is None


def test_holm_and_bonferroni_by_hand():
    """0.01, 0.04, 0.03 become 0.03, 0.06, 0.06 and 0.03, 0.12, 0.09; a missing p is not counted."""
    assert s.holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert s.bonferroni([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.12, 0.09))
    assert s.holm([0.02, None]) == (0.02, None)
    assert s.holm([None]) == (None,)


def test_effect_sizes_by_hand():
    """Cliff's delta of (1, 2) against (2, 3) is -3/4; rank-biserial of differences +1, +2, -3 is 0."""
    assert s.cliffs_delta([1, 2], [2, 3]) == -0.75
    assert s.cliffs_delta([], [1]) is None
    assert s.rank_biserial_paired([2, 4, 1], [1, 2, 4]) == 0.0
    assert s.rank_biserial_paired([1], [1]) is None


@given(numbers, numbers)
def test_cliffs_delta_is_antisymmetric(a, b):
    """Swapping the sides must flip the sign and nothing else."""
    assert s.cliffs_delta(a, b) == -s.cliffs_delta(b, a)


def test_tost_by_hand():
    """Differences -1, 0, 1 (mean 0, error 1/sqrt 3): with margin 1 the p is t.sf(sqrt 3, 2)."""
    found = s.tost_paired([0, 1, 2], [1, 1, 1], 1.0)
    # Student's t with 2 degrees: sf(t) = 1/2 - t / (2 sqrt(2 + t^2)), here t = sqrt 3.
    assert found.p == pytest.approx(0.5 - math.sqrt(3) / (2 * math.sqrt(5)))
    assert s.tost_paired([1, 1], [1, 1], 0.25).p == 0.0
    assert s.tost_paired([2, 2], [1, 1], 0.25).p == 1.0
    assert s.tost_paired([1], [1], 0.25).p is None


def test_wilson_by_hand():
    """5 of 10: 0.5 with bounds (1 +- 1.96 sqrt(1/(10 + 3.8416))) / 2."""
    half = 1.959964 * math.sqrt(1 / (4 * (10 + 1.959964**2)))
    found = s.wilson(5, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-6)
    assert s.wilson(0, 0).value is None


@given(numbers)
def test_bootstrap_holds_its_mean_and_repeats(values):
    """The interval lies within the data, and the same seed gives the same interval."""
    found = s.bootstrap_mean(values, 42, resamples=200)
    assert found == s.bootstrap_mean(values, 42, resamples=200)
    assert min(values) <= found.low <= found.high <= max(values)


def test_bootstrap_by_group_is_wider_than_by_problem():
    """Copies of one group are one observation: resampling by group must see less evidence."""
    values, groups = [0.0] * 10 + [1.0] * 10, ["a"] * 10 + ["b"] * 10
    by_group, by_problem = s.bootstrap_mean(values, 42, groups), s.bootstrap_mean(values, 42)
    assert by_group.high - by_group.low > by_problem.high - by_problem.low


def test_ratio_with_nothing_below_is_undefined():
    """Division by zero is stated, never infinity."""
    assert s.bootstrap_ratio([1, 1], [0, 0], 42).value is None
    assert s.bootstrap_ratio([1, 1], [1, 1], 42).value == 1.0


def test_correlation_edges():
    """Order is read by rank; constants have no correlation."""
    assert s.correlation([1, 2, 3, 4], [1, 4, 9, 16]).value == pytest.approx(1.0)
    assert s.correlation([1, 1, 1, 1], [1, 2, 3, 4]).value is None
    assert s.correlation([1, 2], [1, 2]).value is None


def test_power_is_consistent():
    """The n that an effect asks for sees about that effect; more problems see smaller ones."""
    n = s.required_n(0.5)
    assert n is not None
    assert s.smallest_effect(n) == pytest.approx(0.5, abs=0.02)
    assert s.smallest_effect(100) < s.smallest_effect(30)
    assert s.required_n(0.0) is None
    assert s.smallest_effect(2) is None
