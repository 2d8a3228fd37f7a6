"""The analysis that P2, E1 and E2 share, on tables small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_trials import choice_trials

from common.outcome import Outcome, outcome_of
from experiments import (
    e1_retrieval_strategies,
    e2_finetuned_retrieval,
    p1_embedding_validity,
    p2_retrieval_utility,
    statistics,
)
from experiments.analysis import attempts
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Trial
from experiments.power import Level
from experiments.protocol.forecast import foretold

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
    """A condition has the problems that were measured under it; a pair those of both, with the same problem beside itself."""
    table = attempts.median_attempts(choice_trials({"one": one, "two": two}), ["one", "two"])
    for condition, numbers in (("one", one), ("two", two)):
        assert table[condition] == {f"q{i}": n for i, n in enumerate(numbers) if n is not None}
    both = [(a, b) for a, b in zip(one, two, strict=False) if a is not None and b is not None]
    assert list(zip(*attempts.paired(table, "one", "two"), strict=True)) == both
    assert list(attempts.differences(table, "two", "one").values()) == [b - a for a, b in both]
    whole = attempts.whole(table, ["one", "two"])
    assert list(whole["one"]) == list(whole["two"]) and len(whole["one"]) == len(both)


def test_a_failed_condition_costs_only_its_own_comparisons() -> None:
    """A control that failed must not empty the comparison that decides; each row says how many problems it rests on."""
    numbers = {"a": [1, 2, 1, None], "b": [3, 3, 2, 2], "c": [2, None, 2, 2], "lost": [None] * 4}
    table = attempts.median_attempts(choice_trials(numbers), list(numbers))
    pairs = [("a", "b"), ("c", "b"), ("lost", "b")]
    rows = attempts.comparisons(table, pairs)
    # -2, -1, -1 on q0 to q2; -1, 0, 0 on q0, q2, q3.
    for pair, mean, n in (("a - b", -4 / 3, 3), ("c - b", -1 / 3, 3), ("lost - b", None, 0)):
        difference, p, right = (found(rows, m, pair) for m in ("mean_difference", "p", "mcnemar_p"))
        assert difference.value == (None if mean is None else pytest.approx(mean))
        assert difference.n == p.n == right.n == n
    assert found(rows, "p", "lost - b").value is found(rows, "adjusted_p", "lost - b").value is None
    assert "Holm over 2" in found(rows, "adjusted_p", "a - b").method
    assert attempts.fewest_pairs(table, pairs) == 3
    assert attempts.fewest_pairs(table, [("lost", "b")]) == attempts.fewest_pairs(table, []) == 0
    assert attempts.whole(table, ["a", "b", "c"]) == {
        "a": {"q0": 1.0, "q2": 1.0},
        "b": {"q0": 3.0, "q2": 2.0},
        "c": {"q0": 2.0, "q2": 2.0},
    }


def test_a_condition_without_a_trial_leaves_no_pairs() -> None:
    """Nothing to compare is an empty table, not an error in the middle of an analysis."""
    trials = choice_trials({"none": [1, 2]})
    table = attempts.median_attempts(trials, ["none", "semantic"])
    assert table == {"none": {"q0": 1.0, "q1": 2.0}, "semantic": {}}
    assert attempts.paired(table, "semantic", "none") == ([], [])
    assert attempts.whole(table, ["none", "semantic"]) == {"none": {}, "semantic": {}}
    assert attempts.median_attempts([], []) == attempts.whole({}, []) == {}


def test_rates_by_hand() -> None:
    """Attempts 1, 2, 6 and a failure, one seed: accuracy 1/3, success 2/3, censored 1/3, one lost."""
    trials = choice_trials({"none": [1, 2, 6, None]}, seeds=(100,))
    rows = attempts.per_condition(trials, attempts.median_attempts(trials, ["none"]))
    values = {m.metric: m.value for m in rows}
    assert values == {
        "attempts_mean": 3.0,
        "accuracy": pytest.approx(1 / 3),
        "success_rate": pytest.approx(2 / 3),
        "censoring_rate": pytest.approx(1 / 3),
    }
    assert all(m.failed == 1 and m.n == 3 for m in rows)
    expected = [replace(t, attempts=1.5, first_right=0.6) for t in trials[:2]]
    rows = attempts.per_condition(expected, attempts.median_attempts(expected, ["none"]))
    assert (found(rows, "attempts_mean", "none").value, found(rows, "accuracy", "none").value) == (1.5, 0.6)


def test_seeds_of_a_problem_are_one_observation() -> None:
    """Two problems, always and never right in three seeds: n is 2 and the interval Wilson's of 1 in 2, not of 3 in 6."""
    trials = choice_trials({"none": [1, 6]})
    accuracy = found(attempts.per_condition(trials, attempts.median_attempts(trials, ["none"])), "accuracy", "none")
    one_in_two = statistics.wilson(1, 2)
    assert accuracy.n == 2 and accuracy.value == 0.5
    assert (accuracy.low, accuracy.high) == (pytest.approx(one_in_two.low), pytest.approx(one_in_two.high))
    mixed = [Trial("a", "none", s, n, n < 4) for s, n in ((100, 1), (200, 1), (300, 5))]
    assert attempts.shares(mixed, lambda t: t.attempts == 1) == {"a": pytest.approx(2 / 3)}
    assert attempts.first_guesses(mixed) == {"a": pytest.approx(2 / 3)}


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


