"""Solving a problem: the prompt, and the attempts of every seed, in the way in which the domain answers.

By choice the options' log-probabilities give them, from one forward pass; by guessing the model proposes and is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.backends.protocols import LanguageModel, Scores, TooLong, Unreadable
from experiments.contract import PhaseConfig, Trial
from experiments.domains import Domain, Problem, get_domain
from experiments.seeds import generator
from experiments.solving.guessing import RESERVED_TOKENS, guess, most_guesses
from experiments.solving.replies import failed
from experiments.solving.sampling import draw


@dataclass(frozen=True)
class Memo:
    """A solved problem in the memory."""

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


NO_OPTION = "replies names an option"  # end of the error of a trial without a readable reply


class Prompt(NamedTuple):
    """A prompt that fits the model's window, and the number of memos that were left out for it."""

    text: str
    dropped: int


def fit_prompt(lm: LanguageModel, domain: Domain, problem: Problem, memos: Sequence[Memo]) -> Prompt:
    """Return the prompt; where it is longer than the window, the least relevant memos are left out.

    Raises:
        TooLong: it does not fit without memos either.
    """
    by_choice = domain.answers == "choice"
    room = lm.window - (max(lm.count_tokens(f" {o}") for o in domain.options) if by_choice else RESERVED_TOKENS)
    for dropped in range(len(memos) + 1):
        prompt = prompt_for(domain, problem, memos[dropped:])
        tokens = lm.count_tokens(prompt)
        if tokens <= room:
            return Prompt(prompt, dropped)
    raise TooLong(f"{tokens:,} tokens without memos, more than the {room:,} that fit in a prompt of {lm.name}")


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
    """Solve a problem once for each seed.

    Args:
        memos: what retrieval brought back, the least relevant first.
        extra: facts of the condition that go into every trial's details (relevance, query).
        seeds: instead of the config's run seeds.

    Returns:
        One trial a seed; the first has the prompt, which is the same for all. A trial whose prompt is too long for the
        model, or whose replies hold no answer, is a failed one.
    """
    seeds = seeds or config.run_seeds
    try:
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
            return guess(lm, domain, problem, prompt, config, phase, condition, seeds, facts)
        keys = [(seed, phase, problem.problem_id, condition) for seed in seeds]
        right = domain.options.index(problem.label)
        courses = (_ranked if lm.scores else _sampled)(lm, domain, prompt, right, config, keys)
    except (TooLong, Unreadable) as error:
        return failed(problem, condition, seeds, error)
    trials: list[Trial] = []
    for seed, course in zip(seeds, courses, strict=True):
        if not course.order:
            trials += failed(problem, condition, [seed], Unreadable(f"none of {course.facts['draws']} {NO_OPTION}"))
            continue
        first = {"prompt": prompt} if all(t.error is not None for t in trials) else {}
        trials.append(_chosen(domain, problem, condition, seed, course, {**facts, **first}))
    return trials


def _chosen(
    domain: Domain, problem: Problem, condition: str, seed: int, course: _Course, facts: dict[str, object]
) -> Trial:
    at = course.order.index(domain.options.index(problem.label))
    return Trial(
        problem_id=problem.problem_id,
        condition=condition,
        seed=seed,
        attempts=at + 1,
        solved=at < domain.max_attempts,
        answer=domain.options[course.order[0]],
        truth=problem.label,
        tokens_in=course.cost.tokens_in,
        tokens_out=course.cost.tokens_out,
        latency_s=course.cost.latency_s,
        details={**facts, **course.facts, "guesses": [domain.options[o] for o in course.order]},
    )


class _Course(NamedTuple):
    """The options in the order in which one seed guesses them, and what that cost."""

    order: Sequence[int]  # indices into the options
    cost: Scores
    facts: Mapping[str, object]


def _ranked(
    lm: LanguageModel,
    domain: Domain,
    prompt: str,
    right: int,
    config: PhaseConfig,
    keys: Sequence[tuple[str | int, ...]],
) -> list[_Course]:
    """Rank the options by their log-probabilities, which one forward pass gives for all seeds."""
    scores = lm.score(prompt, [f" {option}" for option in domain.options])
    facts = {"solved_by": "log-probabilities", "logprobs": list(scores.logprobs)}
    return [_Course(guess_order(scores.logprobs, config.temperature, generator(*key)), scores, facts) for key in keys]


def _sampled(
    lm: LanguageModel,
    domain: Domain,
    prompt: str,
    right: int,
    config: PhaseConfig,
    keys: Sequence[tuple[str | int, ...]],
) -> list[_Course]:
    """Draw answers from a model that gives no log-probabilities."""
    return [
        _Course(
            d.order,
            Scores((), d.tokens_in, d.tokens_out, d.latency_s),
            {"solved_by": "sampling", "draws": d.draws, "unreadable": d.unreadable, "blind": d.blind},
        )
        for d in draw(lm, prompt, domain.options, right, config.temperature, keys)
    ]


def most_attempts(domain: Domain, config: PhaseConfig) -> int:
    """Return the largest number of attempts that a trial can have."""
    return len(domain.options) if domain.answers == "choice" else most_guesses(domain, config)


def effort(config: PhaseConfig) -> float:
    """Return the time of a problem in choices: each guess, for all seeds, takes as long as 1.6 (measured, P2)."""
    domain = get_domain(config.domain)
    return 1.0 if domain.answers == "choice" else 1.6 * most_guesses(domain, config)


def first_idea(domain: Domain, trial: Trial) -> str:
    """Return the answer that the solver thought of first: the most probable option, or the first guess."""
    if domain.answers == "guessing" or "logprobs" not in trial.details:
        return str(trial.details["guesses"][0])
    logprobs = trial.details["logprobs"]
    return domain.options[max(range(len(logprobs)), key=lambda i: logprobs[i])]
