"""Score and generate through mlx-lm: Apple Silicon's own engine, and the same code on Linux's processors."""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from experiments.backends import placement, weights
from experiments.backends.answer_end import end_tokens, spelling, with_ends
from experiments.backends.lora import settings_in
from experiments.backends.protocols import NO_CHAT, THINKING, Reply, Scores, TextLoss, Unavailable, seeds_for
from experiments.backends.quiet import quiet
from experiments.backends.transformers_lm import WINDOW_TOKENS
from experiments.precision import QUANTISED, Precision

INSTALL = "pip install mlx-lm" if sys.platform == "darwin" else "pip install 'mlx[cpu]' mlx-lm"
BITS = {Precision.INT8: 8, Precision.FOUR_BIT: 4}
GROUP = 64  # numbers that share a scale when quantised (mlx-lm's default)
PREFIX = "base_model.model."  # of peft's names


class MlxLoaded(NamedTuple):
    """An mlx-lm model in evaluation mode, its transformers tokenizer, and its precision."""

    model: Any
    tokenizer: Any
    precision: Precision


def is_quantised(name: str) -> bool:
    """Return True if the weights are quantised in MLX's own format. Raises LabError when this machine does not have them."""
    path = weights.source(name)
    return path.is_dir() and "quantization" in json.loads((path / "config.json").read_text("utf-8"))


def load_base(name: str, precision: Precision = Precision.FLOAT32) -> MlxLoaded:
    """Load a model without adapter.

    Raises:
        Unavailable: mlx, mlx-lm or a library that converts the weights is missing.
        LabError: this machine does not have the model, or cannot compute in this precision.
    """
    placement.exact_float32()
    try:
        import mlx.core as mx
        from mlx_lm.utils import load_model, quantize_model
    except ImportError as error:
        raise Unavailable(f"{error}; install it: {INSTALL}") from error
    folder = weights.folder(name)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if precision is not Precision.STORED:
        placement.check(placement.refusal(name, weights.size(name), precision, placement.memory_gb("cpu")))
    tokenizer: Any = weights.tokenizer_of(name)
    with quiet():
        # Lazy: each matrix is read when it is quantised, so that the full model is never in memory.
        model, config = load_model(folder, lazy=True, model_config=rotation(config))
        if precision is not Precision.STORED:
            model.set_dtype(mx.bfloat16 if precision is Precision.BFLOAT16 else mx.float32)
        if precision in BITS:
            model, _ = quantize_model(model, config, GROUP, BITS[precision])
    mx.eval(model.parameters())
    model.eval()
    return MlxLoaded(model, tokenizer, precision)


