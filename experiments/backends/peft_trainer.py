"""LoRA training through peft: loss on the completion only, seeded, with early stopping on a validation set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.backends import weights
from experiments.backends.lora import (
    IGNORED,
    LoraSettings,
    Row,
    Training,
    by_length,
    completion_tokens,
    encode,
    first_learned,
    fit,
    peft_settings,
    shared_start,
)
from experiments.backends.placement import place
from experiments.backends.protocols import Unavailable
from experiments.backends.quiet import quiet
from experiments.backends.transformers_lm import INSTALL_PEFT, WINDOW_TOKENS, described, load_base
from experiments.precision import Precision
from experiments.seeds import generator, seed_for


def _batch(rows: Sequence[Row], pad: int, device: Any) -> dict[str, Any]:
    import torch

    longest = max(len(row.ids) for row in rows)
    padded = {
        "input_ids": [row.ids + [pad] * (longest - len(row.ids)) for row in rows],
        "labels": [row.labels + [IGNORED] * (longest - len(row.ids)) for row in rows],
        "attention_mask": [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows],
    }
    return {key: torch.tensor(value, device=device) for key, value in padded.items()}


def summed_loss(model: Any, rows: Sequence[Row], pad: int) -> Any:
    """Return the negative log-likelihood of the completions, summed over their tokens, as a tensor with gradients.

    The common start of all rows, the task's words, is a third of E2's tokens: it is read once, and its keys and values are
    every row's, gradients included (dropout then falls on it alike for all). The vocabulary's 49,152 logits are a fifth of
    the work, so only positions before a learned token get them; from the first learned one to the end of the longest row,
    since a model keeps the last positions of a batch alike.
    """
    import torch

    batch, start, more = _batch(rows, pad, model.device), shared_start(rows), dict[str, Any]()
    ids, labels = batch["input_ids"], batch["labels"]
    if start:
        more["past_key_values"] = model(input_ids=ids[:1, :start], use_cache=True, logits_to_keep=1).past_key_values
        more["past_key_values"].batch_repeat_interleave(len(rows))
    keep = labels.shape[1] - first_learned(rows) + 1
    mask = batch["attention_mask"]
    logits = model(input_ids=ids[:, start:], attention_mask=mask, logits_to_keep=keep, **more).logits[:, :-1]
    learned = labels[:, labels.shape[1] - keep + 1 :]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), learned.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )


class _PeftTuner:
    """A transformers model with an adapter of peft's, and its optimizer."""

    def __init__(self, model: Any, pad: int) -> None:
        import torch

        self._model, self._pad = model, pad
        self._optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])

    def step(self, batches: Sequence[Sequence[Row]], learning_rate: float) -> float:
        self._model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        learned, total = sum(completion_tokens(batch) for batch in batches), 0.0
        for batch in batches:
            loss = summed_loss(self._model, batch, self._pad)
            (loss / learned).backward()
            total += loss.item()
        self._optimizer.step()
        self._optimizer.zero_grad()
        return total

    def mean_loss(self, rows: Sequence[Row], size: int) -> float:
        import torch

        self._model.eval()
        with torch.inference_mode():
            total = sum(summed_loss(self._model, batch, self._pad).item() for batch in by_length(rows, size))
        return float(total / completion_tokens(rows))

    def snapshot(self) -> dict[str, Any]:
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(self._model)
        return {key: value.detach().cpu().clone().contiguous() for key, value in found.items()}


def seed_dropout(model: Any, rng: np.random.Generator) -> None:
    """Draw the adapters' dropout masks from `rng`: what torch draws depends on the processor's maker and the device."""
    import torch

    class Dropout(torch.nn.Module):
        def __init__(self, p: float) -> None:
            super().__init__()
            self.p = p

        def forward(self, x: Any) -> Any:
            if not self.training:
                return x
            kept = torch.from_numpy(rng.random(tuple(x.shape), dtype=np.float32) >= self.p)
            return x * kept.to(x.device) / (1 - self.p)

    for module in model.modules():
        for adapter, dropout in getattr(module, "lora_dropout", {}).items():
            if isinstance(dropout, torch.nn.Dropout):
                module.lora_dropout[adapter] = Dropout(dropout.p)


class PeftTrainer:
    """Implements LoraTrainer through peft."""

    def __init__(self, name: str, precision: Precision = Precision.FLOAT32) -> None:
        self._name, self._precision = name, precision

    def describe(self) -> dict[str, str]:
        return described(place(self._name, weights.size(self._name), self._precision), "peft")

    def train(
        self,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
    ) -> Training:
        try:
            import torch
            from peft import LoraConfig, get_peft_model
            from safetensors.torch import save
        except ImportError as error:
            raise Unavailable(f"{error}; install it: {INSTALL_PEFT}") from error
        started = time.perf_counter()
        base, tokenizer = load_base(self._name, self._precision)
        rows, held_out = ([encode(tokenizer, p, WINDOW_TOKENS) for p in pairs] for pairs in (examples, validation))
        cards = [base.device] if base.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cards):
            torch.manual_seed(seed_for(seed, "lora") % 2**63)
            with quiet():
                model = get_peft_model(base, LoraConfig(**peft_settings(settings), task_type="CAUSAL_LM"))
            seed_dropout(model, generator(seed, "lora-dropout"))
            course = fit(_PeftTuner(model, tokenizer.pad_token_id), rows, held_out, settings, seed)
        return replace(course.training(save, settings, started), engine=self.describe())
