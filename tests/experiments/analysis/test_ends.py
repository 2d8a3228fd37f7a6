"""Floor and ceiling by test: at chance, below it, nearly certain, and too few problems to say."""

from __future__ import annotations

import pytest

from experiments import p2_retrieval_utility as p2
from experiments.analysis.ends import Scale, ends, ends_in_words, flags_of, means_in_words, scale_of
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Metrics

CHOICE = Scale(6, 3.5)
GUESSES = Scale(20, 20.0)  # a solver that knows nothing solves nothing


def table_of(values: list[float]) -> dict[str, dict[str, float]]:
    return {"c": {f"q{i}": v for i, v in enumerate(values)}}


@pytest.mark.parametrize(
    ("scale", "values", "flag"),
    [
        (CHOICE, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] * 5, "floor"),
        (CHOICE, [6.0] * 29 + [1.0], "floor"),
        (CHOICE, [6.0] * 30, "floor"),
        (CHOICE, [1.0, 6.0] * 8, "floor"),
        (CHOICE, [1.0, 2.0, 3.0] * 5, ""),
        (CHOICE, [3.0] * 5, ""),
        (CHOICE, [1.0] * 30, "ceiling"),
        (CHOICE, [1.0] * 29 + [2.0], "ceiling"),
        # Nine of ten at the first guess leave half an attempt to gain.
        (CHOICE, [1.0] * 9 + [6.0], ""),
        (CHOICE, [2.0], "floor"),
        (CHOICE, [], ""),
        (GUESSES, [20.0] * 30, "floor"),
        (GUESSES, [20.0] * 28 + [3.0] * 2, "floor"),
        (GUESSES, [20.0] * 20 + [3.0] * 10, ""),
        (GUESSES, [1.0, 2.0] * 15, "ceiling"),
    ],
)
def test_floor_and_ceiling_are_found_by_test(scale: Scale, values: list[float], flag: str) -> None:
    """A floor was seen only where nine of ten problems took the most attempts; conditions at chance never were."""
    table = table_of(values)
    flags = flags_of(table, scale)
    assert flags == {end: ["c"] if end == flag else [] for end in ("ceiling", "floor")}
    assert ends_in_words(flags).startswith(f" At the {flag} (" if flag else "")
    assert ends_in_words(flags).endswith(": c." if flag else "")


def test_the_numbers_behind_the_flags_by_hand() -> None:
    """Attempts 1, 2, 3: mean 2, error 1 / sqrt 3; t against chance -1.5 sqrt 3 with two degrees, against 1.25 +0.75 sqrt 3."""
    rows = {m.metric: m for m in ends(table_of([1.0, 2.0, 3.0]), CHOICE)}
    for metric, t in (("above_chance_p", -1.5 * 3**0.5), ("ceiling_p", 0.75 * 3**0.5)):
        assert rows[metric].value == pytest.approx(0.5 + t / (2 * (2 + t * t) ** 0.5))
    assert rows["ceiling_share"].value == pytest.approx(1 / 3) and rows["floor_share"].value == 0.0
    same = {m.metric: m for m in ends(table_of([3.0, 3.0]), CHOICE)}
    assert same["above_chance_p"].value is None and "no variation" in same["above_chance_p"].method


def test_copies_of_a_problem_are_not_above_chance() -> None:
    """Two families of eight problems each, one of them solved at once: sixteen problems say yes, two do not."""
    values = [1.0, 1.2] * 4 + [3.4, 3.6] * 4
    by = Resampling({f"q{i}": "x" if i < 8 else "y" for i in range(16)})
    assert flags_of(table_of(values), CHOICE)["floor"] == []
    assert flags_of(table_of(values), CHOICE, by)["floor"] == ["c"]


def test_the_scale_is_the_domains() -> None:
    """Six options: 3.5 in the mean, and 5 % of the range of five; formulas: all guesses, for chance solves nothing."""
    assert scale_of(p2.Config()) == CHOICE and CHOICE.room == pytest.approx(0.25)
    assert scale_of(p2.Config(domain="equations", n_problems=48, max_guesses=20)) == GUESSES


def test_means_are_named() -> None:
    """The reason says how far from an end both conditions are."""
    rows = (Metric("attempts_mean", 3.4, condition="a"), Metric("attempts_mean", 3.612, condition="b"))
    assert means_in_words(Metrics(rows), ("a", "b", "c")) == "3.40 and 3.61 attempts"
