"""LoRA training through peft: loss on the completion only, seeded, with early stopping on a validation set."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from experiments.backends.base import Unavailable
from experiments.backends.quiet import quiet
from experiments.backends.transformers_lm import WINDOW_TOKENS, load_base
from experiments.seeds import seed_for


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

    adapter: bytes  # safetensors; the settings are in its header
    seconds: float
    tokens: int  # seen in training, padding not counted
    train_loss: list[float] = field(default_factory=list)  # one an epoch
    validation_loss: list[float] = field(default_factory=list)  # one an epoch, before the first as well
    best_epoch: int = 0


def _encode(tokenizer: Any, pair: tuple[str, str]) -> tuple[list[int], list[int]]:
    """(token ids, labels): the prompt's labels are -100, so that only the completion is learned."""
    prompt = tokenizer(pair[0]).input_ids
    completion = [*tokenizer(pair[1], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    ids = (prompt + completion)[-WINDOW_TOKENS:]
    return ids, ([-100] * len(prompt) + completion)[-WINDOW_TOKENS:]


def _batch(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> dict[str, Any]:
    import torch

    longest = max(len(ids) for ids, _ in rows)
    fill = [longest - len(ids) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([ids + [pad] * n for (ids, _), n in zip(rows, fill, strict=True)]),
        "labels": torch.tensor([labels + [-100] * n for (_, labels), n in zip(rows, fill, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * n for (ids, _), n in zip(rows, fill, strict=True)]),
    }


def _completion_tokens(rows: Sequence[tuple[list[int], list[int]]]) -> int:
    return sum(sum(label != -100 for label in labels) for _, labels in rows)


def _loss(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int) -> Any:
    """Negative log-likelihood of the completions, summed over their tokens.

    The vocabulary's 49,152 logits are a fifth of the work, so only positions before a learned token get them; from the
    first learned one to the end of the longest row, since a model keeps the last positions of a batch alike.
    """
    import torch

    batch = _batch(rows, pad)
    labels = batch.pop("labels")
    keep = labels.shape[1] - min(next(i for i, label in enumerate(own) if label != -100) for _, own in rows) + 1
    logits = model(**batch, logits_to_keep=keep).logits[:, :-1]
    learned = labels[:, labels.shape[1] - keep + 1 :]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), learned.reshape(-1), ignore_index=-100, reduction="sum"
    )


def _mean_loss(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int, size: int) -> float:
    import torch

    model.eval()
    ordered = sorted(rows, key=lambda row: len(row[0]))
    with torch.inference_mode():
        total = sum(_loss(model, ordered[i : i + size], pad).item() for i in range(0, len(ordered), size))
    return float(total / _completion_tokens(rows))


def _snapshot(model: Any) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    return {key: value.detach().clone().contiguous() for key, value in get_peft_model_state_dict(model).items()}


def train(
    name: str,
    examples: Sequence[tuple[str, str]],
    validation: Sequence[tuple[str, str]],
    settings: LoraSettings,
    seed: int,
) -> Training:
    """Train a LoRA adapter (Hu et al. 2021, arXiv:2106.09685) for model `name`; the best epoch on validation is kept.

    Args:
        examples, validation: (prompt, completion) pairs; validation may be empty, then the last epoch is kept.
        seed: decides the adapter's start, dropout and the order of the examples.

    Raises:
        Unavailable: torch, transformers or peft is missing.
    """
    try:
        import torch
        from peft import LoraConfig, get_peft_model
        from safetensors.torch import save
    except ImportError as error:
        raise Unavailable(f"{error}; install it: pip install '.[strong]'") from error
    started = time.perf_counter()
    base, tokenizer = load_base(name)
    rows, held = [_encode(tokenizer, e) for e in examples], [_encode(tokenizer, v) for v in validation]
    lora = {
        "r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets),
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "lora") % 2**63)
        with quiet():
            model = get_peft_model(base, LoraConfig(**lora, task_type="CAUSAL_LM"))
        result = _loop(model, rows, held, settings, seed, tokenizer.pad_token_id)
    adapter = save(result.pop("best"), metadata={"lora": json.dumps(lora, sort_keys=True)})
    return Training(adapter, time.perf_counter() - started, **result)


def _loop(
    model: Any, rows: list[tuple[list[int], list[int]]], held: list[tuple[list[int], list[int]]], settings: LoraSettings,
    seed: int, pad: int,
) -> dict[str, Any]:  # fmt: skip
    import torch

    from experiments.seeds import generator

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate)
    group = settings.batch_size * settings.accumulation
    steps = settings.epochs * -(-len(rows) // group)
    rising = max(1, round(settings.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / rising))
    rng = generator(seed, "lora-order")
    train_loss: list[float] = []
    validation_loss = [_mean_loss(model, held, pad, settings.batch_size)] if held else []
    best, best_epoch, tokens = _snapshot(model), 0, 0
    for epoch in range(1, settings.epochs + 1):
        model.train()
        order, total = [rows[i] for i in rng.permutation(len(rows))], 0.0
        for i in range(0, len(order), group):
            # Batches of one step add up to the same gradient however they are cut; rows of like length need no padding.
            step = sorted(order[i : i + group], key=lambda row: len(row[0]))
            in_step = _completion_tokens(step)
            for j in range(0, len(step), settings.batch_size):
                part = step[j : j + settings.batch_size]
                loss = _loss(model, part, pad)
                (loss / in_step).backward()
                total += loss.item()
                tokens += sum(len(ids) for ids, _ in part)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        train_loss.append(total / _completion_tokens(rows))
        if held:
            validation_loss.append(_mean_loss(model, held, pad, settings.batch_size))
        if not held or validation_loss[-1] < min(validation_loss[:-1]):
            best, best_epoch = _snapshot(model), epoch
        elif settings.patience is not None and epoch - best_epoch >= settings.patience:
            break
    return {
        "best": best, "tokens": tokens, "train_loss": train_loss, "validation_loss": validation_loss, "best_epoch": best_epoch,
    }  # fmt: skip
