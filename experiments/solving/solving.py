"""Solving a problem: the prompt, and the attempts of every seed, in the way in which the domain answers.

By choice the options' log-probabilities give them, from one forward pass; by guessing the model proposes and is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.backends.protocols import LanguageModel, Scores
from experiments.contract import PhaseConfig, Trial
from experiments.domains import Domain, Problem, get_domain
from experiments.seeds import generator
from experiments.solving.guessing import RESERVED_TOKENS, guess, most_guesses
from experiments.solving.sampling import draw


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
    """The instruction, the memos with their answers (the most relevant last), the problem, and the answer's lead."""
    shown = "".join(f"{question(domain, m.problem)}{domain.lead} {m.answer}\n\n" for m in memos)
    return f"{_head(domain)}{shown}{question(domain, problem)}{domain.lead}"


def _head(domain: Domain) -> str:
    choices = f" Answer with one of: {', '.join(domain.options)}." if domain.answers == "choice" else ""
    return f"{domain.instruction}{choices}\n\n"


def memo_spans(domain: Domain, memos: Sequence[Memo]) -> list[list[int]]:
    """Return where each memo stands in the prompt, in characters: start and end of its text, start and end of its answer."""
    spans, at = [], len(_head(domain))
    for memo in memos:
        text = len(question(domain, memo.problem))
        answer = at + text + len(domain.lead) + 1
        spans.append([at + len(domain.noun) + 2, at + text - 1, answer, answer + len(memo.answer)])
        at = answer + len(memo.answer) + 2
    return spans


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
    by_choice = domain.answers == "choice"
    room = lm.window - (max(lm.count_tokens(f" {o}") for o in domain.options) if by_choice else RESERVED_TOKENS)
    for dropped in range(len(memos) + 1):
        prompt = prompt_for(domain, problem, memos[dropped:])
        if lm.count_tokens(prompt) <= room:
            return prompt, dropped
    return prompt, len(memos)


def solve(
    lm: LanguageModel,
    domain: Domain,
    problem: Problem,
    memos: Sequence[Memo],
    config: PhaseConfig,
    phase: str,
    condition: str,
    extra: dict[str, object] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Trial]:
    """One trial for each seed (the config's run seeds unless given); `solved_by` in its details says in which way.

    Args:
        memos: what retrieval brought back, the least relevant first.
        extra: facts of the condition that go into every trial's details (relevance, query).
    """
    prompt, dropped = fit_prompt(lm, domain, problem, memos)
    facts = {
        "retrieved": [m.problem.problem_id for m in memos[dropped:]],
        "memo_spans": memo_spans(domain, memos[dropped:]),
        "memos_dropped": dropped,
        "group": problem.group,
        "engine": lm.describe(),
        **(extra or {}),
    }
    if domain.answers == "guessing":
        return guess(lm, domain, problem, prompt, config, phase, condition, seeds or config.run_seeds, facts)
    if not lm.scores:
        return _sampled(lm, domain, problem, prompt, config, phase, condition, seeds or config.run_seeds, facts)
    scores = lm.score(prompt, [f" {option}" for option in domain.options])
    details = {"solved_by": "log-probabilities", "logprobs": list(scores.logprobs), **facts}
    trials: list[Trial] = []
    for seed in seeds or config.run_seeds:
        order = guess_order(scores.logprobs, config.temperature, generator(seed, phase, problem.problem_id, condition))
        # The prompt is the same for all seeds; it is kept once.
        own = {**details, "guesses": [domain.options[i] for i in order]}
        trials.append(
            _trial(domain, problem, condition, seed, order, scores, {**own, "prompt": prompt} if not trials else own)
        )
    return trials


def _sampled(
    lm: LanguageModel,
    domain: Domain,
    problem: Problem,
    prompt: str,
    config: PhaseConfig,
    phase: str,
    condition: str,
    seeds: Sequence[int],
    details: dict[str, object],
) -> list[Trial]:
    """The trials from a model without log-probabilities, which draws its answers."""
    keys = [(seed, phase, problem.problem_id, condition) for seed in seeds]
    right = domain.options.index(problem.label)
    trials: list[Trial] = []
    for seed, drawn in zip(seeds, draw(lm, prompt, domain.options, right, config.temperature, keys), strict=True):
        own: dict[str, object] = {
            **details,
            "solved_by": "sampling",
            "guesses": [domain.options[i] for i in drawn.order],
            "draws": drawn.draws,
            "unreadable": drawn.unreadable,
            "blind": drawn.blind,
        }
        scores = Scores((), drawn.tokens_in, drawn.tokens_out, drawn.latency_s)
        own = {**own, "prompt": prompt} if not trials else own
        trials.append(_trial(domain, problem, condition, seed, drawn.order, scores, own))
    return trials


def _trial(
    domain: Domain,
    problem: Problem,
    condition: str,
    seed: int,
    order: Sequence[int],
    scores: Scores,
    details: dict[str, object],
) -> Trial:
    attempts = order.index(domain.options.index(problem.label)) + 1
    return Trial(
        problem_id=problem.problem_id,
        condition=condition,
        seed=seed,
        attempts=attempts,
        solved=attempts <= domain.max_attempts,
        answer=domain.options[order[0]],
        truth=problem.label,
        tokens_in=scores.tokens_in,
        tokens_out=scores.tokens_out,
        latency_s=scores.latency_s,
        details=details,
    )


def failed(problem: Problem, condition: str, seeds: Sequence[int], error: Exception) -> list[Trial]:
    """The trials of a problem whose model call failed: rows with their error, never missing and never zeros."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:500]
    return [Trial(problem.problem_id, condition, seed, truth=problem.truth, error=text) for seed in seeds]


def most_attempts(domain: Domain, config: PhaseConfig) -> int:
    """The largest number of attempts that a trial can have."""
    return len(domain.options) if domain.answers == "choice" else most_guesses(domain, config)


def effort(config: PhaseConfig) -> float:
    """How much longer a problem takes than by choice: each guess, for all seeds, as long as 1.6 choices (measured, P2)."""
    domain = get_domain(config.domain)
    return 1.0 if domain.answers == "choice" else 1.6 * most_guesses(domain, config)


def first_idea(domain: Domain, trial: Trial) -> str:
    """The answer that the solver thought of first: the most probable option, or the first guess."""
    if domain.answers == "guessing" or "logprobs" not in trial.details:
        return str(trial.details["guesses"][0])
    logprobs = trial.details["logprobs"]
    return domain.options[max(range(len(logprobs)), key=lambda i: logprobs[i])]
