"""Fakes for tests in which the engine is not what is tested: their numbers are given, not computed by a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.backends.protocols import Reading, Reply, Scores
from experiments.solving.retrieval import unit_rows


class FakeEmbedder:
    """Unit vectors made from the letters of a text; the letter counts are its meaning."""

    name = "fake"

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        return []

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[float]]:
        counts = np.array([[t.count(chr(97 + i)) + 1e-3 for i in range(26)] for t in texts], dtype=np.float64)
        return unit_rows(counts), [0.001] * len(texts)


class FakeLanguageModel:
    """Gives the log-probabilities and the reply it was made with and counts words as tokens; keeps what it was asked."""

    name = "fake"
    scores = True

    def __init__(
        self,
        logprobs: Sequence[float] = (-2.0, -1.0, -1.5, -3.0, -1.1, -2.5),
        window: int = 10_000,
        says: str = "a loop",
    ) -> None:
        self.logprobs = tuple(logprobs)
        self.window = window
        self.says = says
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def describe(self) -> dict[str, str]:
        return {"engine": "fake"}

    def digest(self) -> str:
        return "0" * 64

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        self.asked.append((prompt, tuple(options)))
        return Scores(self.logprobs, self.count_tokens(prompt), len(options), 0.25)

    def generate(self, prompts: Sequence[str], max_new_tokens: int, **options: object) -> list[Reply]:
        self.asked += [(prompt, ()) for prompt in prompts]
        return [Reply(self.says, self.count_tokens(p), self.count_tokens(self.says), 0.25) for p in prompts]

    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        return 2.0 * self.count_tokens(text), self.count_tokens(text)
