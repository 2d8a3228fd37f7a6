"""Retrieval: ties, distances, zero vectors and feature scales by hand; the memory bank's four ways of asking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fake_engines import FakeEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from experiments.data import universe
from experiments.domains import Problem, get_domain
from experiments.registry import configure
from experiments.seeds import generator
from experiments.solving.memory_bank import Bank
from experiments.solving.retrieval import (
    Memory,
    Relevance,
    RetrievalConfig,
    Scale,
    features_of,
    relevance,
    similarities,
    top_k,
    unit_rows,
)
from experiments.solving.solving import Memo

DOMAIN = get_domain("big_o")
PROBLEMS = universe(configure("p2", "smoke", {"n_problems": 24})).problems
FLOATS = st.floats(-5, 5, allow_nan=False, width=32)


class Narrow(FakeEmbedder):
    """Gives nearly the same vector to every text."""

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[float]]:
        vectors, seconds = super().embed(texts)
        return unit_rows(vectors + 1.0), seconds


def bank(n: int = 10, **retrieval: object) -> Bank:
    memos = [Memo(p, p.label, order) for order, p in enumerate(PROBLEMS[:n])]
    return Bank(DOMAIN, memos[::-1], FakeEmbedder(), RetrievalConfig(**{"k": 3, **retrieval}))  # type: ignore[arg-type]


def orders(found: tuple[list[Memo], dict[str, object]]) -> list[int]:
    return [m.order for m in found[0]]


def test_ties_keep_the_order_of_memory() -> None:
    """Equal scores, and scores equal to nine decimals, may not be ordered by the last bits of another processor."""
    scores = np.array([[0.5, 0.9, 0.9 + 1e-12, 0.5, 0.9 - 1e-12, 1.0]])
    assert top_k(scores, 6).tolist() == [[5, 1, 2, 4, 0, 3]]
    assert top_k(scores, 2).tolist() == [[5, 1]]
    assert top_k(scores, 99).shape == (1, 6)


@given(st.lists(st.lists(FLOATS, min_size=5, max_size=5), min_size=1, max_size=4), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_top_k_are_the_k_best(rows: list[list[float]], k: int) -> None:
    """No index twice, and nothing left out is better than what was taken."""
    scores = np.array(rows)
    for row, chosen in zip(scores, top_k(scores, k), strict=True):
        assert len(set(chosen.tolist())) == k
        left = np.delete(row, chosen)
        assert not len(left) or left.max() <= row[chosen].min() + 1e-8


def test_cosine_and_euclidean_by_hand() -> None:
    """Euclidean is taken between unit vectors: sqrt(2) across a right angle, 2 to the opposite, 0 to a multiple."""
    queries, memory = np.array([[2.0, 0.0]]), np.array([[5.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert similarities(queries, memory, "cosine").tolist() == [[1.0, 0.0, -1.0]]
    wanted = [[1.0, 1 / (1 + 2**0.5), 1 / 3]]
    assert similarities(queries, memory, "euclidean") == pytest.approx(np.array(wanted))


def test_a_zero_vector_is_like_nothing_and_makes_no_nan() -> None:
    """A problem without a feature has no direction; a NaN would sort anywhere."""
    zero, memory = np.zeros((1, 2)), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert unit_rows(zero).tolist() == [[0.0, 0.0]]
    assert similarities(zero, memory, "cosine").tolist() == [[0.0, 0.0]]
    assert np.isfinite(similarities(zero, memory, "euclidean")).all()


@given(
    st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=2, max_size=6), st.sampled_from(["cosine", "euclidean"])
)
@settings(max_examples=80, deadline=None)
def test_a_vector_is_most_like_itself(rows: list[list[float]], distance: str) -> None:
    """Both distances agree on the order, whatever the lengths of the vectors; nothing is liker than the same."""
    vectors = np.array(rows)
    vectors = vectors[np.linalg.norm(vectors, axis=1) > 1e-3]
    if len(vectors):
        found = similarities(vectors, vectors, distance)
        assert np.all(found <= np.diag(found)[:, None] + 1e-6)
        assert np.diag(found) == pytest.approx(np.ones(len(vectors)), abs=1e-3)
        assert similarities(10 * vectors, vectors, distance) == pytest.approx(found, abs=1e-6)


def test_features_are_scaled_by_the_spread_in_memory() -> None:
    """A feature in thousands may not outweigh one in units, and one that never varies counts nothing."""
    features = np.array([[0.0, 0.0, 7.0], [2.0, 2000.0, 7.0]])
    scale = Scale.of(features)
    assert scale.apply(features).tolist() == [[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]
    assert scale.apply(np.array([[1.0, 3000.0, 8.0]])).tolist() == [[0.0, 2.0, 1.0]]


def test_text_and_features_are_weighted() -> None:
    """0.7 : 0.3 by hand; at weight 1, or without features, the text alone counts."""
    memory = Memory(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0], [2.0]]))
    query, features = np.array([[1.0, 0.0]]), np.array([[2.0]])
    assert memory.scores(query, features, 0.7, "cosine") == pytest.approx(np.array([[0.7 - 0.3, 0.3]]))
    assert memory.scores(query, features, 0.0, "cosine").tolist() == [[-1.0, 1.0]]
    for alone in (memory.scores(query, features, 1.0, "cosine"), memory.scores(query, None, 0.7, "cosine")):
        assert alone.tolist() == [[1.0, 0.0]]


def test_centred_bm25_and_fused_by_hand() -> None:
    """The query is vector (2, 1) and the words "b b"; the memory's mean is (1, 0), "b" is in its second text only."""
    memory = Memory(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[0.0], [2.0]]), ["a a", "a b"])
    query, features, words = np.array([[2.0, 1.0]]), np.array([[2.0]]), ["b b"]
    root = 1 / 2**0.5
    assert memory.scores(query, None, 1.0, "centred") == pytest.approx(np.array([[root, -root]]))
    # Over the best of the query; features have a cosine of -1 and 1.
    assert memory.scores(query, features, 0.7, "bm25", words) == pytest.approx(np.array([[-0.3, 0.7 + 0.3]]))
    # By vectors the first text is before the second, by words and by features it is behind.
    even = (1 / 61 + 1 / 62) / 2
    wanted = [[0.7 * even + 0.3 / 62, 0.7 * even + 0.3 / 61]]
    assert memory.scores(query, features, 0.7, "fused", words) == pytest.approx(np.array(wanted))
    # Where no word is shared, nothing is like the query.
    assert memory.scores(query, None, 1.0, "bm25", ["z"]).tolist() == [[0.0, 0.0]]


