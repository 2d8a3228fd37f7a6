"""Candidates for likeness: what their names mean, and that each is fitted on the memory alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from common.errors import LabError
from experiments.domains import get_domain
from experiments.solving.candidates import TEXT, Candidate, candidate, likeness, models_of
from experiments.solving.lexical import Tfidf
from experiments.solving.retrieval import Memory, RetrievalConfig, features_of

NAMES = ["all-mpnet-base-v2", "centred", "structure", "tfidf", "bm25", "hybrid", "hybrid:tfidf+structure"]
PROBLEMS = get_domain("big_o").problems(24, 3)
STORED, ASKED = PROBLEMS[:18], PROBLEMS[18:]


def made() -> tuple[Memory, np.ndarray, np.ndarray]:
    """A memory of 18 problems with random vectors, and vectors and features of six queries."""
    vectors = np.random.default_rng(1).normal(1.0, size=(24, 5))
    features = features_of(get_domain("big_o"), PROBLEMS)
    return Memory(vectors[:18], features[:18], [p.text for p in STORED]), vectors[18:], features[18:]


def test_a_name_says_how_later_phases_search() -> None:
    """What P1 hands on is RetrievalConfig without k, so every candidate must be one."""
    for name in NAMES:
        assert RetrievalConfig(**candidate(name).model_dump())
    assert candidate("lm:hf/a/b@3") == Candidate(embedder="lm:hf/a/b@3")
    assert candidate("hybrid:lm:smollm2-135m@20+structure") == Candidate(embedder="lm:smollm2-135m@20", text_weight=0.5)
    assert candidate("hybrid:bm25+structure") == Candidate(distance="bm25", text_weight=0.5)
    assert models_of(NAMES) == [TEXT, "all-mpnet-base-v2"]
    assert models_of(["structure", "tfidf", "bm25", "hybrid:tfidf+structure"]) == [], "nothing is embedded for these"


@pytest.mark.parametrize("name", ["hybrid:tfidf+bm25", "hybrid:structure+structure", "hybrid:tfidf", "hybrid:+"])
def test_two_texts_are_no_mixture(name: str) -> None:
    """P2 has one distance of texts; a mixture of two would be judged and could not be used."""
    with pytest.raises(LabError, match="no mixture of text and features"):
        candidate(name)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_and_scores_are_the_same_likeness(name: str) -> None:
    """The probe and the map use vectors, kNN and AUC scores: the cosines of the vectors must be the scores."""
    memory, vectors, features = made()
    found = likeness(candidate(name), memory, vectors, features, [p.text for p in ASKED])
    if name == "bm25":
        assert found.queries is None and found.memory is None
        return
    product = found.queries @ found.memory.T
    dense = product.toarray() if sparse.issparse(product) else product
    assert dense == pytest.approx(found.scores, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_changes_no_other_querys_likeness(name: str) -> None:
    """Whatever is fitted (mean, scale, words and their weights) is fitted on the memory: no test problem may leak in."""
    memory, vectors, features = made()
    texts = [p.text for p in ASKED]
    together = likeness(candidate(name), memory, vectors, features, texts)
    memory, *_ = made()
    alone = likeness(candidate(name), memory, vectors[:1], features[:1], texts[:1])
    assert alone.scores[0].tolist() == pytest.approx(together.scores[0].tolist(), abs=1e-12)


def test_tfidf_by_hand_and_of_the_memory_alone() -> None:
    """Two memos, `a b` and `a c`: idf of a is 1, of b and c ln(3/2) + 1; words that memory lacks count for nothing."""
    made = Tfidf(["a b", "a c"])
    idf = np.log(3 / 2) + 1
    norm = np.hypot(1, idf)
    assert made.rows.toarray() == pytest.approx(np.array([[1, idf, 0], [1, 0, idf]]) / norm)
    assert made.scores(["a b", "b", "z a z", "z"]) == pytest.approx(
        np.array([[1.0, 1 / norm**2], [idf / norm, 0.0], [1 / norm, 1 / norm], [0.0, 0.0]])
    )
    assert made.vectors(["z z z b"]).toarray() == pytest.approx(np.array([[0.0, 1.0, 0.0]]))


def test_tfidf_is_a_distance_of_every_memory() -> None:
    """P2, E0 and E1 search by it as by any other, beside features too."""
    memory, vectors, features = made()
    texts = [p.text for p in ASKED]
    words = Tfidf([p.text for p in STORED]).scores(texts)
    assert memory.scores(vectors, None, 1.0, "tfidf", texts) == pytest.approx(words)
    by_features = memory.scores(vectors, features, 0.0, "cosine", texts)
    assert memory.scores(vectors, features, 0.5, "tfidf", texts) == pytest.approx((words + by_features) / 2)
