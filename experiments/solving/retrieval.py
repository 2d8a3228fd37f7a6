"""Retrieval from a memory of problems: text and feature similarity, weighted, ranked with a stated rule for ties."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from experiments.domains import Domain, Problem
from experiments.solving.lexical import BM25, Tfidf, reciprocal_ranks

Vectors = NDArray[np.float64]
# How likeness is measured: of vectors, of vectors less the memory's mean, by words, or by the ranks of vectors and words.
Distance = Literal["cosine", "euclidean", "centred", "bm25", "tfidf", "fused"]
BY_WORDS_ALONE = ("bm25", "tfidf")  # nothing is embedded for these


class RetrievalConfig(BaseModel):
    """The parameters of retrieval, which E0 chooses. The defaults are the protocol's (docs/science.md, E0)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedder: str = "all-MiniLM-L6-v2"
    text_weight: float = Field(0.7, ge=0, le=1, description="weight of text similarity; the rest is features")
    k: int = Field(5, gt=0, description="memos brought back")
    distance: Distance = "cosine"


@dataclass(frozen=True)
class Scale:
    """Mean and spread of each feature in memory, so that no feature outweighs the others by its unit."""

    mean: Vectors
    spread: Vectors

    @classmethod
    def of(cls, features: Vectors) -> Scale:
        spread = features.std(axis=0)
        return cls(features.mean(axis=0), np.where(spread > 0, spread, 1.0))

    def apply(self, features: Vectors) -> Vectors:
        return (features - self.mean) / self.spread


def features_of(domain: Domain, problems: Sequence[Problem]) -> Vectors:
    """Raw features; shape (len(problems), number of features)."""
    return np.stack([domain.features(p) for p in problems])


def unit_rows(vectors: Vectors) -> Vectors:
    """Rows scaled to length one; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)


def similarities(queries: Vectors, memory: Vectors, distance: str) -> Vectors:
    """Shape (queries, memory): the cosine, or 1 / (1 + Euclidean distance) of unit-length rows."""
    cosine = unit_rows(queries) @ unit_rows(memory).T
    if distance == "cosine":
        return cosine
    return 1.0 / (1.0 + np.sqrt(np.clip(2.0 - 2.0 * cosine, 0.0, None)))


def top_k(scores: Vectors, k: int) -> NDArray[np.intp]:
    """Return indices of the k best per row, best first. Scores are rounded to 9 decimals and equal ones keep memory's order,
    so that the last bits of floating point cannot change what is retrieved."""
    return np.argsort(-np.round(scores, 9), axis=1, kind="stable")[:, :k]


class Memory:
    """Embedded problems that can be searched."""

    def __init__(self, vectors: Vectors, features: Vectors, texts: Sequence[str] = ()) -> None:
        self.vectors = vectors
        self.scale = Scale.of(features)
        self.features = self.scale.apply(features)
        self.texts = texts

    @cached_property
    def likeness(self) -> Vectors:
        """Cosines of the memos' words (TF-IDF) with each other, shape (memos, memos), 0 to 1.

        No embedder is in them, so what any of them brings back has its diversity measured in the same space.
        """
        rows = self.tfidf.rows
        return np.asarray((rows @ rows.T).toarray())

    @cached_property
    def words(self) -> BM25:
        """The texts, to be searched by their words."""
        return BM25(self.texts)

    @cached_property
    def tfidf(self) -> Tfidf:
        """The texts as vectors of their words."""
        return Tfidf(self.texts)

    def index(self, distances: Collection[Distance]) -> None:
        """Make the indexes of words that searches by these distances need, so that no search is timed with it."""
        if {"bm25", "fused"} & set(distances):
            _ = self.words
        if "tfidf" in distances:
            _ = self.tfidf

    def scores(
        self,
        vectors: Vectors,
        features: Vectors | None,
        text_weight: float,
        distance: Distance,
        texts: Sequence[str] = (),
    ) -> Vectors:
        """Return the weighted similarity of queries to memory, shape (queries, memory).

        Args:
            features: None where a query has none; then text alone counts.
            texts: of the queries, which bm25, tfidf and fused search by.
        """
        text = self._by_text(vectors, texts, distance)
        if features is None or text_weight == 1.0:
            return text
        of_features = "euclidean" if distance == "euclidean" else "cosine"
        by_features = similarities(self.scale.apply(features), self.features, of_features)
        if distance == "fused":
            by_features = reciprocal_ranks(by_features)
        return text_weight * text + (1.0 - text_weight) * by_features

    def _by_text(self, vectors: Vectors, texts: Sequence[str], distance: Distance) -> Vectors:
        """Similarity by text: cosine between -1 and 1; Euclidean, TF-IDF and BM25 (over the best of each query) 0 to 1.

        Centred is the cosine after the memory's mean vector is subtracted, which all texts share (Mu and Viswanath 2018,
        arXiv:1702.01417). Fused is the mean of the reciprocal ranks by cosine and by BM25 (Cormack et al. 2009).
        """
        if distance == "bm25":
            found = self.words.scores(texts)
            most = found.max(axis=1, keepdims=True)
            return np.asarray(found / np.where(most > 0, most, 1.0))
        if distance == "tfidf":
            return self.tfidf.scores(texts)
        if distance == "centred":
            mean = self.vectors.mean(axis=0)
            return similarities(vectors - mean, self.vectors - mean, "cosine")
        if distance == "fused":
            cosine = reciprocal_ranks(similarities(vectors, self.vectors, "cosine"))
            return (cosine + reciprocal_ranks(self.words.scores(texts))) / 2
        return similarities(vectors, self.vectors, distance)


@dataclass(frozen=True)
class Relevance:
    """The usefulness of a set of retrieved problems for one query, each part 0 to 1 (docs/science.md, E0)."""

    type_match: float  # share with the query's own answer
    solution_similarity: float  # mean nearness of the answers
    diversity: float  # 1 - mean cosine between the words of what was retrieved; 0 for one alone

    @property
    def total(self) -> float:
        return 0.4 * self.type_match + 0.4 * self.solution_similarity + 0.2 * self.diversity


def relevance(domain: Domain, query: Problem, found: Sequence[Problem], likeness: Vectors) -> Relevance:
    """Measure how useful the problems `found` are for the problem `query`.

    Args:
        likeness: of the found ones with each other, from `Memory.likeness`; shape (len(found), len(found)).
    """
    k = len(found)
    if not k:
        return Relevance(0.0, 0.0, 0.0)
    match = sum(p.label == query.label for p in found) / k
    near = sum(domain.similarity(query.truth, p.truth) for p in found) / k
    alike = (likeness.sum() - np.trace(likeness)) / (k * (k - 1)) if k > 1 else 1.0
    return Relevance(match, near, float(np.clip(1.0 - alike, 0.0, 1.0)))
