"""The test that may be looked at at any time: by hand, exactly over all outcomes, and by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from benchmarks.simulated_tests import type_one_at_any_look
from experiments.sequential import BETS, capital_below, zero_mean

FLIPS = np.array(list(product((-1.0, 1.0), repeat=10)))  # all outcomes of ten fair bets


def test_one_observation_by_hand() -> None:
    """Of the range above the bound 0, 1 is allowed in the mean: -1 is twice that, so a share s of the capital wins s; +1 loses it."""
    shares = (np.arange(BETS) + 0.5) / BETS
    assert capital_below([-1.0], 0.0, -1.0, 1.0) == pytest.approx([1.5])
    assert capital_below([-1.0, 1.0], 0.0, -1.0, 1.0)[-1] == pytest.approx(np.mean((1 + shares) * (1 - shares)))
    assert capital_below([1.0], -0.5, -1.0, 1.0)[-1] == pytest.approx(0.5)
    assert capital_below([0.2] * 9, 0.2, -1.0, 1.0) == pytest.approx([1.0] * 9)


def test_the_capital_stays_at_one_in_the_mean_and_rarely_grows() -> None:
    """Over all 1,024 outcomes of ten fair bets, exactly; a mean above the bound loses."""
    paths = np.array([capital_below(flips, 0.0, -1.0, 1.0) for flips in FLIPS])
    assert paths.mean(axis=0) == pytest.approx(np.ones(10))
    for alpha in (0.5, 0.2, 0.05):
        assert (paths.max(axis=1) >= 1 / alpha).mean() <= alpha
    assert np.mean([capital_below(flips, -0.2, -1.0, 1.0)[-1] for flips in FLIPS]) < 0.5


def test_classes_with_opposite_effects_in_turn_are_no_effect() -> None:
    """One class gains what the other loses: after each whole turn the mean capital is 1 at most."""
    for gap in (0.3, 0.9):
        chances = np.where(np.arange(10) % 2, (1 - gap) / 2, (1 + gap) / 2)  # of -1
        weights = np.where(FLIPS < 0, chances, 1 - chances).prod(axis=1)
        assert weights.sum() == pytest.approx(1)
        paths = np.array([capital_below(flips, 0.0, -1.0, 1.0) for flips in FLIPS])
        assert (weights @ paths[:, 1::2] <= 1 + 1e-12).all()


def test_the_interval_holds_what_the_test_does_not_reject_and_order_means_nothing() -> None:
    """p is under 0.05 exactly where zero is outside, the two sides are mirror images, a group is one observation."""
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.4, 1.5):
        x = np.clip(rng.normal(shift, 1, 40), -5, 5)
        found, mirrored, turned = zero_mean(x, 5.0), zero_mean(-x, 5.0), zero_mean(x[::-1], 5.0)
        assert found.p is not None and found.low is not None and found.high is not None and mirrored.low is not None
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        assert found.low <= x.mean() <= found.high and mirrored.low == pytest.approx(-found.high)
        assert turned.p == pytest.approx(found.p)
        assert zero_mean(np.repeat(x, 2), 5.0, [str(i // 2) for i in range(80)]).p == pytest.approx(found.p)
    assert zero_mean([], 5.0).p is None
    with pytest.raises(ValueError, match="not within"):
        capital_below([7.0], 0.0, -5.0, 5.0)


@pytest.mark.parametrize("icc", [0.0, 0.5])
def test_who_looks_all_the_time_is_wrong_no_more_often_than_the_level(icc: float) -> None:
    """A test for a fixed number finds what is not there in one study of five; the benchmark does a thousand."""
    betting, wilcoxon = type_one_at_any_look(icc, 100, seed=5)
    assert betting <= 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5
    assert wilcoxon > 0.12
