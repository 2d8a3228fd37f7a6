"""A memory of memos, and the retrievals from it that P2, E1 and E2 compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from experiments.backends.protocols import Embedder
from experiments.contract import Json, PhaseConfig
from experiments.data import universe
from experiments.domains import Domain, Problem
from experiments.solving.choice import attempts_of_vote
from experiments.solving.ranking import ranking_of
from experiments.solving.retrieval import Memory, RetrievalConfig, features_of, relevance, top_k
from experiments.solving.solving import Memo
from experiments.solving.stream import TOPICS, Stream, stream_of


class Found(NamedTuple):
    """Memos that a query brought back, the most relevant last, and facts about them for the trial."""

    memos: list[Memo]
    facts: dict[str, object]

    def under(self, answers: Sequence[str]) -> Found:
        """Return the same memos under other answers."""
        memos = [replace(m, answer=answer) for m, answer in zip(self.memos, answers, strict=True)]
        return Found(memos, {**self.facts, "answers": list(answers)})


NOTHING = Found([], {})  # where no memory is asked


class MemoRecord(BaseModel):
    """A memo as it is stored, in E1's findings and in the specs of units."""

    model_config = ConfigDict(frozen=True)

    problem_id: str
    answer: str
    order: int  # its place in the memory, from 0
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


@lru_cache(maxsize=8192)
def _described(describe: Callable[[Problem], str], problem: Problem) -> str:
    return describe(problem)


def analysis_of(domain: Domain, problem: Problem) -> str:
    """Return `domain.describe(problem)`, read off its text once a process: all units of E2 search the same memory."""
    return _described(domain.describe, problem)


