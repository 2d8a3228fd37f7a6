"""LoRA as every trainer has it: settings, what comes out, the masked examples, and the adapter as one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from experiments.seeds import generator

Row = tuple[list[int], list[int]]  # token ids, labels


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
    """An adapter and how it came about. Losses are mean negative log-likelihoods a completion token, in nats."""

    adapter: bytes  # safetensors with peft's names; the settings are in its header
    seconds: float
    tokens: int  # seen in training, padding not counted
    train_loss: list[float] = field(default_factory=list)  # one an epoch
    validation_loss: list[float] = field(default_factory=list)  # one an epoch, before the first as well
    best_epoch: int = 0
    engine: dict[str, str] = field(default_factory=dict)  # what trained it, as it describes itself


def encode(tokenizer: Any, pair: tuple[str, str], window: int) -> Row:
    """(token ids, labels): the prompt's labels are -100, so that only the completion is learned; the end fits `window`."""
    prompt = tokenizer(pair[0]).input_ids
    completion = [*tokenizer(pair[1], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return (prompt + completion)[-window:], ([-100] * len(prompt) + completion)[-window:]


def completion_tokens(rows: Sequence[Row]) -> int:
    """Tokens that are learned."""
    return sum(sum(label != -100 for label in labels) for _, labels in rows)


def first_learned(rows: Sequence[Row]) -> int:
    """The first position with a label, of all rows; those before it need no logits."""
    return min(next(i for i, label in enumerate(own) if label != -100) for _, own in rows)


def shared_start(rows: Sequence[Row]) -> int:
    """Tokens with which all rows begin and that can be read once: the one before the first learned token is each row's own."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*(ids for ids, _ in rows), strict=False))
    return min(sum(1 for _ in alike), max(0, first_learned(rows) - 1))


def by_length(rows: Sequence[Row], size: int) -> list[list[Row]]:
    """Batches of rows of like length."""
    ordered = sorted(rows, key=lambda row: len(row[0]))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


class Tuner(Protocol):
    """A model under training, as one engine has it."""

    def step(self, batches: Sequence[Sequence[Row]], learning_rate: float) -> float:
        """One optimizer step on the mean loss a learned token of all batches; the summed loss."""
        ...

    def mean_loss(self, rows: Sequence[Row], size: int) -> float:
        """Loss a learned token without dropout."""
        ...

    def snapshot(self) -> Any:
        """A copy of the adapter as it is now."""
        ...


def fit(tuner: Tuner, rows: Sequence[Row], held: Sequence[Row], settings: LoraSettings, seed: int) -> dict[str, Any]:
    """Train for the settings' epochs, or until the validation loss has not fallen for `patience` of them.

    Returns:
        "best" (the snapshot of the best epoch) and the fields of Training that tell of the course.
    """
    group = settings.batch_size * settings.accumulation
    rising = max(1, round(settings.warmup * settings.epochs * -(-len(rows) // group)))
    rng, done = generator(seed, "lora-order"), 0
    train_loss: list[float] = []
    validation_loss = [tuner.mean_loss(held, settings.batch_size)] if held else []
    best, best_epoch, tokens = tuner.snapshot(), 0, 0
    for epoch in range(1, settings.epochs + 1):
        order, total = [rows[i] for i in rng.permutation(len(rows))], 0.0
        for i in range(0, len(order), group):
            # Batches of one step add up to the same gradient however they are cut; rows of like length need no padding.
            step = order[i : i + group]
            total += tuner.step(
                by_length(step, settings.batch_size), settings.learning_rate * min(1.0, (done + 1) / rising)
            )
            tokens, done = tokens + sum(len(ids) for ids, _ in step), done + 1
        train_loss.append(total / completion_tokens(rows))
        if held:
            validation_loss.append(tuner.mean_loss(held, settings.batch_size))
        if not held or validation_loss[-1] < min(validation_loss[:-1]):
            best, best_epoch = tuner.snapshot(), epoch
        elif settings.patience is not None and epoch - best_epoch >= settings.patience:
            break
    return {
        "best": best,
        "tokens": tokens,
        "train_loss": train_loss,
        "validation_loss": validation_loss,
        "best_epoch": best_epoch,
    }


def peft_settings(settings: LoraSettings) -> dict[str, Any]:
    """The settings by peft's names, as they stand in an adapter's header."""
    return {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets),
    }


def header(settings: LoraSettings) -> dict[str, str]:
    """What an adapter's file says of itself."""
    return {"lora": json.dumps(peft_settings(settings), sort_keys=True)}


def settings_in(content: bytes) -> dict[str, Any]:
    """peft's settings from an adapter's header; a safetensors file begins with its length (safetensors, format)."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["lora"])
    return found
