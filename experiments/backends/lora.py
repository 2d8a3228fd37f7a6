"""LoRA for every trainer: settings, the record of a training, masked examples, epochs, and the adapter as one file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from experiments.seeds import generator

IGNORED = -100  # label of a token that is not learned, as torch has it


class Row(NamedTuple):
    """One example as tokens."""

    ids: list[int]
    labels: list[int]  # one a token; IGNORED for the prompt's


class LoraSettings(BaseModel):
    """Hyperparameters of one LoRA training; each phase gives its own values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(gt=0)
    alpha: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    learning_rate: float = Field(gt=0)
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    accumulation: int = Field(1, gt=0, description="batches a step")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps with a rising rate")
    patience: int | None = Field(None, description="epochs without a better validation loss before it stops")
    targets: tuple[str, ...] = Field(("q_proj", "v_proj"), description="modules that get an adapter")


@dataclass(frozen=True)
class Training:
    """An adapter and how it was trained. Losses are mean negative log-likelihoods a completion token, in nats."""

    adapter: bytes  # safetensors with peft's names; the settings are in its header
    seconds: float
    tokens: int  # seen in training, padding not counted
    train_loss: list[float] = field(default_factory=list)  # one an epoch
    validation_loss: list[float] = field(default_factory=list)  # one an epoch, before the first as well
    best_epoch: int = 0
    engine: dict[str, str] = field(default_factory=dict)  # what trained it, as it describes itself


def encode(tokenizer: Any, pair: tuple[str, str], window: int) -> Row:
    """Return a (prompt, completion) pair as tokens of which the completion is learned; the end fits `window` tokens."""
    prompt = tokenizer(pair[0]).input_ids
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]  # some tokenizers have none
    completion = [*tokenizer(pair[1], add_special_tokens=False).input_ids, *end]
    return Row((prompt + completion)[-window:], ([IGNORED] * len(prompt) + completion)[-window:])


def completion_tokens(rows: Sequence[Row]) -> int:
    """Return the number of tokens that are learned."""
    return sum(sum(label != IGNORED for label in row.labels) for row in rows)


def first_learned(rows: Sequence[Row]) -> int:
    """Return the first position of all rows with a label; those before it need no logits."""
    return min(next(i for i, label in enumerate(row.labels) if label != IGNORED) for row in rows)


def shared_start(rows: Sequence[Row]) -> int:
    """Return how many tokens all rows begin with and can be read once: the one before the first learned token cannot."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*(row.ids for row in rows), strict=False))
    return min(sum(1 for _ in alike), max(0, first_learned(rows) - 1))


def by_length(rows: Sequence[Row], size: int) -> list[list[Row]]:
    """Return batches of rows of similar length."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


class Tuner(Protocol):
    """A model under training, as one engine implements it."""

    def step(self, batches: Sequence[Sequence[Row]], learning_rate: float) -> float:
        """Make one optimizer step on the mean loss a learned token of all batches; return the summed loss."""
        ...

    def mean_loss(self, rows: Sequence[Row], size: int) -> float:
        """Return the loss a learned token without dropout."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of the adapter's matrices by peft's names."""
        ...


@dataclass
class Course:
    """A training so far."""

    best: dict[str, Any]  # snapshot of the best epoch
    validation_loss: list[float]
    train_loss: list[float] = field(default_factory=list)
    tokens: int = 0
    best_epoch: int = 0

    def training(self, save: Callable[..., bytes], settings: LoraSettings, started: float) -> Training:
        """Return the finished training, its adapter written by safetensors' `save`.

        Args:
            started: time.perf_counter() at its beginning.
        """
        adapter = save(self.best, metadata=header(settings))
        seconds = time.perf_counter() - started
        return Training(adapter, seconds, self.tokens, self.train_loss, self.validation_loss, self.best_epoch)


def fit(tuner: Tuner, rows: Sequence[Row], validation: Sequence[Row], settings: LoraSettings, seed: int) -> Course:
    """Train for the settings' epochs, or until the validation loss has not fallen for `patience` of them."""
    group = settings.batch_size * settings.accumulation
    rising = max(1, round(settings.warmup * settings.epochs * -(-len(rows) // group)))
    rng, done = generator(seed, "lora-order"), 0
    losses = [tuner.mean_loss(validation, settings.batch_size)] if validation else []
    # After the first loss: where bitsandbytes packs 4-bit weights for reading (AVX512-BF16), a snapshot unpacks them, and
    # packed ones have no gradients.
    course = Course(tuner.snapshot(), losses)
    for epoch in range(1, settings.epochs + 1):
        order, total = [rows[i] for i in rng.permutation(len(rows))], 0.0
        for i in range(0, len(order), group):
            # Batches of one step add up to the same gradient however they are cut; rows of like length need no padding.
            step, rate = order[i : i + group], settings.learning_rate * min(1.0, (done + 1) / rising)
            total += tuner.step(by_length(step, settings.batch_size), rate)
            course.tokens, done = course.tokens + sum(len(row.ids) for row in step), done + 1
        course.train_loss.append(total / completion_tokens(rows))
        if validation:
            losses.append(tuner.mean_loss(validation, settings.batch_size))
        if not validation or losses[-1] < min(losses[:-1]):
            course.best, course.best_epoch = tuner.snapshot(), epoch
        elif settings.patience is not None and epoch - course.best_epoch >= settings.patience:
            break
    return course


def peft_settings(settings: LoraSettings) -> dict[str, Any]:
    """Return the settings by peft's names, as they stand in an adapter's header."""
    return {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets),
    }


def header(settings: LoraSettings) -> dict[str, str]:
    """Return the metadata of an adapter's file."""
    return {"lora": json.dumps(peft_settings(settings), sort_keys=True)}


def settings_in(content: bytes) -> dict[str, Any]:
    """Return peft's settings from an adapter's header; a safetensors file begins with its length (safetensors, format)."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["lora"])
    return found
