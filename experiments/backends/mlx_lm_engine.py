"""Scoring and generation through mlx-lm: Apple Silicon's own engine, and the same code on Linux's processors."""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.errors import LabError
from experiments.backends import weights
from experiments.backends.lora import settings_in
from experiments.backends.placing import memory_gb, version
from experiments.backends.protocols import Reply, Scores, Unavailable
from experiments.backends.quiet import quiet
from experiments.backends.sizing import GB, Held, choose
from experiments.backends.transformers_lm import WINDOW_TOKENS

INSTALL = "pip install mlx-lm" if sys.platform == "darwin" else "pip install 'mlx[cpu]' mlx-lm"
BITS = {"8-bit": 8, "4-bit": 4}
GROUP = 64  # numbers that share a scale when quantised (mlx-lm's default)
PREFIX = "base_model.model."  # of peft's names


def load_base(name: str, quantized: bool = False) -> tuple[Any, Any, Held]:
    """(mlx model in evaluation mode, transformers' tokenizer, how it is held).

    Raises:
        Unavailable: mlx, mlx-lm or what converts the weights is missing.
        LabError: the model is not here, or too big for this machine.
    """
    try:
        import mlx.core as mx
        from mlx_lm.utils import load_model, quantize_model
    except ImportError as error:
        raise Unavailable(f"{error}; install it: {INSTALL}") from error
    folder = weights.folder_quietly(name)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    held: Held = "full" if "quantization" in config else _held(name, quantized)
    tokenizer: Any = weights.tokenizer_of(name)
    with quiet():
        # Lazily: what is quantised is read matrix by matrix, and the full model never stands in memory.
        model, config = load_model(Path(folder), lazy=True, model_config=rotation(config))
        if held in BITS:
            model, _ = quantize_model(model, config, GROUP, BITS[held])
    mx.eval(model.parameters())
    model.eval()
    return model, tokenizer, held


