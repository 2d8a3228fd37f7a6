"""The protocols that phases call models through, and the records that models return."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.backends.lora import LoraSettings, Training
from experiments.contract import Trainer
from experiments.precision import Precision

NO_CHAT = "model {!r} has no chat template, so it cannot be asked as P3 asks"
THINKING, THOUGHT = "<think>", "</think>"  # around the thinking of Qwen3, DeepSeek-R1 and models after them


class Unavailable(Exception):
    """A model that this host cannot load; the message says why. A phase skips it, or its trials fail with the message."""


class Unreadable(Exception):
    """Replies in which no answer can be read; the trial fails, since nothing may be drawn in their place."""


class TooLong(Exception):
    """A prompt that is longer than the model's window; it is not sent, since an engine would cut it."""


class Reading(NamedTuple):
    """What an embedder reads of one text."""

    tokens: int  # of the whole text
    limit: int  # tokens that are read; the rest is cut
    unknown: int  # of the tokens: those that stand for any word that the embedder does not know


class Embeddings(NamedTuple):
    """Vectors of some texts."""

    vectors: NDArray[np.float64]  # shape (texts, d), each of unit length
    seconds: list[float]  # that each text took when it was first embedded


class Embedded(NamedTuple):
    """The vector of one text."""

    vector: NDArray[np.float64]  # shape (d,), unit length
    seconds: float


def embed_distinct(
    texts: Sequence[str], known: dict[str, Embedded], embed: Callable[[str], NDArray[np.float64]]
) -> Embeddings:
    """Embed `texts` one by one, each distinct text once, and add them to `known`.

    One at a time since no result may depend on a text's neighbours; batching gains nothing on two cores (measured).

    Args:
        embed: returns the unit vector of one text.
    """
    for text in texts:
        if text not in known:
            started = time.perf_counter()
            vector = embed(text)
            known[text] = Embedded(vector, time.perf_counter() - started)
    return stacked([known[text] for text in texts])


def stacked(rows: Sequence[Embedded]) -> Embeddings:
    """Return the vectors of single texts as one array."""
    return Embeddings(np.stack([row.vector for row in rows]), [row.seconds for row in rows])


class Embedder(Protocol):
    """Text to vectors."""

    name: str

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of `texts`, in their order."""
        ...

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        """Return what is read of each text; [] where the engine does not tell."""
        ...


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of the options after one prompt, and what they cost."""

    logprobs: tuple[float, ...]  # summed over the option's tokens and its end, natural logarithm
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
    unfinished: bool = False  # the model was still thinking when its tokens ended, so that there is no answer


class TextLoss(NamedTuple):
    """Negative log-likelihood of a text."""

    nats: float  # summed over the tokens after the first
    tokens: int  # how many those are


class LanguageModel(Protocol):
    """A causal language model."""

    name: str
    window: int  # tokens that fit in one prompt
    scores: bool  # False if score() does not work; answers by choice are then sampled

    def describe(self) -> dict[str, str]:
        """Return what computes: engine and its version, device, numbers (their type, or how they are quantised)."""
        ...

    def digest(self) -> str:
        """Return the SHA-256 of what decides its answers, without an adapter."""
        ...

    def count_tokens(self, text: str) -> int: ...

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        """Return the log-probability of each option as the whole answer to `prompt`, from one prefill.

        The end of the answer counts: the end of its line, or of the model's turn.
        """
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
        """Continue each prompt.

        Args:
            chat: take each prompt as one user message in the model's chat template.
            stop: text that ends a reply and is not part of it; "" for none.
            temperature: 0 is greedy; above, tokens are sampled from softmax(logits / temperature).
            seeds: one a prompt when sampling (experiments.seeds.seed_for); the same prompt and seed give the same text.
        """
        ...

    def negative_log_likelihood(self, text: str) -> TextLoss:
        """Return how unlikely the text is.

        Raises:
            Unavailable: the backend does not support it.
        """
        ...


def seeds_for(prompts: Sequence[str], temperature: float, seeds: Sequence[int]) -> list[int]:
    """Return one seed a prompt, 0 where decoding is greedy.

    Raises:
        ValueError: sampling with another number of seeds than prompts.
    """
    if temperature <= 0:
        return [0] * len(prompts)
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts")
    return list(seeds)


class LoraTrainer(Protocol):
    """Makes LoRA adapters (Hu et al. 2021, arXiv:2106.09685) for one model."""

    def describe(self) -> dict[str, str]:
        """Return what trains, as a language model does."""
        ...

    def train(
        self,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
    ) -> Training:
        """Train an adapter and return the best epoch on `validation`.

        Args:
            examples, validation: (prompt, completion) pairs; without validation the last epoch is returned.
            seed: decides the adapter's start, dropout and the order of the examples.

        Raises:
            Unavailable: a library is missing.
        """
        ...


class Missing(NamedTuple):
    """Something that a backend needs and this host does not have."""

    what: str
    command: str  # installs it


class TokenCounter(NamedTuple):
    """The tokens of a model."""

    count: Callable[[str], int]  # tokens of a text
    window: int  # tokens that fit in one prompt


class Backend(Protocol):
    """A module that catalog.BACKENDS names: all that other modules ask of a kind of model."""

    ENGINE: str  # what computes, as a unit's identity has it

    def missing(self, prefix: str) -> Missing | None:
        """Return what this host lacks for models with this prefix, None if nothing."""
        ...

    def local_models(self) -> list[str]:
        """Return the names of the models that this machine can load now; nothing heavy is imported."""
        ...

    def digest(self, name: str) -> str:
        """Return the SHA-256 of the model. Raises LabError when this machine does not have it."""
        ...

    def check_chat(self, name: str) -> None:
        """Check that the model can be asked as in a chat, without loading it. Raises LabError: it cannot, or is not here."""
        ...

    def counter(self, name: str) -> TokenCounter:
        """Return the model's token counter, without loading weights. Raises Unavailable, LabError."""
        ...

    def versions(self, precision: Precision) -> dict[str, str]:
        """Return the releases of what computes in this precision: those whose change moves numbers (docs/design.md)."""
        ...

    def precisions(self, name: str) -> tuple[Precision, ...]:
        """Return the precisions that the model can be computed in. Raises LabError when this machine does not have it."""
        ...

    def refusal(self, name: str, precision: Precision) -> str:
        """Return why this host cannot compute the model in one of its precisions now, "" if it can."""
        ...

    def load(self, name: str, adapter: bytes | None, precision: Precision) -> LanguageModel:
        """Load the model, tuned by `adapter` if given. Raises Unavailable; LabError for what `refusal` says."""
        ...

    def trainer(self, name: str, precision: Precision, trainer: Trainer) -> LoraTrainer:
        """Return a trainer for the model. Raises Unavailable; LabError if `trainer` cannot train it."""
        ...
