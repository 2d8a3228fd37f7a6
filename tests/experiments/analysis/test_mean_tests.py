"""Tests of a mean against a bound, by hand, with groups, and every edge case."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import mean_tests

pairs = st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(1, 6).map(float)), min_size=2, max_size=30)
quick = settings(max_examples=30, deadline=None)


def test_tost_by_hand():
    """Differences -1, 0, 1 (mean 0, error 1/sqrt 3): with margin 1 the p is t.sf(sqrt 3, 2)."""
    found = mean_tests.tost_paired([0, 1, 2], [1, 1, 1], 1.0)
    # Student's t with 2 degrees: sf(t) = 1/2 - t / (2 sqrt(2 + t^2)), here t = sqrt 3.
    assert found.p == pytest.approx(0.5 - math.sqrt(3) / (2 * math.sqrt(5)))
    # Its 95 % quantile is 0.9 sqrt(2 / (0.05 * 0.95)) / 2 = 2.919986, so the 90 % interval is +-2.919986 / sqrt 3.
    assert (found.mean_difference, found.low, found.high) == pytest.approx((0, -1.685855, 1.685855), abs=1e-6)
    assert found.shown is False
    assert mean_tests.tost_paired([0, 1, 2], [1, 1, 1], 10.0).shown is True


def test_tost_edges():
    """Pairs that do not vary have no p: it was 0 for two of them, which no sample of two can show."""
    why = "no variation: all differences are equal"
    assert mean_tests.tost_paired([1, 1], [1, 1], 0.25) == mean_tests.MeanTest(None, 0.0, None, None, None, 2, why)
    assert mean_tests.tost_paired([2, 2], [1, 1], 0.25) == mean_tests.MeanTest(None, 1.0, None, None, None, 2, why)
    few = mean_tests.MeanTest(None, 0.0, None, None, None, 1, "needs two pairs")
    assert mean_tests.tost_paired([1], [1], 0.25) == few
    assert mean_tests.tost_paired([], [], 0.25).mean_difference is None
    assert mean_tests.tost_paired([1, 2], [2, 2], 0.25, ["x", "x"]).note == "needs two groups"


def test_copies_of_a_problem_show_no_equivalence():
    """Four families, ten copies of a problem each: 40 differences look equivalent, four do not."""
    base, tuned = [3.0] * 40, [2.9, 3.2, 2.8, 3.1] * 10
    groups = [f"g{i % 4}" for i in range(40)]
    assert mean_tests.tost_paired(tuned, base, 0.2).shown is True
    assert mean_tests.tost_paired(tuned, base, 0.2, groups).shown is False


@quick
@given(pairs)
def test_tost_agrees_with_its_interval(rows):
    """Equivalent at 5 % means exactly that the 90 % interval lies inside the margin."""
    a, b = zip(*rows, strict=True)
    found = mean_tests.tost_paired(a, b, 1.3)
    if found.shown is not None:
        assert found.shown == (found.low > -1.3 and found.high < 1.3)


def test_noninferiority_by_hand() -> None:
    """P3 shows with it that little was lost; the half of TOST that asks about one side, and a bound at 95 %."""
    # As in TOST above: one side, margin 1, t = sqrt 3 with 2 degrees of freedom.
    found = mean_tests.noninferiority_paired([0, 1, 2], [1, 1, 1], 1.0)
    assert found.p == pytest.approx(0.5 - math.sqrt(3) / (2 * math.sqrt(5)))
    assert (found.mean_difference, found.high) == pytest.approx((0, 1.685855), abs=1e-6)
    # Differences 0.1 and 0.3: mean 0.2, error 0.1, so t = -3 at margin 0.5; with one degree it is Cauchy's distribution.
    found = mean_tests.noninferiority_paired([0.1, 0.3], [0.0, 0.0], 0.5)
    assert found.p == pytest.approx(0.5 - math.atan(3) / math.pi)
    assert found.high == pytest.approx(0.2 + 0.1 * math.tan(0.45 * math.pi))
    assert found.shown is False


def test_noninferiority_looks_at_one_side() -> None:
    """A gain however large is no loss; TOST would call it a difference."""
    assert mean_tests.noninferiority_paired([0, 1, 0], [9, 9, 9], 0.25).shown is True
    assert mean_tests.noninferiority_paired([9, 9, 9], [0, 1, 0], 0.25).shown is False
    assert mean_tests.tost_paired([0, 1, 0], [9, 9, 9], 0.25).shown is False


def test_noninferiority_edges() -> None:
    """As for TOST; the bound may also be on the other side of zero."""
    why = "no variation: all differences are equal"
    same = mean_tests.noninferiority_paired([1, 1], [1, 1], 0.25)
    assert same == mean_tests.MeanTest(None, 0.0, None, None, None, 2, why)
    assert mean_tests.noninferiority_paired([1], [1], 0.25).note == "needs two pairs"
    assert mean_tests.noninferiority_paired([], [], 0.25).mean_difference is None
    # Mean -2, error 1 / sqrt 3, so t = -sqrt 3 at -1, two degrees: as in TOST above.
    assert mean_tests.under([-1, -2, -3], -1.0).p == pytest.approx(0.5 - math.sqrt(3) / (2 * math.sqrt(5)))


@quick
@given(pairs)
def test_noninferiority_agrees_with_its_bound(rows: list[tuple[float, float]]) -> None:
    """Non-inferior at 5 % means exactly that the upper bound lies under the margin."""
    a, b = zip(*rows, strict=True)
    found = mean_tests.noninferiority_paired(a, b, 1.3)
    assert found.shown is found.high is None or (found.high is not None and found.shown == (found.high < 1.3))