def test_first_guesses_are_compared_by_mcnemar_by_hand() -> None:
    """Right at the first guess under a alone 6 times, under b alone once: 2 (1 + 7) / 2^7. Holm's family stays as it was."""
    a = [1, 1, 1, 1, 1, 1, 3, 1, 2]
    b = [2, 2, 3, 4, 5, 6, 1, 1, 3]
    rows = attempts.comparisons(attempts.median_attempts(choice_trials({"a": a, "b": b}), ["a", "b"]), [("a", "b")])
    row = found(rows, "mcnemar_p", "a - b")
    assert row.value == pytest.approx(16 / 128) and row.n == 9
    assert "6 only under a, 1 only under b" in row.method and "outside Holm's family" in row.method
    assert found(rows, "adjusted_p", "a - b").value == found(rows, "p", "a - b").value
    assert "Holm over 1" in found(rows, "adjusted_p", "a - b").method


def test_a_problem_is_right_where_the_median_of_its_seeds_is_one() -> None:
    """Seeds of a problem are no problems of their own: 1, 1, 5 is right, 1, 2, 2 is not, nor 1 and 2."""
    seeds = {"a": ([1, 1, 5], [1, 2, 2], [1, 2]), "b": ([2, 2, 2], [2, 2, 2], [2, 2])}
    trials = [
        Trial(f"q{i}", condition, 100 * (s + 1), n)
        for condition, problems in seeds.items()
        for i, numbers in enumerate(problems)
        for s, n in enumerate(numbers)
    ]
    rows = attempts.comparisons(attempts.median_attempts(trials, ["a", "b"]), [("a", "b")])
    assert "1 only under a, 0 only under b" in found(rows, "mcnemar_p", "a - b").method


def test_comparisons_draw_whole_groups() -> None:
    """Differences -1, -1, -1 in one group and +2 in the other: the bounds are those groups' means, -1 and 2."""
    trials = choice_trials({"a": [1, 1, 1, 4], "b": [2, 2, 2, 2]})
    by = Resampling({"q0": "x", "q1": "x", "q2": "x", "q3": "y"})
    rows = attempts.comparisons(attempts.median_attempts(trials, ["a", "b"]), [("a", "b")], by=by)
    difference = found(rows, "mean_difference", "a - b")
    assert (difference.value, difference.low, difference.high) == (-0.25, -1.0, 2.0)
    assert "by group (2 groups)" in difference.method
    # Signs are flipped by group: ranks 2, 2, 2 and 4 make sums -6 and 4, of four ways two are as far from zero or further.
    # The two others give -10 and 10.
    p, alone = found(rows, "p", "a - b"), found(rows, "p_by_problem", "a - b")
    assert p.value == pytest.approx(1.0) and "signs flipped by group (2 groups)" in p.method
    assert alone.n == 4 and "decides nothing" in alone.method
    plain = attempts.comparisons(attempts.median_attempts(trials, ["a", "b"]), [("a", "b")])
    assert not [m for m in plain if m.metric == "p_by_problem"]
    assert found(plain, "p", "a - b").value == alone.value


def test_comparing_nothing_is_undefined() -> None:
    """An empty table gives rows without a value, so that a gate can say INCONCLUSIVE."""
    rows = attempts.comparisons({"a": {}, "b": {}}, [("a", "b")])
    assert all(m.value is None and m.n == 0 for m in rows)


