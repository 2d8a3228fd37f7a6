"""Candidates for likeness of problems, by name: what P1 compares, and how later phases use the best of them.

A candidate is an embedder's name (the raw cosine of its vectors), or one of:

    centred            vectors less the memory's mean
    structure          the domain's features alone
    tfidf, bm25        words alone
    hybrid             text and features, half each
    hybrid:X+structure another candidate of text, X, and features, half each

Text is embedded by all-MiniLM-L6-v2 where the name says no embedder; one may be lm:<language model>@<layer>.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from common.errors import LabError
from experiments.contract import PhaseConfig
from experiments.solving.retrieval import BY_WORDS_ALONE, Distance, Memory, unit_rows

TEXT = "all-MiniLM-L6-v2"  # it comes with the project
CENTRED, STRUCTURE, TFIDF, BM25, HYBRID = "centred", "structure", "tfidf", "bm25", "hybrid"
HALF = 0.5  # text and features alike
DISTANCES: dict[str, Distance] = {CENTRED: "centred", TFIDF: "tfidf", BM25: "bm25", HYBRID: "cosine"}
Rows = Any  # one row a text: an array, or a sparse matrix


class Candidate(BaseModel):
    """A measure of likeness: the parameters of retrieval (RetrievalConfig) without k."""

    model_config = ConfigDict(frozen=True)

    embedder: str = TEXT
    text_weight: float = Field(1.0, ge=0, le=1)  # of text similarity; the rest is features
    distance: Distance = "cosine"

    @property
    def embeds(self) -> bool:
        """True if texts are embedded for it."""
        return self.text_weight > 0 and self.distance not in BY_WORDS_ALONE

    @property
    def has_vectors(self) -> bool:
        """True if its scores are cosines of vectors."""
        return self.text_weight == 0 or self.distance in ("cosine", "centred", "tfidf")


def candidate(name: str) -> Candidate:
    """Return the candidate of this name.

    Raises:
        LabError: a hybrid of anything but text and features.
    """
    if name == STRUCTURE:
        return Candidate(text_weight=0.0)
    kind, mixed, parts = name.partition(":")
    if kind == HYBRID and mixed:
        text, plus, other = parts.rpartition("+")
        found = candidate(text) if plus and other == STRUCTURE else None
        if found is None or found.text_weight < 1:
            raise LabError(
                f"{name[:80]!r} is no mixture of text and features", f"for example {HYBRID}:{TFIDF}+{STRUCTURE}"
            )
        return found.model_copy(update={"text_weight": HALF})
    if name in DISTANCES:
        return Candidate(distance=DISTANCES[name], text_weight=HALF if name == HYBRID else 1.0)
    return Candidate(embedder=name)


def models_of(names: Iterable[str]) -> list[str]:
    """Return the models that these candidates embed text with, each once."""
    return sorted({found.embedder for found in map(candidate, names) if found.embeds})


def models_in(config: PhaseConfig) -> tuple[str, ...]:
    """Return the models that a phase uses: its language model, and what embeds the texts of its candidates or grid."""
    return tuple(sorted({config.model, *models_of(getattr(config, "embedders", ()))}))


@dataclass(frozen=True)
class Likeness:
    """Likeness of queries and memory by one candidate."""

    scores: NDArray[np.float64]  # shape (queries, memory)
    # Unit rows whose cosine is the score, shape (texts, numbers); None where scores come from no vectors.
    queries: Rows | None
    memory: Rows | None


def likeness(
    found: Candidate, memory: Memory, vectors: NDArray[np.float64], features: NDArray[np.float64], texts: Sequence[str]
) -> Likeness:
    """Return how like the memory's problems some queries are.

    Args:
        memory: of the stored problems; what is fitted (mean, scale, words) is fitted on them alone.
        vectors, features, texts: of the queries; vectors are zeros where nothing is embedded.
    """
    scores = memory.scores(vectors, features, found.text_weight, found.distance, texts)
    asked = _rows(found, memory, vectors, memory.scale.apply(features), texts)
    return Likeness(scores, asked, None if asked is None else _rows(found, memory, memory.vectors, memory.features))


def _rows(
    found: Candidate,
    memory: Memory,
    vectors: NDArray[np.float64],
    features: NDArray[np.float64],
    texts: Sequence[str] | None = None,
) -> Rows | None:
    """Return unit rows, of the memory itself where no texts are given."""
    if not found.has_vectors:
        return None
    if found.text_weight == 0:
        return unit_rows(features)
    if found.distance == "tfidf":
        text = memory.tfidf.rows if texts is None else memory.tfidf.vectors(texts)
    else:
        mean = memory.vectors.mean(axis=0) if found.distance == "centred" else 0.0
        text = unit_rows(vectors - mean)
    if found.text_weight == 1:
        return text
    weighted = [np.sqrt(found.text_weight) * text, np.sqrt(1 - found.text_weight) * unit_rows(features)]
    if isinstance(text, np.ndarray):
        return np.hstack(weighted)
    from scipy import sparse  # here: who only assesses a host imports this module too

    return sparse.hstack(weighted).tocsr()
