"""Which share of the machine's own matrix rate does E1's scoring reach while it reads prompts?

    python -m benchmarks.prefill_gemm --problems 6 --rounds 4 --memory 150

    {
      "benchmark": "prefill_gemm",
      "ratio": 0.54,
      "needed": 0.5,
      "seconds": {"reading": 18.33, "at_the_peak_rate": 9.917, "whole_scorings": 24.112},
      "counts": {"problems": 6, "scorings": 18, "prompt_tokens": 8115, "option_tokens": 558, "shortest_prompt": 108, "longest_prompt": 667},
      "compared": "smollm2-135m in float32: operations a second of reading E1's prompts against square matrix products",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 1.8, "torch": "2.13.0+cpu"},
      "tokens_per_s": 442.7,
      "share": {"none": 0.395, "temporal": 0.573, "semantic": 0.558, "whole_scorings": 0.448},
      "peak_gflops": {"mean": 148.1, "best": 189.6}
    }

The peak is the best rate of square products in the model's own numbers, on its device and threads (`SIZES`), measured
between the scorings. Each prompt is scored in several rounds and its best counts as well, so that other work disturbs
neither. Operations are counted by formula, and only those that the answers need: 2 for each parameter in a matrix and token
(Kaplan et al. 2020, arXiv:2001.08361, table 1), 4 for each of a layer's attention dimensions and pair of tokens that see
each other, and the vocabulary where logits are asked for, once after the prompt and once a token of an option. Padding,
norms, rotations and softmax count for nothing; their time does. Prompts are E1's own, of its three conditions. `ratio` is
the share that the engine's first pass reaches, which reads the prompt; `share` has the same by condition, and of whole
scorings: the tokenizer and the options on the cache as well, which are few tokens over a long cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import show
from experiments import e1_retrieval_strategies as e1
from experiments.backends import placement
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import Scores
from experiments.backends.weights import size
from experiments.data import split
from experiments.domains import get_domain
from experiments.solving.memory_bank import Bank
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo, fit_prompt

NAME = "prefill_gemm"
NEEDED = 0.5
SIZES = (512, 1024, 1536)  # of square products: from what caches hold to what they do not; the best counts


def operations(matrices: int, shape: Any, prompt_tokens: int, option_tokens: int = 0) -> float:
    """Floating-point operations of scoring options after a prompt.

    Args:
        matrices: parameters in matrices, embeddings and the vocabulary's not counted.
        shape: the model's configuration (transformers): hidden_size, num_hidden_layers, vocab_size.
        option_tokens: of all options together; each sees the prompt.
    """
    tokens = prompt_tokens + option_tokens
    pairs = prompt_tokens * (prompt_tokens + 1) / 2 + option_tokens * (prompt_tokens + 1)
    attention = 4.0 * shape.hidden_size * shape.num_hidden_layers * pairs
    return 2.0 * matrices * tokens + attention + 2.0 * shape.hidden_size * shape.vocab_size * (1 + option_tokens)


def peak_gflops(dtype: str) -> float:
    """The best rate of a few products just now, in 10^9 operations a second."""
    return max(placement.gemm_gflops(placement.local_device(), dtype, n, rounds=4) for n in SIZES)


def timed_passes(model: Any) -> list[float]:
    """Seconds of the model's passes from now on, in a list that grows with each."""
    seconds, started = list[float](), list[float]()
    model.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))
    model.register_forward_hook(lambda *_: seconds.append(time.perf_counter() - started.pop()))
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", type=int, default=6, help="test problems, each under E1's three conditions")
    parser.add_argument("--rounds", type=int, default=4, help="scorings of each prompt, of which the best counts")
    parser.add_argument("--memory", type=int, default=150, help="memos to choose from")
    given = parser.parse_args(arguments)
    config = e1.Config(n_memory=given.memory, n_test=max(6, given.problems))
    domain, backends = get_domain(config.domain), Backends(no_files)
    retrieval, lm = RetrievalConfig(k=config.k), backends.language_model(config.model)
    memory, test = split(config, config.n_memory, config.n_test)
    memos = [Memo(p, p.truth, i) for i, p in enumerate(memory)]
    bank = Bank(domain, memos, backends.embedder(retrieval.embedder), retrieval)
    matrices, shape, dtype = size(config.model).matrices, lm._model.config, lm.describe()["numbers"]  # type: ignore[attr-defined]
    options = [f" {option}" for option in domain.options]
    lm.score("warm up", options)
    passes = timed_passes(lm._model)  # type: ignore[attr-defined]
    seen, peaks = list[tuple[str, float, Scores]](), [peak_gflops(dtype)]
    for problem in test[: given.problems]:
        latest, alike = bank.recent(config.run_seeds[0], problem).memos, bank.semantic(problem).memos
        shown = {"none": list[Memo](), "temporal": latest, "semantic": alike}
        for condition, found in shown.items():
            prompt, _ = fit_prompt(lm, domain, problem, found)
            first_s, turns = list[float](), list[Scores]()
            for _ in range(given.rounds):
                passes.clear()
                turns.append(lm.score(prompt, options))
                first_s.append(passes[0])
                peaks.append(peak_gflops(dtype))
            seen.append((condition, min(first_s), min(turns, key=lambda s: s.latency_s)))

    def at_peak(whole: bool, *conditions: str) -> tuple[float, float]:
        """(seconds that the operations would take at the peak, seconds that they took)."""
        mine = [row for row in seen if row[0] in conditions]
        ideal = sum(operations(matrices, shape, s.tokens_in, s.tokens_out if whole else 0) for *_, s in mine)
        return ideal / max(peaks) / 1e9, sum(s.latency_s if whole else first_s for _, first_s, s in mine)

    def share(whole: bool, *conditions: str) -> float:
        ideal, took = at_peak(whole, *conditions)
        return round(ideal / took, 3)

    (ideal_s, reading_s), lengths = at_peak(False, *e1.CONDITIONS), [s.tokens_in for *_, s in seen]
    show(
        NAME,
        ideal_s / reading_s,
        NEEDED,
        {"reading": reading_s, "at_the_peak_rate": ideal_s, "whole_scorings": at_peak(True, *e1.CONDITIONS)[1]},
        {
            "problems": len(test[: given.problems]),
            "scorings": len(seen),
            "prompt_tokens": sum(lengths),
            "option_tokens": sum(s.tokens_out for *_, s in seen),
            "shortest_prompt": min(lengths),
            "longest_prompt": max(lengths),
        },
        f"{config.model} in {dtype}: operations a second of reading E1's prompts against square matrix products",
        tokens_per_s=round(sum(lengths) / reading_s, 1),
        share={**{c: share(False, c) for c in e1.CONDITIONS}, "whole_scorings": share(True, *e1.CONDITIONS)},
        peak_gflops={"mean": round(float(np.mean(peaks)), 1), "best": round(max(peaks), 1)},
    )


if __name__ == "__main__":
    main()