class Bank:
    """Memos in a fixed order, embedded once (the embedder caches each text); `topics` is of the stream that they come in."""

    def __init__(
        self,
        domain: Domain,
        memos: Sequence[Memo],
        embedder: Embedder,
        retrieval: RetrievalConfig,
        topics: int = TOPICS,
    ) -> None:
        self.domain = domain
        self.memos = sorted(memos, key=lambda m: m.order)
        self.embedder = embedder
        self.retrieval = retrieval
        texts = [m.problem.text for m in self.memos]
        vectors, _ = embedder.embed(texts)
        self.memory = Memory(vectors, features_of(domain, [m.problem for m in self.memos]), texts)
        self.labels = np.array([m.problem.label for m in self.memos], dtype=object)
        self.groups = np.array([m.problem.group for m in self.memos], dtype=object)
        self.topics = topics
        self.streams: dict[int, Stream] = {}  # by run seed

    def random(self, rng: np.random.Generator, problem: Problem) -> Found:
        """k memos drawn without replacement."""
        chosen = rng.permutation(len(self.memos))[: self.retrieval.k]
        return self._found([int(i) for i in chosen], problem)

    def recent(self, seed: int, problem: Problem) -> Found:
        """The k memos just before the problem is asked, the newest last, in the stream that this run seed draws."""
        if seed not in self.streams:
            self.streams[seed] = stream_of([m.problem.group for m in self.memos], self.topics, seed)
        return self._found(self.streams[seed].before(problem.problem_id, problem.group, self.retrieval.k), problem)

    def semantic(self, problem: Problem) -> Found:
        """The k memos most like the problem by weighted text and feature similarity, the most like last."""
        return self._search(self._likeness(problem), problem)

    def lexical(self, problem: Problem) -> Found:
        """The k memos that share most of the problem's words (BM25), the best last."""
        return self._search(self.memory.words.scores([problem.text]), problem)

    def other_families(self, problem: Problem) -> Found:
        """The k memos most like the problem among those of other families."""
        return self._search(self._likeness(problem), problem, self.groups != problem.group)

    def oracle(self, problem: Problem) -> Found:
        """The k memos most like the problem among those of its class, of other families where there are any."""
        right = self.labels == problem.label
        others = right & (self.groups != problem.group)
        return self._search(self._likeness(problem), problem, others if others.any() else right)

    def label_only(self, rng: np.random.Generator, problem: Problem) -> Found:
        """Memos of unrelated problems under the answers of the semantic ones, in their order.

        Unrelated are those drawn from other families and not among the semantic ones, as far as there are so many.
        """
        shown = self.semantic(problem).memos
        orders = {m.order for m in shown}
        near = [2 * (m.order in orders) + (m.problem.group == problem.group) for m in self.memos]
        drawn = rng.permutation(len(self.memos))
        chosen = [int(i) for i in drawn[np.argsort(np.array(near)[drawn], kind="stable")][: len(shown)]]
        return self._found(chosen, problem).under([m.answer for m in shown])

    def shuffled_labels(self, rng: np.random.Generator, problem: Problem) -> Found:
        """The semantic memos under the answers of as many memos that are drawn from the whole memory."""
        found = self.semantic(problem)
        return found.under([self.memos[int(i)].answer for i in rng.permutation(len(self.memos))[: len(found.memos)]])

    @cached_property
    def analyses(self) -> Memory:
        """What each memo's problem contains in words (`Domain.describe`), the index that queries search."""
        texts = [analysis_of(self.domain, m.problem) for m in self.memos]
        return Memory(self.embedder.embed(texts)[0], np.zeros((len(texts), 1)), texts)

    def by_query(self, query: str, problem: Problem) -> Found:
        """The k memos whose analysis is most like a query, the most like last; never the problem itself.

        A query is a few words on a problem, and so is an analysis; compared with the texts of problems it finds nothing
        (docs/science.md, E2).
        """
        vector, _ = self.embedder.embed([query])
        scores = self.analyses.scores(vector, None, 1.0, self.retrieval.distance, [query])
        others = np.array([m.problem.problem_id != problem.problem_id for m in self.memos])
        return self._search(scores, problem, others)

    def _likeness(self, problem: Problem) -> NDArray[np.float64]:
        vector, _ = self.embedder.embed([problem.text])
        return self._scores(problem.text, vector, features_of(self.domain, [problem]))

    def _scores(
        self, text: str, vector: NDArray[np.float64], features: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        return self.memory.scores(vector, features, self.retrieval.text_weight, self.retrieval.distance, [text])

    def _search(self, scores: NDArray[np.float64], problem: Problem, allowed: NDArray[np.bool_] | None = None) -> Found:
        """Return the k best memos, among the allowed ones; fewer where those are fewer."""
        allowed = np.ones(len(self.memos), dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool)
        k = min(self.retrieval.k, int(allowed.sum()))
        best = [int(i) for i in top_k(np.where(allowed, scores, -np.inf), k)[0]]
        return self._found(best[::-1], problem, int((self.labels[allowed] == problem.label).sum()))

    def _found(self, chosen: list[int], problem: Problem, relevant: int | None = None) -> Found:
        """Return the chosen memos, the best last, with the measures of what was found.

        Args:
            relevant: memos of the problem's class among those that could be chosen, if not all.
        """
        memos = [self.memos[i] for i in chosen]
        measured = relevance(
            self.domain, problem, [m.problem for m in memos], self.memory.likeness[np.ix_(chosen, chosen)]
        )
        labels = [m.problem.label for m in reversed(memos)]
        relevant = int((self.labels == problem.label).sum()) if relevant is None else relevant
        ranking = ranking_of([label == problem.label for label in labels], relevant)
        facts: dict[str, object] = {"relevance": measured.total, "type_match": measured.type_match}
        facts |= ranking._asdict()
        if self.domain.answers == "choice":
            vote = attempts_of_vote(labels, self.domain.options, problem.label)
            facts |= {"vote_attempts": vote.expected, "vote_first_right": vote.first_right}
        return Found(memos, facts)


def bank_of(memos: Iterable[MemoRecord], config: PhaseConfig) -> list[Memo]:
    """Return memos with their problems in place of the problems' ids."""
    known = universe(config).by_id()
    return [Memo(known[m.problem_id], m.answer, m.order) for m in memos]
