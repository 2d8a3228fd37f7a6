"""Scoring and generation through transformers, in float32 on the CPU."""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from experiments.backends.base import Reply, Scores, Unavailable
from experiments.backends.catalog import digest_of, language_model_file
from experiments.backends.quiet import quiet
from experiments.environment import lab_home

# SmolLM2 was trained with 8,192 positions; 2,048 keeps a prompt under five seconds on two cores (measured).
WINDOW_TOKENS = 2048
INSTALL = "install it: pip install torch==2.13.0 && pip install '.[weak]'"


def _converted(name: str) -> Path:
    """The folder with the model as safetensors, made once from its GGUF file; safe when two processes make it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = language_model_file(name)
    target = lab_home() / "models" / f"{name}-{digest_of(name)[:16]}"
    if target.is_dir():
        return target
    making = target.with_name(f"{target.name}.making-{os.getpid()}")
    model = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype="float32")
    # The weights are plain numbers by now; with this left in, loading would ask for the GGUF file again.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(making)
    AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name).save_pretrained(making)
    try:
        making.rename(target)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def load_base(name: str) -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer).

    Raises:
        Unavailable: torch, transformers or gguf is missing.
        LabError: the model's package is not installed.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise Unavailable(f"{error}; {INSTALL}") from error
    torch.set_num_threads(
        max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    )
    with quiet():
        try:
            folder = _converted(name)
        except ImportError as error:
            raise Unavailable(f"{str(error).strip().partition(chr(10))[0]}; {INSTALL}") from error
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype="float32", attn_implementation="sdpa")
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def token_counter(name: str) -> tuple[Callable[[str], int], int]:
    """(tokens of a text, tokens that fit in a prompt) of model `name`; its weights are not loaded.

    Raises:
        Unavailable: transformers or gguf is missing.
        LabError: the model's package is not installed.
    """
    source = language_model_file(name)
    try:
        with quiet():
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    except ImportError as error:
        raise Unavailable(f"{str(error).strip().partition(chr(10))[0]}; {INSTALL}") from error
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
    length = int.from_bytes(content[:8], "little")
    settings = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["lora"])
    with quiet():
        tuned = get_peft_model(model, LoraConfig(**settings, task_type="CAUSAL_LM"))
    set_peft_model_state_dict(tuned, load(content))
    return tuned.merge_and_unload().eval()


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

        noise = [-torch.empty(scores.shape[1]).exponential_(generator=g).log() for g in self._generators]
        return scores.float() / self._temperature + torch.stack(noise)


class TransformersModel:
    """One causal language model on this host, tuned or not."""

    def __init__(self, name: str, adapter: bytes | None = None) -> None:
        self.name = name
        self.window = WINDOW_TOKENS
        self._model, self._tokenizer = load_base(name)
        self._start: tuple[list[int], Any] | None = None  # tokens and key/value cache of the last sampled start
        if adapter is not None:
            self._model = with_adapter(self._model, adapter)

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text).input_ids)

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        import torch

        started = time.perf_counter()
        ids = self._tokenizer(prompt, return_tensors="pt").input_ids
        encoded = [self._tokenizer(o, add_special_tokens=False).input_ids for o in options]
        longest = max(len(e) for e in encoded)
        pad = self._tokenizer.pad_token_id
        rows = torch.tensor([e + [pad] * (longest - len(e)) for e in encoded])
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
        self, prompts: Sequence[str], max_new_tokens: int, *, chat: bool = False, stop: str = "",
        temperature: float = 0.0, seeds: Sequence[int] = (),
    ) -> list[Reply]:  # fmt: skip
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
        import torch

        if len(seeds) != len(texts):
            raise ValueError(f"{len(seeds)} seeds for {len(texts)} prompts")
        rows = self._tokenizer(list(texts), add_special_tokens=special).input_ids
        # One token must be left to compute, or there is nothing to continue from.
        alike = takewhile(lambda column: len(set(column)) == 1, zip(*(row[:-1] for row in rows), strict=False))
        common = [column[0] for column in alike]
        pad = [len(max(rows, key=len)) - len(row) for row in rows]
        fill, start = self._tokenizer.pad_token_id, len(common)
        batch = {
            "input_ids": torch.tensor([common + [fill] * n + r[start:] for r, n in zip(rows, pad, strict=True)]),
            "attention_mask": torch.tensor(
                [[1] * start + [0] * n + [1] * (len(r) - start) for r, n in zip(rows, pad, strict=True)]
            ),
        }
        extra: dict[str, Any] = {"logits_processor": [_Sampler(temperature, seeds)]}
        if start:
            if self._start is None or self._start[0] != common:
                first = self._model(input_ids=torch.tensor([common]), use_cache=True, logits_to_keep=1)
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

        ids = self._tokenizer(text, return_tensors="pt").input_ids[:, : self.window]
        with torch.inference_mode():
            logits = self._model(input_ids=ids).logits.float()
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")
        return float(loss), ids.shape[1] - 1