def rotation(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary embedding in the words of mlx-lm, where the configuration has it in those of transformers 5.

    mlx-lm 0.32 does not know `rope_parameters` and would take a base of 10,000 in silence: 0.6 nats off for SmolLM2.
    """
    found = config.get("rope_parameters")
    if not isinstance(found, dict) or "rope_theta" in config:
        return {}
    base = {"rope_theta": found["rope_theta"]} if "rope_theta" in found else {}
    return base if found.get("rope_type", "default") == "default" else {**base, "rope_scaling": found}


def _held(name: str, quantized: bool) -> Held:
    found = choose(weights.size(name), memory_gb("cpu"), quantized=quantized)
    if found == "too big":
        raise LabError(f"model {name!r} is too big for this machine, even in 4-bit", "lab doctor names what is here")
    return found


def gemm_gflops(n: int = 256, rounds: int = 3) -> float:
    """The best rate of a few matrix products through MLX, in 10^9 operations a second; a warm-up is not counted."""
    import mlx.core as mx

    a, best = mx.ones((n, n)), 0.0
    for turn in range(rounds + 1):
        started = time.perf_counter()
        mx.eval(a @ a)
        best = max(best, 2 * n**3 / (time.perf_counter() - started) / GB) if turn else 0.0
    return best


def adapted_layers(model: Any, settings: dict[str, Any]) -> Any:
    """`model` with an adapter beside each matrix that peft's `settings` name, the rest frozen."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model.freeze()
    names = {path for path, _ in model.layers[0].named_modules() if path.split(".")[-1] in settings["target_modules"]}
    lora = {"rank": settings["r"], "scale": settings["lora_alpha"] / settings["r"], "dropout": settings["lora_dropout"]}
    linear_to_lora_layers(model, len(model.layers), {**lora, "keys": names})
    return model


def to_peft(path: str) -> str:
    """mlx-lm's name of an adapter's matrix as peft has it; peft's is its transpose."""
    return f"{PREFIX}{path.replace('.lora_a', '.lora_A.weight').replace('.lora_b', '.lora_B.weight')}"


def from_peft(name: str) -> str:
    """The other way."""
    plain = name.removeprefix(PREFIX).removesuffix(".weight")
    return plain.replace(".lora_A", ".lora_a").replace(".lora_B", ".lora_b")


def with_adapter(model: Any, content: bytes) -> Any:
    """`model` with an adapter of ours (safetensors, peft's names) merged into its weights, or beside quantised ones."""
    import mlx.core as mx
    from mlx.utils import tree_unflatten
    from safetensors.numpy import load

    adapted_layers(model, settings_in(content))
    model.load_weights([(from_peft(k), mx.array(v.T)) for k, v in load(content).items()], strict=False)
    fused = [
        (path, module.fuse())
        for path, module in model.named_modules()
        if hasattr(module, "lora_a") and not hasattr(module.linear, "bits")
    ]
    if fused:
        model.update_modules(tree_unflatten(fused))
    mx.eval(model.parameters())
    model.eval()
    return model


class MlxModel:
    """One causal language model through mlx-lm, tuned or not."""

    scores = True

    def __init__(self, name: str, adapter: bytes | None = None, quantized: bool = False) -> None:
        self.name, self.window = name, WINDOW_TOKENS
        self._model, self._tokenizer, self._held = load_base(name, quantized)
        if adapter is not None:
            self._model = with_adapter(self._model, adapter)

    def describe(self) -> dict[str, str]:
        return described(self._model, self._held)

    def digest(self) -> str:
        return weights.digest(self.name)

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text).input_ids)

    def _read(self, ids: Sequence[int], cache: Any) -> Any:
        """Log-probabilities after each of `ids`, shape (len(ids), vocabulary); the cache goes on."""
        import mlx.core as mx
        import mlx.nn as nn

        return nn.log_softmax(self._model(mx.array([list(ids)]), cache=cache)[0].astype(mx.float32), axis=-1)

    def _prefilled(self, ids: Sequence[int]) -> tuple[Any, Any]:
        """(cache, log-probabilities after the last of `ids`); MLX is lazy, so no other position's logits are made."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(self._model)
        if len(ids) > 1:
            self._model(mx.array([list(ids[:-1])]), cache=cache)
            mx.eval([c.state for c in cache])
        return cache, self._read(ids[-1:], cache)[-1]

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        started = time.perf_counter()
        ids = self._tokenizer(prompt).input_ids
        encoded = [self._tokenizer(o, add_special_tokens=False).input_ids for o in options]
        cache, first = self._prefilled(ids)
        sums = []
        for tokens in encoded:
            total = first[tokens[0]].item()
            if len(tokens) > 1:
                after = self._read(tokens[:-1], copy.deepcopy(cache))
                total += sum(after[i, t].item() for i, t in enumerate(tokens[1:]))
            sums.append(total)
        return Scores(tuple(sums), len(ids), sum(map(len, encoded)), time.perf_counter() - started)

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
        if temperature > 0 and len(seeds) != len(prompts):
            raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts")
        own = list(seeds) if temperature > 0 else [0] * len(prompts)
        return [self._say(p, max_new_tokens, chat, stop, temperature, s) for p, s in zip(prompts, own, strict=True)]

    def _say(self, prompt: str, most: int, chat: bool, stop: str, temperature: float, seed: int) -> Reply:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        started = time.perf_counter()
        if chat:
            message = [{"role": "user", "content": prompt}]
            prompt = self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        ids = self._tokenizer(prompt, add_special_tokens=not chat).input_ids
        said: list[int] = []
        for token, _ in generate_step(mx.array(ids), self._model, max_tokens=most, sampler=_sampler(temperature, seed)):
            if int(token) == self._tokenizer.eos_token_id:
                break
            said.append(int(token))
            if stop and stop in self._tokenizer.decode(said):
                break
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        took = time.perf_counter() - started
        return Reply(text.split(stop)[0] if stop else text, len(ids), len(said), took)

    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        ids = self._tokenizer(text).input_ids[: self.window]
        after = self._read(ids[:-1], make_prompt_cache(self._model))
        picked: Any = mx.take_along_axis(after, mx.array(ids[1:])[:, None], axis=1)
        return -float(picked.sum().item()), len(ids) - 1


def described(model: Any, held: Held) -> dict[str, str]:
    """What computes, for a model's or a trainer's describe()."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    dtype = str(next(v for _, v in tree_flatten(model.parameters()) if v.dtype != mx.uint32).dtype).rpartition(".")[2]
    return {
        "engine": "mlx-lm",
        "version": version("mlx-lm"),
        "mlx": version("mlx"),
        "device": mx.default_device().type.name,
        "numbers": dtype if held == "full" else f"{held}, {dtype}",
    }


def _sampler(temperature: float, seed: int) -> Callable[[Any], Any]:
    """The most likely token, or a draw: the largest of logprobs / T + Gumbel noise; the noise is the seed's alone."""
    import mlx.core as mx

    state = [mx.random.key(seed % 2**63)]

    def sample(logprobs: Any) -> Any:
        if temperature <= 0:
            return mx.argmax(logprobs, axis=-1)
        state[0], now = mx.random.split(state[0])
        return mx.argmax(logprobs / temperature + mx.random.gumbel(logprobs.shape, key=now), axis=-1)

    return sample