def rotation(config: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary embedding by mlx-lm's names, where the configuration has those of transformers 5.

    mlx-lm 0.32 ignores `rope_parameters` and would take a base of 10,000 without a warning: 0.6 nats off for SmolLM2.
    """
    found = config.get("rope_parameters")
    if not isinstance(found, dict) or "rope_theta" in config:
        return {}
    base = {"rope_theta": found["rope_theta"]} if "rope_theta" in found else {}
    return base if found.get("rope_type", "default") == "default" else {**base, "rope_scaling": found}


def adapted_layers(model: Any, settings: dict[str, Any]) -> Any:
    """Return `model` with an adapter beside each matrix that peft's `settings` name, the rest frozen."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model.freeze()
    names = {path for path, _ in model.layers[0].named_modules() if path.split(".")[-1] in settings["target_modules"]}
    lora = {"rank": settings["r"], "scale": settings["lora_alpha"] / settings["r"], "dropout": settings["lora_dropout"]}
    linear_to_lora_layers(model, len(model.layers), {**lora, "keys": names})
    return model


def to_peft(path: str) -> str:
    """Return peft's name for mlx-lm's name of an adapter's matrix; peft's matrix is the transpose."""
    return f"{PREFIX}{path.replace('.lora_a', '.lora_A.weight').replace('.lora_b', '.lora_B.weight')}"


def from_peft(name: str) -> str:
    """Return mlx-lm's name for peft's name of an adapter's matrix."""
    plain = name.removeprefix(PREFIX).removesuffix(".weight")
    return plain.replace(".lora_A", ".lora_a").replace(".lora_B", ".lora_b")


def with_adapter(model: Any, content: bytes) -> Any:
    """Return `model` with an adapter (safetensors, peft's names) merged into its weights in float32, else beside them."""
    import mlx.core as mx
    from mlx.utils import tree_unflatten
    from safetensors.numpy import load

    adapted_layers(model, settings_in(content))
    model.load_weights([(from_peft(k), mx.array(v.T)) for k, v in load(content).items()], strict=False)
    fused = [
        (path, module.fuse())
        for path, module in model.named_modules()
        if hasattr(module, "lora_a") and module.linear.weight.dtype == mx.float32
    ]
    if fused:
        model.update_modules(tree_unflatten(fused))
    mx.eval(model.parameters())
    model.eval()
    return model


class MlxModel:
    """One causal language model through mlx-lm, tuned or not."""

    scores = True

    def __init__(self, name: str, adapter: bytes | None = None, precision: Precision = Precision.FLOAT32) -> None:
        self.name, self.window = name, WINDOW_TOKENS
        self.model, self.tokenizer, self._precision = load_base(name, precision)
        self._ends = end_tokens(self.tokenizer)
        if adapter is not None:
            self.model = with_adapter(self.model, adapter)

    def describe(self) -> dict[str, str]:
        return described(self.model, self._precision)

    def digest(self) -> str:
        return weights.digest(self.name)

    def count_tokens(self, text: str) -> int:
        return len(self.tokenizer(text).input_ids)

    def _read(self, ids: Sequence[int], cache: Any) -> Any:
        """Return log-probabilities after each of `ids`, shape (len(ids), vocabulary); `ids` are added to the cache."""
        import mlx.core as mx
        import mlx.nn as nn

        return nn.log_softmax(self.model(mx.array([list(ids)]), cache=cache)[0].astype(mx.float32), axis=-1)

    def _prefilled(self, ids: Sequence[int]) -> Any:
        """Return the cache of `ids`; MLX is lazy, so no position's logits are computed."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(self.model)
        if ids:
            self.model(mx.array([list(ids)]), cache=cache)
            mx.eval([c.state for c in cache])
        return cache

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        import mlx.core as mx

        started = time.perf_counter()
        ids = self.tokenizer(prompt).input_ids
        spelt = [spelling(self.tokenizer, o) for o in options]
        cache = self._prefilled(ids[:-1])
        first = self._read(ids[-1:], cache)[-1]
        sums, ends = list[float](), list[float]()
        for tokens in [s.plain for s in spelt] + [tokens for s in spelt for tokens in s.ended]:
            after = self._read(tokens, copy.deepcopy(cache))
            sums.append(first[tokens[0]].item() + sum(after[i, t].item() for i, t in enumerate(tokens[1:])))
            if len(ends) < len(spelt):
                ends.append(float(mx.logsumexp(after[-1][mx.array(self._ends)]).item()))  # type: ignore[arg-type]
        tokens_out = sum(len(s.plain) for s in spelt)
        return Scores(with_ends(spelt, sums, ends), len(ids), tokens_out, time.perf_counter() - started)

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
        own = seeds_for(prompts, temperature, seeds)
        return [self._reply(p, max_new_tokens, chat, stop, temperature, s) for p, s in zip(prompts, own, strict=True)]

    def _reply(self, prompt: str, most: int, chat: bool, stop: str, temperature: float, seed: int) -> Reply:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        started = time.perf_counter()
        if chat and not self.tokenizer.chat_template:
            raise Unavailable(NO_CHAT.format(self.name))
        if chat:
            message = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(prompt, add_special_tokens=not chat).input_ids
        written: list[int] = []
        for token, _ in generate_step(mx.array(ids), self.model, max_tokens=most, sampler=_sampler(temperature, seed)):
            if int(token) == self.tokenizer.eos_token_id:
                break
            written.append(int(token))
            if stop and stop in self.tokenizer.decode(written):
                break
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        if chat and prompt.rstrip().endswith(THINKING):
            text = f"{THINKING}{text}"  # templates of some models open the thinking themselves
        took = time.perf_counter() - started
        return Reply(text.split(stop)[0] if stop else text, len(ids), len(written), took)

    def negative_log_likelihood(self, text: str) -> TextLoss:
        import mlx.core as mx

        ids = self.tokenizer(text).input_ids[: self.window]
        after = self._read(ids[:-1], self._prefilled([]))
        picked: Any = mx.take_along_axis(after, mx.array(ids[1:])[:, None], axis=1)
        return TextLoss(-float(picked.sum().item()), len(ids) - 1)


def described(model: Any, precision: Precision) -> dict[str, str]:
    """Return what a model or a trainer of this engine says in describe()."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    dtype = str(next(v for _, v in tree_flatten(model.parameters()) if v.dtype != mx.uint32).dtype).rpartition(".")[2]
    return {
        "engine": "mlx-lm",
        "version": version("mlx-lm"),
        "mlx": version("mlx"),
        "device": mx.default_device().type.name,
        "numbers": f"{precision}, {dtype}" if precision in (*QUANTISED, Precision.STORED) else dtype,
    }


def _sampler(temperature: float, seed: int) -> Callable[[Any], Any]:
    """Return a sampler: the most likely token, or the largest of logprobs / T + Gumbel noise, which the seed alone decides."""
    import mlx.core as mx

    state = [mx.random.key(seed % 2**63)]

    def sample(logprobs: Any) -> Any:
        if temperature <= 0:
            return mx.argmax(logprobs, axis=-1)
        state[0], now = mx.random.split(state[0])
        return mx.argmax(logprobs / temperature + mx.random.gumbel(logprobs.shape, key=now), axis=-1)

    return sample