def test_relevance_is_the_protocols_sum() -> None:
    """0.4 type match + 0.4 solution similarity + 0.2 diversity, so between 0 and 1."""
    assert Relevance(1.0, 0.5, 0.25).total == pytest.approx(0.4 + 0.2 + 0.05)
    assert Relevance(1.0, 1.0, 1.0).total == pytest.approx(1.0)


def test_recent_are_k_memos_of_the_stream_that_a_seed_draws() -> None:
    """Another seed draws another stream, so all memos are shown in the end; a memory smaller than k is shown whole."""
    shown = [orders(bank().recent(seed, PROBLEMS[12])) for seed in range(60)]
    assert all(len(set(s)) == 3 for s in shown) and {i for s in shown for i in s} == set(range(10))
    assert sorted(orders(bank(2).recent(100, PROBLEMS[12]))) == [0, 1]


def test_random_is_drawn_without_repeats_and_by_its_generator() -> None:
    """The control must be random in the memos and exact in the repeat."""
    draws = [orders(bank().random(generator(seed, "test"), PROBLEMS[12])) for seed in range(60)]
    assert all(len(set(d)) == 3 for d in draws)
    assert {i for d in draws for i in d} == set(range(10))
    assert orders(bank().random(generator(5, "test"), PROBLEMS[12])) == draws[5]


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "centred", "bm25", "fused"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_semantic_finds_the_problem_itself_last(distance: str, weight: float) -> None:
    """What is most alike stands last, nearest to the question; a memo of the very problem would be it."""
    found, facts = bank(text_weight=weight, distance=distance).semantic(PROBLEMS[4])
    assert len(found) == 3
    own = features_of(DOMAIN, [PROBLEMS[4]])
    nearest = found[-1].problem
    assert nearest == PROBLEMS[4] or (weight == 0.0 and np.array_equal(features_of(DOMAIN, [nearest]), own))
    assert facts["type_match"] == pytest.approx(sum(m.problem.label == PROBLEMS[4].label for m in found) / 3)
    assert 0.0 <= float(facts["relevance"]) <= 1.0  # type: ignore[arg-type]


