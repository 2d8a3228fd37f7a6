"""Measures of a ranking, votes, BM25 and rank fusion, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.solving.choice import attempts_of_vote
from experiments.solving.lexical import BM25, reciprocal_ranks, tokens_of
from experiments.solving.ranking import Ranking, ranking_of

SECOND, THIRD, FOURTH = 1 / math.log2(3), 1 / 2, 1 / math.log2(5)  # discounts of nDCG


@pytest.mark.parametrize(
    ("hits", "relevant", "wanted"),
    [
        ("01100", 4, (2 / 4, 1 / 2, (SECOND + THIRD) / (1 + SECOND + THIRD + FOURTH))),
        ("11", 9, (2 / 9, 1.0, 1.0)),
        ("001", 1, (1.0, 1 / 3, THIRD)),
        ("000", 2, (0.0, 0.0, 0.0)),
        ("", 2, (0.0, 0.0, 0.0)),
        ("000", 0, (None, None, None)),
    ],
)
def test_recall_reciprocal_rank_and_ndcg(hits: str, relevant: int, wanted: tuple[float | None, ...]) -> None:
    """The best ranking of k that there can be has nDCG 1; where nothing is relevant, nothing is defined."""
    found = ranking_of([h == "1" for h in hits], relevant)
    assert found == Ranking(*(w if w is None else pytest.approx(w) for w in wanted))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("right", "wanted"), [("a", (1.5, 0.5)), ("b", (1.5, 0.5)), ("c", (3.0, 0.0)), ("d", (4.0, 0.0))]
)
def test_a_vote_guesses_by_frequency_and_breaks_ties_at_random(right: str, wanted: tuple[float, float]) -> None:
    """Two votes for a, two for b, one for c and none for d: a or b first, then c, then d."""
    assert attempts_of_vote(["b", "a", "a", "c", "b"], ["a", "b", "c", "d"], right) == wanted


def test_a_vote_of_nobody_is_chance() -> None:
    """Where nothing was retrieved, all options are equal: (4 + 1) / 2 attempts."""
    assert attempts_of_vote([], ["a", "b", "c", "d"], "c") == (2.5, 0.25)


def test_bm25_by_hand() -> None:
    """Lengths 2 and 4, so 2/3 and 4/3 of the mean; a is in both texts (idf ln 1.2), b in one (ln 2), z in none."""
    found = BM25(["a b", "A a c c"]).scores(["a", "b", "b b", "z"])
    short, long = 1 + 1.2 * (0.25 + 0.75 * 2 / 3), 2 + 1.2 * (0.25 + 0.75 * 4 / 3)
    a = [math.log(1.2) * 2.2 / short, math.log(1.2) * 2 * 2.2 / long]
    b = math.log(2) * 2.2 / short
    assert found == pytest.approx(np.array([a, [b, 0.0], [2 * b, 0.0], [0.0, 0.0]]))


def test_signs_of_code_and_letters_of_scripts_without_spaces_are_words() -> None:
    """`x*2` and `x+2` differ in one sign only; a Chinese sentence is not one word."""
    assert tokens_of("Def f(x_1): x*2\n排序sort") == [*"def f ( x_1 ) : x * 2".split(), "排", "序", "sort"]


def test_reciprocal_ranks_by_hand() -> None:
    """1 / (60 + rank), and equal scores share the mean of their ranks: no order is made up."""
    found = reciprocal_ranks(np.array([[3.0, 1.0, 2.0], [5.0, 5.0 + 1e-12, 1.0]]))
    assert found == pytest.approx(np.array([[1 / 61, 1 / 63, 1 / 62], [1 / 61.5, 1 / 61.5, 1 / 63]]))
