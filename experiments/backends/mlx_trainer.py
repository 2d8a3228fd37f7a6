"""LoRA training through MLX: the same settings, masks, order and file as peft's, so that either loads what the other made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from experiments.backends.lora import (
    LoraSettings,
    Row,
    Training,
    by_length,
    completion_tokens,
    encode,
    first_learned,
    fit,
    header,
    peft_settings,
)
from experiments.backends.mlx_lm_engine import adapted_layers, described, load_base, to_peft
from experiments.backends.sizing import Held
from experiments.backends.transformers_lm import WINDOW_TOKENS
from experiments.seeds import seed_for

IGNORED = -100  # a label that is not learned, as torch has it


class MlxTuner:
    """An mlx-lm model with adapters, and its optimizer: torch's AdamW in MLX."""

    def __init__(self, model: Any, pad: int) -> None:
        import mlx.nn as nn
        import mlx.optimizers as optim

        self._model, self._pad = model, pad
        self._optimizer = optim.AdamW(learning_rate=0.0, weight_decay=0.01, bias_correction=True)
        self._value_and_grad = nn.value_and_grad(model, self._loss)

    def _loss(self, model: Any, rows: Sequence[Row]) -> Any:
        """Negative log-likelihood of the completions, summed over their tokens."""
        import mlx.core as mx
        import mlx.nn as nn

        longest, start = max(len(ids) for ids, _ in rows), first_learned(rows) - 1
        # Padding stands at the end, where no token before it can see it.
        inputs = mx.array([ids + [self._pad] * (longest - len(ids)) for ids, _ in rows])
        labels = mx.array([own + [IGNORED] * (longest - len(own)) for _, own in rows])[:, start + 1 :]
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


def tune(
    model: Any,
    tokenizer: Any,
    held: Held,
    examples: Sequence[tuple[str, str]],
    validation: Sequence[tuple[str, str]],
    settings: LoraSettings,
    seed: int,
) -> Training:
    """Train an adapter for a loaded model, which gets it; arguments and result as peft_trainer.train's."""
    import mlx.core as mx
    from safetensors.numpy import save

    started = time.perf_counter()
    mx.random.seed(seed_for(seed, "lora") % 2**63)
    adapted_layers(model, peft_settings(settings))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    rows, kept = ([encode(tokenizer, pair, WINDOW_TOKENS) for pair in pairs] for pairs in (examples, validation))
    result = fit(MlxTuner(model, pad), rows, kept, settings, seed)
    adapter = save(result.pop("best"), metadata=header(settings))
    return Training(adapter, time.perf_counter() - started, engine=described(model, held), **result)


class MlxTrainer:
    """LoRA for one model through MLX."""

    def __init__(self, name: str, quantized: bool, chosen: str) -> None:
        self._name, self._quantized, self._chosen = name, quantized, chosen

    def describe(self) -> dict[str, str]:
        return {"engine": "mlx-lm", "chosen": self._chosen}

    def train(
        self,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
    ) -> Training:
        model, tokenizer, held = load_base(self._name, self._quantized)
        found = tune(model, tokenizer, held, examples, validation, settings, seed)
        found.engine["chosen"] = self._chosen
        return found
