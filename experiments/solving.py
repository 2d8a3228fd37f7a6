"""Solving a problem by choice: the prompt, the options' log-probabilities, and from them the attempts of every seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.backends.base import LanguageModel, Scores
from experiments.contract import PhaseConfig, Trial
from experiments.domains import Domain, Problem
from experiments.seeds import generator


@dataclass(frozen=True)
class Memo:
    """One solved problem as the memory keeps it."""

    problem: Problem
    answer: str
    order: int  # when it was solved, from 0


def question(domain: Domain, problem: Problem) -> str:
    """One problem as the prompt shows it, without its answer."""
    return f"{domain.noun}:\n{problem.text.strip()}\n"


def prompt_for(domain: Domain, problem: Problem, memos: Sequence[Memo]) -> str:
    """The instruction, the memos with their answers (the most relevant last), the problem, and "Answer:"."""
    head = f"{domain.instruction} Answer with one of: {', '.join(domain.options)}.\n\n"
    shown = "".join(f"{question(domain, m.problem)}Answer: {m.answer}\n\n" for m in memos)
    return f"{head}{shown}{question(domain, problem)}Answer:"


def guess_order(logprobs: Sequence[float], temperature: float, rng: np.random.Generator) -> list[int]:
    """The order in which options are guessed, without repeating a wrong one; indices into `logprobs`.

    Sampling without replacement from softmax(l / T) is ranking l / T + Gumbel noise (Plackett-Luce; Gumbel-top-k,
    Kool et al. 2019, arXiv:1903.06059). Equal scores keep the order of the options.
    """
    noise = rng.gumbel(size=len(logprobs))
    scores = np.asarray(logprobs) / temperature + noise
    return [int(i) for i in np.argsort(-scores, kind="stable")]


def fit_prompt(lm: LanguageModel, domain: Domain, problem: Problem, memos: Sequence[Memo]) -> tuple[str, int]:
    """(prompt, memos dropped): the least relevant memos go first when the prompt is longer than the model's window."""
    room = lm.window - max(lm.count_tokens(f" {o}") for o in domain.options)
    for dropped in range(len(memos) + 1):
        prompt = prompt_for(domain, problem, memos[dropped:])
        if lm.count_tokens(prompt) <= room:
            return prompt, dropped
    return prompt, len(memos)


def solve(
    lm: LanguageModel, domain: Domain, problem: Problem, memos: Sequence[Memo], config: PhaseConfig, phase: str,
    condition: str, extra: dict[str, object] | None = None, seeds: Sequence[int] | None = None,
) -> list[Trial]:  # fmt: skip
    """One trial for each seed (the config's run seeds unless given), all from one forward pass.

    Args:
        memos: what retrieval brought back, the least relevant first.
        extra: facts of the condition that go into every trial's details (relevance, query).
    """
    prompt, dropped = fit_prompt(lm, domain, problem, memos)
    scores = lm.score(prompt, [f" {option}" for option in domain.options])
    kept = memos[dropped:]
    details = {
        "solved_by": "log-probabilities",
        "logprobs": list(scores.logprobs),
        "retrieved": [m.problem.problem_id for m in kept],
        "memos_dropped": dropped,
        **(extra or {}),
    }
    trials: list[Trial] = []
    for seed in seeds or config.run_seeds:
        order = guess_order(scores.logprobs, config.temperature, generator(seed, phase, problem.problem_id, condition))
        # The prompt is the same for all seeds; it is kept once.
        own = {**details, "guesses": [domain.options[i] for i in order]}
        trials.append(
            _trial(domain, problem, condition, seed, order, scores, {**own, "prompt": prompt} if not trials else own)
        )
    return trials


def _trial(
    domain: Domain, problem: Problem, condition: str, seed: int, order: Sequence[int], scores: Scores,
    details: dict[str, object],
) -> Trial:  # fmt: skip
    attempts = order.index(domain.options.index(problem.label)) + 1
    return Trial(
        problem_id=problem.problem_id, condition=condition, seed=seed, attempts=attempts,
        solved=attempts <= domain.max_attempts, answer=domain.options[order[0]], truth=problem.label,
        tokens_in=scores.tokens_in, tokens_out=scores.tokens_out, latency_s=scores.latency_s, details=details,
    )  # fmt: skip


def failed(problem: Problem, condition: str, seeds: Sequence[int], error: Exception) -> list[Trial]:
    """The trials of a problem whose model call failed: rows with their error, never missing and never zeros."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:500]
    return [Trial(problem.problem_id, condition, seed, truth=problem.label, error=text) for seed in seeds]
