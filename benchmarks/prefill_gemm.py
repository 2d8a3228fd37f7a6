"""Which share of the machine's own matrix rate does E1's scoring reach while it reads prompts?

    python -m benchmarks.prefill_gemm --prompts 6 --memory 60

EXAMPLE

The peak is the best rate of square products of the model's own kind (float32, the same threads), measured before and after
each prompt, so that other work on the machine lowers both. A prompt's operations are counted by formula: 2 for each
parameter in a matrix and token (Kaplan et al. 2020, arXiv:2001.08361, table 1), 4 for each of a layer's attention dimensions
and pair of tokens, and the vocabulary once, since logits are made for the last token only. Seconds are those of one scoring
with its prefill and the options on its cache. `ratio` is the share.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import Clock, show
from experiments import e1_retrieval_strategies as e1
from experiments.backends import placing
from experiments.backends.base import Backends, no_files
from experiments.backends.weights import size
from experiments.data import split
from experiments.domains import get_domain
from experiments.memory_bank import Bank
from experiments.retrieval import RetrievalConfig
from experiments.solving import Memo, fit_prompt

NAME = "prefill_gemm"
NEEDED = 0.5
SIZES = (768, 1536)  # of square products: a hidden layer's width, and one that caches hold less well


def operations(matrices: int, config: Any, tokens: int) -> float:
    """Floating-point operations of reading `tokens` tokens; half of the pairs are masked and are not counted."""
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    attention = 4 * width * config.num_hidden_layers * tokens * (tokens + 1) / 2
    return 2.0 * matrices * tokens + attention + 2.0 * config.hidden_size * config.vocab_size


def peak_gflops() -> float:
    """The best rate of a few products just now."""
    return max(placing.gemm_gflops(placing.device_here(), "float32", n, rounds=4) for n in SIZES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=6, help="scorings, with five memos each")
    parser.add_argument("--memory", type=int, default=60, help="memos to choose from")
    given = parser.parse_args(arguments)
    config = e1.Config(n_memory=given.memory, n_test=max(6, given.prompts))
    domain, backends = get_domain(config.domain), Backends(no_files)
    retrieval, lm = RetrievalConfig(k=config.k), backends.language_model(config.model)
    memory, test = split(config, config.n_memory, config.n_test)
    bank = Bank(
        domain, [Memo(p, p.truth, i) for i, p in enumerate(memory)], backends.embedder(retrieval.embedder), retrieval
    )
    matrices, shape = size(config.model).matrices, lm._model.config  # type: ignore[attr-defined]
    options = [f" {option}" for option in domain.options]
    lm.score("warm up", options)
    clock, peaks, work, tokens = Clock(), [peak_gflops()], 0.0, 0
    for problem in test[: given.prompts]:
        prompt, _ = fit_prompt(lm, domain, problem, bank.recent(problem)[0])
        with clock.side("scoring"):
            scores = lm.score(prompt, options)
        work, tokens = work + operations(matrices, shape, scores.tokens_in), tokens + scores.tokens_in
        peaks.append(peak_gflops())
    reached = work / clock.seconds["scoring"] / 1e9
    peak = float(np.mean(peaks))
    clock.seconds["at_the_peak_rate"] = work / peak / 1e9
    show(
        NAME, reached / peak, NEEDED, clock.seconds,
        {"prompts": given.prompts, "tokens": tokens, "mean_prompt_tokens": round(tokens / given.prompts)},
        f"{config.model}: operations of prefill a second, options included in the time, against square matrix products",
        tokens_per_s=round(tokens / clock.seconds["scoring"], 1),
        gflops={"reached": round(reached, 1), "peak": round(peak, 1), "peak_best": round(max(peaks), 1)},
    )  # fmt: skip


if __name__ == "__main__":
    main()
