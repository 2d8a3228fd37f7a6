"""The analysis that P2, E1 and E2 share, on tables small enough to work out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_trials import choice_trials

from experiments import attempts
from experiments.contract import Metric, Trial

NUMBERS = st.lists(st.one_of(st.none(), st.integers(1, 6)), min_size=1, max_size=6)


def found(rows: list[Metric], metric: str, condition: str) -> Metric:
    return next(m for m in rows if m.metric == metric and m.condition == condition)


def test_the_median_over_seeds_is_one_value_a_problem() -> None:
    """Three seeds of a problem are one observation: 2 of (1, 2, 6), and 1.5 of two."""
    trials = [Trial("a", "none", s, n) for s, n in ((100, 1), (200, 6), (300, 2))]
    trials += [Trial("b", "none", 100, 1), Trial("b", "none", 200, 2), Trial("b", "none", 300, error="OSError")]
    assert attempts.median_attempts(trials, ["none"]) == {"none": {"a": 2.0, "b": 1.5}}


@given(NUMBERS, NUMBERS)
@settings(max_examples=80, deadline=None)
def test_pairs_are_whole_and_nothing_is_made_up(one: list[int | None], two: list[int | None]) -> None:
    """A problem counts under both conditions or under neither, with the number that was measured."""
    table = attempts.median_attempts(choice_trials({"one": one, "two": two}), ["one", "two"])
    whole = [f"q{i}" for i, (a, b) in enumerate(zip(one, two, strict=False)) if a is not None and b is not None]
    assert list(table["one"]) == list(table["two"]) == sorted(whole)
    assert all(table["one"][p] == one[int(p[1:])] for p in whole)


def test_a_condition_without_a_trial_leaves_no_pairs() -> None:
    """Nothing to compare is an empty table, not an error in the middle of an analysis."""
    trials = choice_trials({"none": [1, 2]})
    assert attempts.median_attempts(trials, ["none", "semantic"]) == {"none": {}, "semantic": {}}
    assert attempts.median_attempts([], []) == {}


def test_rates_by_hand() -> None:
    """Attempts 1, 2, 6 and a failure, one seed: accuracy 1/3, success 2/3, censored 1/3, one lost."""
    trials = choice_trials({"none": [1, 2, 6, None]}, seeds=(100,))
    rows = attempts.per_condition(trials, attempts.median_attempts(trials, ["none"]))
    values = {m.metric: m.value for m in rows}
    assert values == {
        "attempts_mean": 3.0, "accuracy": pytest.approx(1 / 3), "success_rate": pytest.approx(2 / 3),
        "censoring_rate": pytest.approx(1 / 3),
    }  # fmt: skip
    assert all(m.failed == 1 and m.n == 3 for m in rows)
    assert "not independent" in found(rows, "accuracy", "none").method


def test_the_sign_of_a_comparison() -> None:
    """first - second: negative means that the first needs fewer attempts, in the mean, in Cliff's delta and in the ranks."""
    table = attempts.median_attempts(choice_trials({"a": [1] * 16, "b": [3, 4] * 8}), ["a", "b"])
    rows = attempts.comparisons(table, [("a", "b")])
    assert found(rows, "mean_difference", "a - b").value == -2.5
    assert found(rows, "cliffs_delta", "a - b").value == -1.0
    assert found(rows, "rank_biserial", "a - b").value == -1.0
    p, holm = found(rows, "p", "a - b"), found(rows, "adjusted_p", "a - b")
    assert p.value is not None and p.value < 0.001 and holm.value == p.value and p.n == 16
    one_sided = found(attempts.comparisons(table, [("a", "b")], "less"), "p", "a - b")
    assert one_sided.value == pytest.approx(p.value / 2)


def test_the_adjustment_runs_over_all_comparisons() -> None:
    """Three looks at the data: Holm and Bonferroni say so, and Holm is never the stricter."""
    values = {"a": [1, 2] * 8, "b": [2, 2] * 8, "c": [2, 3] * 8, "d": [1, 3] * 8}
    table = attempts.median_attempts(choice_trials(values), list(values))
    pairs = [("b", "a"), ("c", "a"), ("d", "a")]
    rows = attempts.comparisons(table, pairs)
    for a, b in pairs:
        p, holm, bonferroni = (found(rows, m, f"{a} - {b}").value or 0.0 for m in ("p", "adjusted_p", "bonferroni_p"))
        assert bonferroni == pytest.approx(min(1.0, 3 * p))
        assert p <= holm <= bonferroni
    assert "Holm over 3" in found(rows, "adjusted_p", "b - a").method


def test_comparing_nothing_is_undefined() -> None:
    """An empty table gives rows without a value, so that a gate can say INCONCLUSIVE."""
    rows = attempts.comparisons({"a": {}, "b": {}}, [("a", "b")])
    assert all(m.value is None and m.n == 0 for m in rows)


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ([1.0] * 9 + [6.0], "ceiling"), ([1.0] * 8 + [6.0] * 2, ""), ([6.0] * 9 + [1.0], "floor"), ([], ""), ([3.0] * 5, ""),
    ],
)  # fmt: skip
def test_ceiling_and_floor_at_nine_of_ten(values: list[float], flag: str) -> None:
    """Where nearly all stand at one end a difference can hardly show; the page says so beside the verdict."""
    table = {"c": {f"q{i}": v for i, v in enumerate(values)}}
    assert attempts.ceiling_and_floor(table, 6) == {k: ["c"] if k == flag else [] for k in ("ceiling", "floor")}


def test_the_coefficient_of_variation_by_hand() -> None:
    """1 and 3: standard deviation sqrt(2) with n - 1, mean 2; one problem has none."""
    assert attempts.cv({"a": 1.0, "b": 3.0}) == pytest.approx(2**0.5 / 2)
    assert attempts.cv({"a": 1.0}) is None
    assert attempts.cv({}) is None


def test_the_smallest_visible_effect_shrinks_with_n() -> None:
    """Printed before a phase: 30 problems see half a standard deviation, five see nothing."""
    few, some, many = (attempts.smallest_visible(n) for n in (5, 30, 150))
    assert few.value is None and some.value is not None and many.value is not None
    assert 0.5 < some.value < 0.6 and 0.2 < many.value < 0.3
    assert some.n == 30
