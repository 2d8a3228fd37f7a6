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


@dataclass
class Backends:
    """Hands models to a phase's run() and keeps them between units of one process."""

    fetch: Callable[[str], bytes]  # content of a file by its SHA-256 (an adapter left by an earlier unit)
    _embedders: dict[str, Embedder] = field(default_factory=dict)
    _models: dict[tuple[str, str], LanguageModel] = field(default_factory=dict)
    _attachments: list[Attachment] = field(default_factory=list)
    quantized: bool = False  # on a host for quantised models: 8-bit or 4-bit where the engine can

    def embedder(self, name: str) -> Embedder:
        """The text embedder called `name`. Raises Unavailable."""
        if name not in self._embedders:
            from experiments.backends.catalog import is_language_model
            from experiments.backends.sentence_embedder import SentenceEmbedder

            # A service embeds with the model that it is asked for; models of our own engines do not embed.
            found: Any = self.language_model(name) if is_language_model(name) else SentenceEmbedder(name)
            if not hasattr(found, "embed"):
                raise Unavailable(f"{name!r} is no embedder")
            self._embedders[name] = found
        return self._embedders[name]

    def language_model(self, name: str, adapter: str = "") -> LanguageModel:
        """The model called `name`, tuned by the adapter with SHA-256 `adapter` if given. Raises Unavailable."""
        key = (name, adapter)
        if key not in self._models:
            from experiments.backends.catalog import backend

            # At most one tuned model at a time stands beside the base: 0.5 GB each at 135M parameters in float32.
            for other in [k for k in self._models if k[1]]:
                del self._models[other]
            self._models[key] = backend(name).load(name, self.fetch(adapter) if adapter else None, self.quantized)
        return self._models[key]

    def train(
        self,
        name: str,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
    ) -> Training:
        """A LoRA adapter for model `name` from (prompt, completion) pairs; it is attached to the unit."""
        from experiments.backends.catalog import backend

        return backend(name).trainer(name, self.quantized).train(examples, validation, settings, seed)

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
