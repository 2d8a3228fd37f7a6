"""A memory of memos, and the retrievals from it that P2, E1 and E2 compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from experiments.backends.protocols import Embedder
from experiments.contract import Json, PhaseConfig
from experiments.data import universe
from experiments.domains import Domain, Problem
from experiments.seeds import generator
from experiments.solving.retrieval import Memory, RetrievalConfig, features_of, relevance, top_k
from experiments.solving.solving import Memo


class Found(NamedTuple):
    """Memos that a query brought back, the most relevant last, and facts about them for the trial."""

    memos: list[Memo]
    facts: dict[str, object]


NOTHING = Found([], {})  # where no memory is asked


class MemoRecord(BaseModel):
    """A memo as it is stored, in E1's findings and in the specs of units."""

    model_config = ConfigDict(frozen=True)

    problem_id: str
    answer: str
    order: int  # when it was solved, from 0
    attempts: float | None = None
    success: bool = True
    guesses: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_row(cls, stored: Any) -> Any:
        # Runs before schema 8 stored the values as a list.
        return dict(zip(cls.model_fields, stored, strict=False)) if isinstance(stored, list) else stored

    def shown(self) -> Json:
        """Return what a solver sees of it, as plain JSON."""
        return self.model_dump(include={"problem_id", "answer", "order"})


class Bank:
    """Memos in the order in which they were solved, embedded once (the embedder caches each text)."""

    def __init__(self, domain: Domain, memos: Sequence[Memo], embedder: Embedder, retrieval: RetrievalConfig) -> None:
        self.domain = domain
        self.memos = sorted(memos, key=lambda m: m.order)
        self.embedder = embedder
        self.retrieval = retrieval
        vectors, _ = embedder.embed([m.problem.text for m in self.memos])
        self.memory = Memory(vectors, features_of(domain, [m.problem for m in self.memos]))

    def random(self, rng: np.random.Generator, problem: Problem) -> Found:
        """k memos drawn without replacement."""
        chosen = rng.permutation(len(self.memos))[: self.retrieval.k]
        return self._found([int(i) for i in chosen], problem)

    def recent(self, seed: int, problem: Problem) -> Found:
        """The k memos solved last, the newest last, in the order in which this run seed fills the memory."""
        order = generator(seed, "memory order").permutation(len(self.memos))
        return self._found([int(i) for i in order[-self.retrieval.k :]], problem)

    def semantic(self, problem: Problem) -> Found:
        """The k memos most like the problem by weighted text and feature similarity, the most like last."""
        vector, _ = self.embedder.embed([problem.text])
        features = features_of(self.domain, [problem])
        return self._search(vector, features, problem)

    def by_query(self, query: str, problem: Problem) -> Found:
        """The k memos most like a text that the model wrote; a query has no features, so text alone counts."""
        vector, _ = self.embedder.embed([query])
        return self._search(vector, None, problem)

    def _search(self, vector: np.ndarray, features: np.ndarray | None, problem: Problem) -> Found:
        scores = self.memory.scores(vector, features, self.retrieval.text_weight, self.retrieval.distance)
        best = [int(i) for i in top_k(scores, self.retrieval.k)[0]]
        return self._found(best[::-1], problem)

    def _found(self, chosen: list[int], problem: Problem) -> Found:
        found = [self.memos[i].problem for i in chosen]
        measured = relevance(self.domain, problem, found, self.memory.vectors[chosen])
        facts: dict[str, object] = {"relevance": measured.total, "type_match": measured.type_match}
        return Found([self.memos[i] for i in chosen], facts)


def bank_of(memos: Iterable[MemoRecord], config: PhaseConfig) -> list[Memo]:
    """Return memos with their problems in place of the problems' ids."""
    known = universe(config).by_id()
    return [Memo(known[m.problem_id], m.answer, m.order) for m in memos]