@pytest.mark.parametrize(
    ("p", "mean", "ranks", "shown"),
    [
        (0.01, -1.0, -0.5, Outcome.FEWER),
        (0.05, -1.0, -0.5, Outcome.OPEN),
        (0.01, 1.0, 0.5, Outcome.MORE),
        (0.01, -1.0, 0.5, Outcome.MIXED),
        (0.01, 1.0, -0.5, Outcome.MIXED),
        (0.01, 0.0, -0.5, Outcome.MIXED),
        (1.0, 0.0, None, Outcome.OPEN),
        (None, -1.0, -0.5, Outcome.UNMEASURED),
        (0.01, None, -0.5, Outcome.UNMEASURED),
    ],
)
def test_a_direction_needs_the_mean_and_the_ranks(
    p: float | None, mean: float | None, ranks: float | None, shown: Outcome
) -> None:
    """One sign of two numbers, and a p below the level; any other combination shows none."""
    assert outcome_of(p, mean, ranks, 0.05) is shown


def test_the_coefficient_of_variation_by_hand() -> None:
    """1 and 3: standard deviation sqrt(2) with n - 1, mean 2; one problem has none."""
    assert attempts.cv([1.0, 3.0]) == pytest.approx(2**0.5 / 2)
    assert attempts.cv([1.0]) is None
    assert attempts.cv([]) is None


def test_the_smallest_visible_effect_shrinks_with_n() -> None:
    """Printed before a phase: 30 problems see half a standard deviation, five see nothing."""
    few, some, many = (attempts.smallest_visible(n, Level()) for n in (5, 30, 150))
    assert few.value is None and some.value is not None and many.value is not None
    assert 0.5 < some.value < 0.6 and 0.2 < many.value < 0.3
    assert some.n == 30
    stricter = attempts.smallest_visible(30, Level(0.01, 3)).value
    assert stricter is not None and stricter > 0.7, "of three comparisons at 1 % each is tested at 0.33 %"


def test_what_can_be_seen_is_told_without_a_trial() -> None:
    """docs/science.md, P2: printed before the phase runs, so it may rest on the config alone; P1 has no such test."""
    found = foretold("p2", p2_retrieval_utility.Config(controls=()))
    assert found.startswith("30 problems show an effect of 0.66 standard deviations") and "80 % power" in found
    with_lexical = foretold("p2", p2_retrieval_utility.Config(controls=("lexical",)))
    assert "0.69 standard deviations" in with_lexical and "over 6 comparisons" in with_lexical
    assert "two-sided 0.05 over 4 comparisons" in found
    assert "cannot show any effect" in foretold("p2", p2_retrieval_utility.Config(n_test=7))
    assert foretold("p2", p2_retrieval_utility.Config(n_test=8)).startswith("8 problems show")
    of_e1 = foretold("e1", e1_retrieval_strategies.Config())
    assert "two-sided 0.01 over 3" in of_e1
    assert (
        "within 0.25 attempts is shown at 80 % power" in of_e1
        and "a standard deviation of 1.04 attempts or less" in of_e1
    )
    assert "with 1.71, that of a solver that guesses by lot, the power is 0.11" in of_e1 and "1.18 times that" in of_e1
    few = foretold("e1", e1_retrieval_strategies.Config(n_test=4))
    assert "cannot show any effect" in few and "by no attempts of so few problems" in few
    assert "one-sided 0.05 over 2" in foretold("e2", e2_finetuned_retrieval.Config())
    assert foretold("p1", p1_embedding_validity.Config()) == ""
    looked = foretold("p2", p2_retrieval_utility.Config(n_test=180, look_every=12))
    assert looked == "180 problems at most, with a look after every 12, each of which may decide"


def test_errors_are_told_the_most_frequent_first() -> None:
    """A reason has room for one: that of most trials."""
    errors = ["OSError: b", "OSError: a.", "OSError: a.", None]
    trials = [Trial("q", "c", error=e) for e in errors]
    assert attempts.errors_of(trials) == ["OSError: a.", "OSError: b"]
    assert attempts.failures_in_words(attempts.errors_of(trials)) == " Failed: OSError: a."
    assert attempts.failures_in_words([]) == ""