def test_a_query_is_matched_by_text_alone() -> None:
    """What the model wrote has no features; it must not be given those of the problem it was written for."""
    wanted = DOMAIN.describe(PROBLEMS[6])
    (*_, nearest), _ = bank(text_weight=0.0).by_query(wanted, PROBLEMS[12])
    assert DOMAIN.describe(nearest.problem) == wanted
    empty, _ = bank().by_query("", PROBLEMS[12])
    assert len(empty) == 3


def test_relevance_of_what_was_found_by_hand() -> None:
    """All of the query's class and all the same text: match 1, similarity 1, diversity 0, so 0.8."""
    twin = Problem("twin", PROBLEMS[0].text, PROBLEMS[0].label, "g")
    memos = [Memo(twin, twin.label, i) for i in range(3)]
    _, facts = Bank(DOMAIN, memos, FakeEmbedder(), RetrievalConfig(k=3)).semantic(PROBLEMS[0])
    assert (facts["relevance"], facts["type_match"]) == (pytest.approx(0.8), 1.0)


def test_diversity_is_measured_in_one_space_whatever_the_embedder() -> None:
    """Embedders that found the same memos brought back the same diversity; the embedder's own space said 0.48 and 0.90."""
    memos = [Memo(p, p.label, order) for order, p in enumerate(PROBLEMS[:10])]
    banks = [Bank(DOMAIN, memos, embedder, RetrievalConfig(k=4)) for embedder in (FakeEmbedder(), Narrow())]
    draws = [[b.random(generator(seed, "test"), PROBLEMS[12]) for seed in range(5)] for b in banks]
    assert (banks[1].memory.vectors @ banks[1].memory.vectors.T).min() > 0.9
    for first, second in zip(*draws, strict=True):
        assert orders(first) == orders(second) and first.facts["relevance"] == second.facts["relevance"]


def test_diversity_by_hand() -> None:
    """One less the mean cosine of every two: equal texts have none, texts without a common word all, and one alone none."""
    memory = Memory(np.zeros((4, 1)), np.zeros((4, 1)), ["a b", "a b", "c d", "e"])

    def diversity(*chosen: int) -> float:
        own = memory.likeness[np.ix_(chosen, chosen)]
        return relevance(DOMAIN, PROBLEMS[0], [PROBLEMS[i] for i in chosen], own).diversity

    assert [diversity(0, 1), diversity(0, 2), diversity(0)] == pytest.approx([0.0, 1.0, 0.0])
    assert diversity(0, 1, 2) == pytest.approx(2 / 3)  # cosines 1, 0 and 0


@pytest.mark.parametrize("wrong", [{"k": 0}, {"text_weight": 1.5}, {"distance": "manhattan"}, {"kk": 5}])
def test_a_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    """It comes from another phase's verdict: what is not understood must not be ignored."""
    with pytest.raises(ValidationError):
        RetrievalConfig(**wrong)  # type: ignore[arg-type]
