"""The small protocols that phases call models through, and the object that hands them out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.contract import Attachment

if TYPE_CHECKING:
    from experiments.backends.peft_trainer import LoraSettings, Training


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

    def count_tokens(self, text: str) -> int: ...

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        """Log-probability of each option as the continuation of `prompt`, from one prefill."""
        ...

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, *, chat: bool = False, stop: str = "",
        temperature: float = 0.0, seeds: Sequence[int] = (),
    ) -> list[Reply]:  # fmt: skip
        """Continuations; with `chat` each prompt is one user message in the model's chat template.

        Args:
            temperature: 0 is greedy; above, tokens are sampled from softmax(logits / temperature).
            seeds: one a prompt when sampling (experiments.seeds.seed_for); the same prompt and seed give the same text.
        """
        ...

    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        """(summed over tokens after the first, in nats; number of those tokens)."""
        ...


@dataclass
class Backends:
    """Hands models to a phase's run() and keeps them between units of one process."""

    fetch: Callable[[str], bytes]  # content of a file by its SHA-256 (an adapter left by an earlier unit)
    _embedders: dict[str, Embedder] = field(default_factory=dict)
    _models: dict[tuple[str, str], LanguageModel] = field(default_factory=dict)
    _attachments: list[Attachment] = field(default_factory=list)

    def embedder(self, name: str) -> Embedder:
        """The text embedder called `name`. Raises Unavailable."""
        if name not in self._embedders:
            from experiments.backends.sentence_embedder import SentenceEmbedder

            self._embedders[name] = SentenceEmbedder(name)
        return self._embedders[name]

    def language_model(self, name: str, adapter: str = "") -> LanguageModel:
        """The model called `name`, tuned by the adapter with SHA-256 `adapter` if given. Raises Unavailable."""
        key = (name, adapter)
        if key not in self._models:
            from experiments.backends.transformers_lm import TransformersModel

            # At most one tuned model at a time stands beside the base: 0.5 GB each at 135M parameters in float32.
            for other in [k for k in self._models if k[1]]:
                del self._models[other]
            self._models[key] = TransformersModel(name, self.fetch(adapter) if adapter else None)
        return self._models[key]

    def train(
        self, name: str, examples: Sequence[tuple[str, str]], validation: Sequence[tuple[str, str]],
        settings: LoraSettings, seed: int,
    ) -> Training:  # fmt: skip
        """A LoRA adapter for model `name` from (prompt, completion) pairs; it is attached to the unit."""
        from experiments.backends.peft_trainer import train

        return train(name, examples, validation, settings, seed)

    def attach(self, name: str, content: bytes) -> str:
        """Leave a file beside the unit's trials; its SHA-256 is what later units ask for."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._attachments.append(Attachment(name, sha256, content))
        return sha256

    def take_attachments(self) -> list[Attachment]:
        """What the unit left, once."""
        taken, self._attachments = self._attachments, []
        return taken


def no_files(sha256: str) -> Any:
    """A `fetch` for work that needs no earlier files."""
    raise Unavailable(f"no file store here to take {sha256} from")
