"""How much faster is E1's scoring, one prefill for all options and seeds, than a model call for every seed and attempt?

    python -m benchmarks.e1_scoring --problems 12 --memory 150

    {
      "benchmark": "e1_scoring",
      "ratio": 8.2,
      "needed": 8.0,
      "seconds": {"one_prefill_for_all": 127.898, "a_call_for_each": 1049.283},
      "counts": {"problems": 12, "conditions": 3, "seeds": 3, "scorings": 36, "calls": 320,
        "calls_with_one_option_left": 15, "mean_attempts": 2.963, "mean_prompt_tokens": 432},
      "compared": "smollm2-135m: a call for each seed and attempt against one prefill for all; same prompts, noise and attempts",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 4.1, "torch": "2.13.0+cpu"},
      "ratio_by_condition": {"none": 8.56, "temporal": 10.88, "semantic": 5.38}
    }

Ours is experiments.solving.solving.solve: the prompt is prefilled once, the options are one batch on its cache, and the attempts
of three seeds are ranks (Plackett-Luce). The plain way asks the model again for each seed and attempt with the options
that are left, prefilling the prompt each time. With the same noise both must need the same attempts, which is checked.
The ratio is a little under the calls a scoring, three seeds times the mean attempts: where retrieval helps, the plain way
needs fewer calls and loses less.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.common import Clock, show
from experiments import e1_retrieval_strategies as e1
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import LanguageModel
from experiments.data import split
from experiments.domains import Domain, Problem, get_domain
from experiments.seeds import generator
from experiments.solving.memory_bank import Bank
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo, fit_prompt, solve

NAME = "e1_scoring"
NEEDED = 8.0


def attempts_by_calls(
    lm: LanguageModel, domain: Domain, problem: Problem, prompt: str, temperature: float, rng: np.random.Generator
) -> int:
    """Attempts until the right option, one model call each; a wrong option is not tried again.

    Choosing the largest of l / T + Gumbel noise among the options left is a draw from their softmax (l / T).
    """
    noise, left = rng.gumbel(size=len(domain.options)), list(range(len(domain.options)))
    while True:
        scores = lm.score(prompt, [f" {domain.options[i]}" for i in left])
        chosen = left[int(np.argmax(np.asarray(scores.logprobs) / temperature + noise[left]))]
        if domain.options[chosen] == problem.label:
            return len(domain.options) - len(left) + 1
        left.remove(chosen)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Raises:
        ValueError: the two ways needed different attempts.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", type=int, default=12, help="test problems; classes are equal in multiples of 6")
    parser.add_argument(
        "--memory", type=int, default=150, help="memos, each with the right answer as the protocol has it"
    )
    given = parser.parse_args(arguments)
    config = e1.Config(n_memory=given.memory, n_test=given.problems)
    domain, backends = get_domain(config.domain), Backends(no_files)
    retrieval, lm = RetrievalConfig(k=config.k), backends.language_model(config.model)
    memory, test = split(config, config.n_memory, config.n_test)
    memos = [Memo(p, p.truth, i) for i, p in enumerate(memory)]
    bank = Bank(domain, memos, backends.embedder(retrieval.embedder), retrieval)
    lm.score("warm up", [" a", " b"])
    clock, attempts, prompt_tokens = Clock(), list[int](), list[int]()
    for problem in test:
        shown = {"none": list[Memo](), "temporal": bank.recent(problem)[0], "semantic": bank.semantic(problem)[0]}
        for condition, found in shown.items():
            with clock.side("one_prefill_for_all"), clock.side(f"ours {condition}"):
                trials = solve(lm, domain, problem, found, config, e1.NAME, condition)
            prompt, _ = fit_prompt(lm, domain, problem, found)
            with clock.side("a_call_for_each"), clock.side(f"plain {condition}"):
                rngs = [generator(seed, e1.NAME, problem.problem_id, condition) for seed in config.run_seeds]
                plain = [attempts_by_calls(lm, domain, problem, prompt, config.temperature, rng) for rng in rngs]
            if plain != [t.attempts for t in trials]:
                raise ValueError(f"{problem.problem_id} {condition}: {plain} attempts by calls, not those of {trials}")
            attempts += plain
            prompt_tokens.append(trials[0].tokens_in or 0)
    sides = {name: clock.seconds[name] for name in ("one_prefill_for_all", "a_call_for_each")}
    show(
        NAME,
        sides["a_call_for_each"] / sides["one_prefill_for_all"],
        NEEDED,
        sides,
        {
            "problems": len(test),
            "conditions": len(e1.CONDITIONS),
            "seeds": len(config.run_seeds),
            "scorings": len(prompt_tokens),
            "calls": sum(attempts),
            "calls_with_one_option_left": sum(a == len(domain.options) for a in attempts),
            "mean_attempts": round(float(np.mean(attempts)), 3),
            "mean_prompt_tokens": round(float(np.mean(prompt_tokens))),
        },
        f"{config.model}: a call for each seed and attempt against one prefill for all; same prompts, noise and attempts",
        ratio_by_condition={
            c: round(clock.seconds[f"plain {c}"] / clock.seconds[f"ours {c}"], 2) for c in e1.CONDITIONS
        },
    )


if __name__ == "__main__":
    main()
