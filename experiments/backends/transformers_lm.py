"""Scoring and generation through transformers, on the device and in the numbers that suit the machine and the model."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from experiments.backends import weights
from experiments.backends.lora import settings_in
from experiments.backends.placing import QUANTISER, Placement, how_to_quantise, place, use_real_cores, version
from experiments.backends.protocols import Reply, Scores, Unavailable
from experiments.backends.quiet import quiet

# SmolLM2 was trained with 8,192 positions; 2,048 keeps a prompt under five seconds on two cores (measured).
WINDOW_TOKENS = 2048


def load_base(name: str, quantized: bool = False) -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer); the model's `placed` says where and how it is held.

    Raises:
        Unavailable: torch, transformers or gguf is missing, or what quantises.
        LabError: the model is not here, or too big for this machine.
    """
    try:
        import torch  # noqa: F401 - before transformers, which goes on without it
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise Unavailable(f"{error}; {weights.INSTALL}") from error
    use_real_cores()
    placed = place(name, weights.size(name), quantized)
    folder = str(weights.folder_quietly(name))
    more = how_to_quantise(placed)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=placed.dtype, attn_implementation="sdpa", use_safetensors=True, **more
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if placed.device != "cpu" and not more:
        model = model.to(placed.device)
    model.placed = placed
    return model.eval(), tokenizer


def described(placed: Placement, trainer: str = "") -> dict[str, str]:
    """What computes, for a model's or a trainer's describe()."""
    held = placed.dtype if placed.held == "full" else f"{placed.held} {QUANTISER}, {placed.dtype}"
    engine = {"engine": trainer or "transformers", "version": version(trainer or "transformers")}
    return {**engine, "torch": version("torch"), "device": placed.device, "numbers": held}


def token_counter(name: str) -> tuple[Callable[[str], int], int]:
    """(tokens of a text, tokens that fit in a prompt) of model `name`; its weights are not loaded.

    Raises:
        Unavailable: transformers or gguf is missing.
        LabError: the model is not here.
    """
    tokenizer: Any = weights.tokenizer_of(name)
    return lambda text: len(tokenizer(text).input_ids), WINDOW_TOKENS


def with_adapter(model: Any, content: bytes) -> Any:
    """`model` with the LoRA adapter in `content` (safetensors, settings in its header) merged into its weights.

    Raises:
        Unavailable: peft is missing.
    """
    try:
        from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
        from safetensors.torch import load
    except ImportError as error:
        raise Unavailable(f"{error}; install it: pip install '.[strong]'") from error
    settings = settings_in(content)
    with quiet():
        tuned = get_peft_model(model, LoraConfig(**settings, task_type="CAUSAL_LM"))
    set_peft_model_state_dict(tuned, load(content))
    # Merged into 8 or 4 bits it would be rounded; beside them it costs a little time.
    full = model.placed.held == "full"
    return (tuned.merge_and_unload() if full else tuned).eval()


