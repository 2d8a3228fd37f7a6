"""LoRA training through MLX: settings, masks, order and file of peft, so that each loads what the other trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
)
from experiments.backends.mlx_lm_engine import adapted_layers, described, load_base, to_peft
from experiments.backends.transformers_lm import WINDOW_TOKENS
from experiments.precision import Precision
from experiments.seeds import seed_for


class _MlxTuner:
    """An mlx-lm model with adapters, and its optimizer: torch's AdamW in MLX."""

    def __init__(self, model: Any, pad: int) -> None:
        import mlx.nn as nn
        import mlx.optimizers as optim

        self._model, self._pad = model, pad
        self._optimizer = optim.AdamW(learning_rate=0.0, weight_decay=0.01, bias_correction=True)
        self._value_and_grad = nn.value_and_grad(model, self._loss)

    def _loss(self, model: Any, rows: Sequence[Row]) -> Any:
        """Return the negative log-likelihood of the completions, summed over their tokens."""
        import mlx.core as mx
        import mlx.nn as nn

        longest, start = max(len(row.ids) for row in rows), first_learned(rows) - 1
        # Padding stands at the end, where no token before it can see it.
        inputs = mx.array([row.ids + [self._pad] * (longest - len(row.ids)) for row in rows])
        labels = mx.array([row.labels + [IGNORED] * (longest - len(row.labels)) for row in rows])[:, start + 1 :]
        logits = model(inputs)[:, start:-1].astype(mx.float32)
        losses = nn.losses.cross_entropy(logits, mx.maximum(labels, 0))
        return (losses * (labels != IGNORED)).sum()

    def step(self, batches: Sequence[Sequence[Row]], learning_rate: float) -> float:
        import mlx.core as mx
        from mlx.utils import tree_map

        self._model.train()
        self._optimizer.learning_rate = learning_rate
        learned, total, summed = sum(completion_tokens(batch) for batch in batches), 0.0, None
        for batch in batches:
            loss, grads = self._value_and_grad(self._model, batch)
            grads = tree_map(lambda g: g / learned, grads)
            summed = grads if summed is None else tree_map(lambda a, b: a + b, summed, grads)
            mx.eval(loss, summed)
            total += loss.item()
        self._optimizer.update(self._model, summed)
        mx.eval(self._model.trainable_parameters(), self._optimizer.state)
        return total

    def mean_loss(self, rows: Sequence[Row], size: int) -> float:
        self._model.eval()
        total = sum(self._loss(self._model, batch).item() for batch in by_length(rows, size))
        return float(total / completion_tokens(rows))

    def snapshot(self) -> dict[str, Any]:
        import mlx.core as mx
        import numpy as np
        from mlx.utils import tree_flatten

        found = tree_flatten(self._model.trainable_parameters())
        return {to_peft(k): np.ascontiguousarray(np.array(v.astype(mx.float32)).T) for k, v in found}


class MlxTrainer:
    """Implements LoraTrainer through MLX."""

    def __init__(self, name: str, precision: Precision = Precision.FLOAT32) -> None:
        self._name, self._precision = name, precision

    def describe(self) -> dict[str, str]:
        return {"engine": "mlx-lm"}

    def train(
        self,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
    ) -> Training:
        model, tokenizer, precision = load_base(self._name, self._precision)
        import mlx.core as mx
        from safetensors.numpy import save

        started = time.perf_counter()
        mx.random.seed(seed_for(seed, "lora") % 2**63)
        adapted_layers(model, peft_settings(settings))
        # Padding is never read, so any token will do.
        pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        rows, held_out = ([encode(tokenizer, p, WINDOW_TOKENS) for p in pairs] for pairs in (examples, validation))
        course = fit(_MlxTuner(model, pad), rows, held_out, settings, seed)
        return replace(course.training(save, settings, started), engine=described(model, precision))
