"""Score and generate through transformers, on the device that suits the machine and in the numbers of the plan."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.backends import weights
from experiments.backends.answer_end import end_tokens, spelling, with_ends
from experiments.backends.lora import settings_in
from experiments.backends.placement import (
    QUANTISER,
    Placement,
    exact_float32,
    place,
    quantisation,
    same_on_all_processors,
    use_real_cores,
)
from experiments.backends.protocols import (
    NO_CHAT,
    THINKING,
    Reply,
    Scores,
    TextLoss,
    TokenCounter,
    Unavailable,
    seeds_for,
)
from experiments.backends.quiet import quiet
from experiments.precision import QUANTISED, Precision
from experiments.seeds import generator

# SmolLM2 was trained with 8,192 positions; 2,048 bound a prompt to five seconds on two cores (measured).
WINDOW_TOKENS = 2048
INSTALL_PEFT = "pip install '.[strong]'"


class Loaded(NamedTuple):
    """A transformers model in evaluation mode, its attribute `placed` its Placement, and its tokenizer."""

    model: Any
    tokenizer: Any


def load_base(name: str, precision: Precision = Precision.FLOAT32) -> Loaded:
    """Load a model without adapter.

    Raises:
        Unavailable: torch, transformers or gguf is missing.
        LabError: this machine does not have the model, or cannot compute in this precision.
    """
    with weights.libraries():
        import torch  # noqa: F401 - before transformers, which goes on without it
        from transformers import AutoModelForCausalLM, AutoTokenizer
    exact_float32()
    use_real_cores()
    placed = place(name, weights.size(name), precision)
    folder = str(weights.folder(name))
    more = quantisation(placed)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=placed.dtype, attn_implementation="sdpa", use_safetensors=True, **more
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        # Padding is never read, so any token will do where there is no end token either.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    same_on_all_processors(model)
    if placed.device != "cpu" and not more:
        model = model.to(placed.device)
    model.placed = placed
    return Loaded(model.eval(), tokenizer)


def described(placed: Placement, engine: str = "transformers") -> dict[str, str]:
    """Return what a model or a trainer of this engine says in describe()."""
    quantised = placed.precision in QUANTISED
    numbers = f"{placed.precision} {QUANTISER}, {placed.dtype}" if quantised else placed.dtype
    versions = {"engine": engine, "version": version(engine), "torch": version("torch")}
    return {**versions, "device": placed.device, "numbers": numbers}


def token_counter(name: str) -> TokenCounter:
    """Return the token counter of model `name`; its weights are not loaded.

    Raises:
        Unavailable: transformers or gguf is missing.
        LabError: this machine does not have the model.
    """
    tokenizer: Any = weights.tokenizer_of(name)
    return TokenCounter(lambda text: len(tokenizer(text).input_ids), WINDOW_TOKENS)


def with_adapter(model: Any, content: bytes) -> Any:
    """Return `model` with the LoRA adapter in `content` (safetensors, settings in its header), in float32 merged.

    Raises:
        Unavailable: peft is missing.
    """
    try:
        from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
        from safetensors.torch import load
    except ImportError as error:
        raise Unavailable(f"{error}; install it: {INSTALL_PEFT}") from error
    settings = settings_in(content)
    with quiet():
        tuned = get_peft_model(model, LoraConfig(**settings, task_type="CAUSAL_LM"))
    set_peft_model_state_dict(tuned, load(content))
    # Merged into fewer bits it would be rounded away; beside them it costs a little time.
    exact = model.placed.precision is Precision.FLOAT32
    return (tuned.merge_and_unload() if exact else tuned).eval()


class _Sampler:
    """Turn greedy decoding into sampling: the largest of logits / T + Gumbel noise is a draw from softmax(logits / T).

    Each row has a generator of its own, so that its text does not depend on its neighbours in the batch. They are numpy's:
    what torch draws from an exponential depends on the processor's maker and the device.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._generators = [generator(seed, "tokens") for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        noise = np.stack([g.gumbel(size=scores.shape[1]) for g in self._generators]).astype(np.float32)
        return scores.float() / self._temperature + torch.from_numpy(noise).to(scores.device)


class _Start(NamedTuple):
    """The common start of some texts."""

    tokens: list[int]
    cache: Any  # keys and values