class _Sampler:
    """Turns greedy decoding into sampling: the largest of logits / T + Gumbel noise is a draw from softmax(logits / T).

    Each row has a generator of its own, so that its text does not depend on its neighbours in the batch.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        import torch

        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        # Drawn on the processor, whose generators are the same on every machine.
        noise = [-torch.empty(scores.shape[1]).exponential_(generator=g).log() for g in self._generators]
        return scores.float() / self._temperature + torch.stack(noise).to(scores.device)


class TransformersModel:
    """One causal language model on this host, tuned or not."""

    scores = True

    def __init__(self, name: str, adapter: bytes | None = None, quantized: bool = False) -> None:
        self.name = name
        self._model, self._tokenizer = load_base(name, quantized)
        self.window = min(WINDOW_TOKENS, self._model.config.max_position_embeddings)
        self._placed: Placement = self._model.placed
        self._start: tuple[list[int], Any] | None = None  # tokens and key/value cache of the last sampled start
        if adapter is not None:
            self._model = with_adapter(self._model, adapter)

    def describe(self) -> dict[str, str]:
        return described(self._placed)

    def digest(self) -> str:
        return weights.digest(self.name)

    def _ids(self, rows: list[list[int]]) -> Any:
        import torch

        return torch.tensor(rows, device=self._placed.device)

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text).input_ids)

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        import torch

        started = time.perf_counter()
        ids = self._ids([self._tokenizer(prompt).input_ids])
        encoded = [self._tokenizer(o, add_special_tokens=False).input_ids for o in options]
        longest = max(len(e) for e in encoded)
        pad = self._tokenizer.pad_token_id
        rows = self._ids([e + [pad] * (longest - len(e)) for e in encoded])
        with torch.inference_mode():
            # One prefill with the last position's logits only; then all options as one small batch on its cache.
            first = self._model(input_ids=ids, use_cache=True, logits_to_keep=1)
            cache = first.past_key_values
            cache.batch_repeat_interleave(len(options))
            start = torch.log_softmax(first.logits[0, -1].float(), dim=-1)
            later = self._model(input_ids=rows, past_key_values=cache, use_cache=True).logits
            after = torch.log_softmax(later.float(), dim=-1)
        sums = []
        for i, tokens in enumerate(encoded):
            rest = [after[i, j, t].item() for j, t in enumerate(tokens[1:])]
            sums.append(start[tokens[0]].item() + sum(rest))
        # Padding at the end is causal: it cannot reach the tokens before it, so no attention mask is needed.
        return Scores(tuple(sums), ids.shape[1], sum(map(len, encoded)), time.perf_counter() - started)

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
        import torch

        started = time.perf_counter()
        texts = [self._as_chat(p) for p in prompts] if chat else list(prompts)
        extra: dict[str, Any] = {"stop_strings": [stop], "tokenizer": self._tokenizer} if stop else {}
        with torch.inference_mode():
            if temperature > 0:
                batch, more = self._sampling(texts, not chat, temperature, seeds)
                extra |= more
            else:
                self._tokenizer.padding_side = "left"
                batch = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not chat)
            batch = {key: batch[key].to(self._placed.device) for key in ("input_ids", "attention_mask")}
            out = self._model.generate(
                **batch,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
                **extra,
            )
        each = (time.perf_counter() - started) / len(texts)
        replies = []
        for i in range(len(texts)):
            new = out[i, batch["input_ids"].shape[1] :]
            text = self._tokenizer.decode(new, skip_special_tokens=True)
            n_new = int((new != self._tokenizer.pad_token_id).sum())
            replies.append(
                Reply(text.split(stop)[0] if stop else text, int(batch["attention_mask"][i].sum()), n_new, each)
            )
        return replies

    def _sampling(
        self, texts: Sequence[str], special: bool, temperature: float, seeds: Sequence[int]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(input ids and mask, arguments of generate): what all texts start with is computed once and remembered.

        Guesses at one problem share everything but what was tried, so that a round costs little more than its answers.
        """
        if len(seeds) != len(texts):
            raise ValueError(f"{len(seeds)} seeds for {len(texts)} prompts")
        rows = self._tokenizer(list(texts), add_special_tokens=special).input_ids
        # One token must be left to compute, or there is nothing to continue from.
        alike = takewhile(lambda column: len(set(column)) == 1, zip(*(row[:-1] for row in rows), strict=False))
        common = [column[0] for column in alike]
        pad = [len(max(rows, key=len)) - len(row) for row in rows]
        fill, start = self._tokenizer.pad_token_id, len(common)
        batch = {
            "input_ids": self._ids([common + [fill] * n + r[start:] for r, n in zip(rows, pad, strict=True)]),
            "attention_mask": self._ids(
                [[1] * start + [0] * n + [1] * (len(r) - start) for r, n in zip(rows, pad, strict=True)]
            ),
        }
        extra: dict[str, Any] = {"logits_processor": [_Sampler(temperature, seeds)]}
        if start:
            if self._start is None or self._start[0] != common:
                first = self._model(input_ids=self._ids([common]), use_cache=True, logits_to_keep=1)
                self._start = common, first.past_key_values
            extra["past_key_values"] = copy.deepcopy(self._start[1])
            extra["past_key_values"].batch_repeat_interleave(len(rows))
        return batch, extra

    def _as_chat(self, prompt: str) -> str:
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )

    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        import torch

        ids = self._ids([self._tokenizer(text).input_ids[: self.window]])
        with torch.inference_mode():
            logits = self._model(input_ids=ids).logits.float()
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")
        return float(loss), ids.shape[1] - 1
