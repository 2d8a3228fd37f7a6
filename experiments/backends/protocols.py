"""The protocols that phases call models through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.backends.lora import LoraSettings, Training


class Unavailable(Exception):
    """A model that this host cannot load; the message says why. A phase skips it or fails its trials with it."""


class Embedder(Protocol):
    """Text to vectors."""

    name: str

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[float]]:
        """(unit-length vectors (len(texts), d), seconds each text took when it was first embedded)."""
        ...


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of the options after one prompt, and what they cost."""

    logprobs: tuple[float, ...]  # summed over the option's tokens, natural logarithm
    tokens_in: int
    tokens_out: int
    latency_s: float


@dataclass(frozen=True)
class Reply:
    """Generated text and what it cost."""

    text: str
    tokens_in: int
    tokens_out: int
    latency_s: float  # of the whole batch, divided by its size


class LanguageModel(Protocol):
    """A causal language model."""

    name: str
    window: int  # tokens that fit in one prompt
    scores: bool  # whether score() works; where it does not, answers by choice are sampled

    def describe(self) -> dict[str, str]:
        """What computes: engine and its version, device, numbers (their type, or how they are quantised)."""
        ...

    def digest(self) -> str:
        """SHA-256 of what decides its answers, as the catalogue gives it; without an adapter."""
        ...

    def count_tokens(self, text: str) -> int: ...

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        """Log-probability of each option as the continuation of `prompt`, from one prefill."""
        ...

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        chat: bool = False,
        stop: str = "",
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Reply]:
        """Continuations; with `chat` each prompt is one user message in the model's chat template.

        Args:
            temperature: 0 is greedy; above, tokens are sampled from softmax(logits / temperature).
            seeds: one a prompt when sampling (experiments.seeds.seed_for); the same prompt and seed give the same text.
        """
        ...

    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        """(summed over tokens after the first, in nats; number of those tokens).

        Raises:
            Unavailable: the backend cannot say.
        """
        ...


class LoraTrainer(Protocol):
    """Makes LoRA adapters for one model."""

    def describe(self) -> dict[str, str]:
        """As of a language model; `chosen` says why this trainer where there was a choice."""
        ...

    def train(
        self,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
    ) -> Training:
        """An adapter from (prompt, completion) pairs; the best epoch on `validation` is kept, the last without one."""
        ...


class Backend(Protocol):
    """A module for_<prefix>.py: all that the rest asks of a kind of model."""

    def here(self) -> list[str]:
        """Names of the models this machine has now; nothing heavy is imported."""
        ...

    def lacks(self) -> tuple[str, str]:
        """(what is missing here to use this backend, the command that mends it); ("", "") when nothing is."""
        ...

    def digest(self, name: str) -> str:
        """SHA-256 of the model. Raises LabError when it is not here."""
        ...

    def counter(self, name: str) -> tuple[Callable[[str], int], int]:
        """(tokens of a text, tokens that fit in a prompt), without loading weights. Raises Unavailable, LabError."""
        ...

    def load(self, name: str, adapter: bytes | None, quantized: bool) -> LanguageModel:
        """The model, tuned by an adapter if given; `quantized`: on a host for quantised models. Raises Unavailable."""
        ...

    def trainer(self, name: str, quantized: bool) -> LoraTrainer:
        """What trains it here. Raises Unavailable."""
        ...