class TransformersModel:
    """One causal language model on this host, tuned or not."""

    scores = True

    def __init__(self, name: str, adapter: bytes | None = None, precision: Precision = Precision.FLOAT32) -> None:
        self.name = name
        self.model, self.tokenizer = load_base(name, precision)
        self.window = min(WINDOW_TOKENS, self.model.config.max_position_embeddings)
        self._placed: Placement = self.model.placed
        self._start: _Start | None = None  # of the last texts sampled
        self._ends = end_tokens(self.tokenizer)
        if adapter is not None:
            self.model = with_adapter(self.model, adapter)

    def describe(self) -> dict[str, str]:
        return described(self._placed)

    def digest(self) -> str:
        return weights.digest(self.name)

    def _ids(self, rows: list[list[int]]) -> Any:
        import torch

        return torch.tensor(rows, device=self._placed.device)

    def count_tokens(self, text: str) -> int:
        return len(self.tokenizer(text).input_ids)

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        import torch

        started = time.perf_counter()
        ids = self._ids([self.tokenizer(prompt).input_ids])
        spelt = [spelling(self.tokenizer, o) for o in options]
        # First the options, which any end may follow; then the spellings that hold their end.
        encoded = [s.plain for s in spelt] + [tokens for s in spelt for tokens in s.ended]
        longest = max(len(e) for e in encoded)
        pad = self.tokenizer.pad_token_id
        rows = self._ids([e + [pad] * (longest - len(e)) for e in encoded])
        with torch.inference_mode():
            # One prefill with the last position's logits only; then all spellings as one small batch on its cache.
            first = self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
            cache = first.past_key_values
            cache.batch_repeat_interleave(len(encoded))
            start = torch.log_softmax(first.logits[0, -1].float(), dim=-1)
            later = self.model(input_ids=rows, past_key_values=cache, use_cache=True).logits
            after = torch.log_softmax(later.float(), dim=-1)
        # Padding at the end is causal: it cannot reach the tokens before it, so no attention mask is needed.
        sums = [
            start[tokens[0]].item() + sum(after[i, j, t].item() for j, t in enumerate(tokens[1:]))
            for i, tokens in enumerate(encoded)
        ]
        ends = [torch.logsumexp(after[i, len(s.plain) - 1, self._ends], 0).item() for i, s in enumerate(spelt)]
        answered = with_ends(spelt, sums, ends)
        tokens_out = sum(len(s.plain) for s in spelt)
        return Scores(answered, ids.shape[1], tokens_out, time.perf_counter() - started)

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

        started, seeds = time.perf_counter(), seeds_for(prompts, temperature, seeds)
        texts = [self.as_chat(p) for p in prompts] if chat else list(prompts)
        stopping: dict[str, Any] = {"stop_strings": [stop], "tokenizer": self.tokenizer} if stop else {}
        with torch.inference_mode():
            if temperature > 0:
                batch = self._sampling(texts, not chat, temperature, seeds)
            else:
                self.tokenizer.padding_side = "left"
                encoded = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not chat)
                batch = {key: encoded[key].to(self._placed.device) for key in ("input_ids", "attention_mask")}
            pad = self.tokenizer.pad_token_id
            out = self.model.generate(
                **batch, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad, **stopping
            )
        each = (time.perf_counter() - started) / len(texts)
        replies = []
        for i in range(len(texts)):
            new = out[i, batch["input_ids"].shape[1] :]
            text = self.tokenizer.decode(new, skip_special_tokens=True)
            if chat and texts[i].rstrip().endswith(THINKING):
                text = f"{THINKING}{text}"  # templates of some models open the thinking themselves
            n_in, n_out = int(batch["attention_mask"][i].sum()), int((new != pad).sum())
            replies.append(Reply(text.split(stop)[0] if stop else text, n_in, n_out, each))
        return replies

    def _sampling(
        self, texts: Sequence[str], special: bool, temperature: float, seeds: Sequence[int]
    ) -> dict[str, Any]:
        """Return arguments of generate; the common start of all texts is computed once and cached.

        Guesses at one problem share everything but the earlier guesses, so that a round costs little more than its answers.
        """
        rows = self.tokenizer(list(texts), add_special_tokens=special).input_ids
        # One token must be left to compute, or there is nothing to continue from.
        alike = takewhile(lambda column: len(set(column)) == 1, zip(*(row[:-1] for row in rows), strict=False))
        common = [column[0] for column in alike]
        pad = [len(max(rows, key=len)) - len(row) for row in rows]
        fill, start = self.tokenizer.pad_token_id, len(common)
        masks = [[1] * start + [0] * n + [1] * (len(r) - start) for r, n in zip(rows, pad, strict=True)]
        batch = {
            "input_ids": self._ids([common + [fill] * n + r[start:] for r, n in zip(rows, pad, strict=True)]),
            "attention_mask": self._ids(masks),
            "logits_processor": [_Sampler(temperature, seeds)],
        }
        if start:
            if self._start is None or self._start.tokens != common:
                first = self.model(input_ids=self._ids([common]), use_cache=True, logits_to_keep=1)
                self._start = _Start(common, first.past_key_values)
            batch["past_key_values"] = copy.deepcopy(self._start.cache)
            batch["past_key_values"].batch_repeat_interleave(len(rows))
        return batch

    def as_chat(self, prompt: str) -> str:
        """Return `prompt` as one user message in the model's chat template. Raises Unavailable: it has none."""
        if not self.tokenizer.chat_template:
            raise Unavailable(NO_CHAT.format(self.name))
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )

    def states(self, text: str, layer: int) -> NDArray[np.float64]:
        """Return the hidden states after `layer`, shape (tokens, width); the text is cut at the window."""
        import torch

        ids = self._ids([self.tokenizer(text).input_ids[: self.window]])
        with torch.inference_mode():
            found = self.model(input_ids=ids, output_hidden_states=True, use_cache=False, logits_to_keep=1)
        return np.asarray(found.hidden_states[layer][0].float().cpu().numpy(), dtype=np.float64)

    @property
    def layers(self) -> int:
        """The number of layers."""
        return int(self.model.config.num_hidden_layers)

    def negative_log_likelihood(self, text: str) -> TextLoss:
        import torch

        ids = self._ids([self.tokenizer(text).input_ids[: self.window]])
        with torch.inference_mode():
            logits = self.model(input_ids=ids).logits.float()
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")
        return TextLoss(float(loss), ids.shape[1] - 1)
