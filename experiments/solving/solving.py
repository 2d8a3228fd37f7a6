"""Solving a problem: the prompt and the attempts, in the way in which the domain answers.

By choice the options' log-probabilities give their expectation, from one forward pass; by guessing the model proposes and
is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from experiments.backends.protocols import LanguageModel, TooLong, Unreadable
from experiments.contract import PhaseConfig, Trial
from experiments.domains import Domain, Problem, get_domain
from experiments.solving.choice import CONTENT_FREE, option_order, with_outcome, without_bias
from experiments.solving.guessing import RESERVED_TOKENS, guess, most_guesses
from experiments.solving.replies import failed
from experiments.solving.sampling import draw


@dataclass(frozen=True)
class Memo:
    """A solved problem in the memory."""

    problem: Problem
    answer: str
    order: int  # its place in the memory, from 0: what is equal otherwise keeps this order


def question(domain: Domain, problem: Problem) -> str:
    """One problem as the prompt shows it, without its answer."""
    return f"{domain.noun}:\n{problem.text.strip()}\n"


def prompt_for(domain: Domain, problem: Problem, memos: Sequence[Memo], options: Sequence[str] = ()) -> str:
    """The instruction, the memos with their answers (the most relevant last), the problem, and the answer's lead.

    Args:
        options: in the order in which they are listed, where it is not the domain's.
    """
    shown = "".join(f"{question(domain, m.problem)}{domain.lead} {m.answer}\n\n" for m in memos)
    return f"{_head(domain, options)}{shown}{question(domain, problem)}{domain.lead}"


def _head(domain: Domain, options: Sequence[str] = ()) -> str:
    choices = f" Answer with one of: {', '.join(options or domain.options)}." if domain.answers == "choice" else ""
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


NO_OPTION = "replies names an option"  # end of the error of a trial without a readable reply


class Prompt(NamedTuple):
    """A prompt that fits the model's window, and the number of memos that were left out for it."""

    text: str
    dropped: int


def fit_prompt(
    lm: LanguageModel, domain: Domain, problem: Problem, memos: Sequence[Memo], options: Sequence[str] = ()
) -> Prompt:
    """Return the prompt; where it is longer than the window, the least relevant memos are left out.

    Raises:
        TooLong: it does not fit without memos either.
    """
    by_choice = domain.answers == "choice"
    room = lm.window - (max(lm.count_tokens(f" {o}") for o in domain.options) if by_choice else RESERVED_TOKENS)
    for dropped in range(len(memos) + 1):
        prompt = prompt_for(domain, problem, memos[dropped:], options)
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
    *,
    drawn: int | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Trial]:
    """Solve a problem: once where log-probabilities give the expectation, else once for each seed.

    Args:
        memos: what retrieval brought back, the least relevant first.
        extra: facts of the condition that go into every trial's details (relevance, query).
        drawn: the run seed that drew the memos; None where no draw decided them.
        seeds: of answers that must be drawn, instead of the config's run seeds.

    Returns:
        The trials, of which the first has the prompt, which is the same for all. A trial whose prompt is too long for the
        model, or whose replies hold no answer, is a failed one.
    """
    options, by_choice = option_order(config, domain, problem), domain.answers == "choice"
    seeds = (drawn,) if drawn is not None else seeds or config.run_seeds
    trial = Trial(problem.problem_id, condition, drawn, truth=problem.truth)
    try:
        prompt, dropped = fit_prompt(lm, domain, problem, memos, options)
        facts: dict[str, object] = {
            "retrieved": [m.problem.problem_id for m in memos[dropped:]],
            "memo_spans": memo_spans(domain, memos[dropped:]),
            "memos_dropped": dropped,
            "group": problem.group,
            "engine": lm.describe(),
            **(extra or {}),
        }
        if not by_choice:
            return guess(lm, domain, problem, prompt, config, phase, condition, seeds, facts)
        if lm.scores:
            bias = replace(problem, text=CONTENT_FREE) if config.calibration == "contextual" else None
            other = "" if bias is None else prompt_for(domain, bias, memos[dropped:], options)
            return [_scored(lm, domain, trial, prompt, other, config, facts)]
        keys = [(seed, phase, problem.problem_id, condition) for seed in seeds]
        return _sampled(lm, domain, problem, trial, prompt, config, keys, facts)
    except (TooLong, Unreadable) as error:
        return failed(problem, condition, (drawn,) if by_choice and lm.scores else seeds, error)


def _scored(
    lm: LanguageModel,
    domain: Domain,
    trial: Trial,
    prompt: str,
    without_content: str,
    config: PhaseConfig,
    facts: dict[str, object],
) -> Trial:
    """Return the expectation that the options' log-probabilities give, calibrated if there is a prompt without content."""
    options = [f" {option}" for option in domain.options]
    scores = lm.score(prompt, options)
    details = {**facts, "solved_by": "log-probabilities", "logprobs": list(scores.logprobs), "prompt": prompt}
    costs = [scores]
    if without_content:
        costs.append(lm.score(without_content, options))
        details["calibrated"] = without_bias(scores.logprobs, costs[1].logprobs)
    trial = replace(
        trial,
        tokens_in=sum(c.tokens_in for c in costs),
        tokens_out=sum(c.tokens_out for c in costs),
        latency_s=sum(c.latency_s for c in costs),
    )
    return with_outcome(trial, domain, str(trial.truth), details, config)


def _sampled(
    lm: LanguageModel,
    domain: Domain,
    problem: Problem,
    trial: Trial,
    prompt: str,
    config: PhaseConfig,
    keys: Sequence[tuple[int, str, str, str]],
    facts: dict[str, object],
) -> list[Trial]:
    """Draw answers from a model that gives no log-probabilities, one trial a key."""
    right = domain.options.index(str(trial.truth))
    trials: list[Trial] = []
    for key, d in zip(keys, draw(lm, prompt, domain.options, right, config.temperature, keys), strict=True):
        if not d.order:
            trials += failed(problem, trial.condition, [key[0]], Unreadable(f"none of {d.draws} {NO_OPTION}"))
            continue
        details = {
            **facts,
            "solved_by": "sampling",
            "draws": d.draws,
            "unreadable": d.unreadable,
            "blind": d.blind,
            "guesses": [domain.options[o] for o in d.order],
            **({"prompt": prompt} if all(t.error is not None for t in trials) else {}),
        }
        trials.append(
            replace(
                trial,
                seed=key[0],
                attempts=float(len(d.order)),
                solved=len(d.order) <= domain.max_attempts,
                answer=domain.options[d.order[0]],
                tokens_in=d.tokens_in,
                tokens_out=d.tokens_out,
                latency_s=d.latency_s,
                details=details,
            )
        )
    return trials


def memo_seeds(config: PhaseConfig, drawn: bool) -> Sequence[int | None]:
    """Return the run seeds, where they draw the memos; else (None,)."""
    return config.run_seeds if drawn else (None,)


def planned_seeds(config: PhaseConfig, drawn: bool, seeds: Sequence[int] | None = None) -> tuple[int | None, ...]:
    """Return the seeds of a problem's trials under a condition: (None,) where nothing is drawn.

    A backend without log-probabilities draws its answers all the same, which shows only when it is asked.

    Args:
        drawn: whether a run seed draws the memos.
        seeds: of answers that are drawn, instead of the config's run seeds.
    """
    by_choice = get_domain(config.domain).answers == "choice"
    return (None,) if by_choice and not drawn else tuple(seeds or config.run_seeds)


def most_attempts(domain: Domain, config: PhaseConfig) -> int:
    """Return the largest number of attempts that a trial can have."""
    return len(domain.options) if domain.answers == "choice" else most_guesses(domain, config)


def effort(config: PhaseConfig) -> float:
    """Return the time of a problem in choices: each guess, for all seeds, takes as long as 1.6 (measured, P2)."""
    domain = get_domain(config.domain)
    return 1.0 if domain.answers == "choice" else 1.6 * most_guesses(domain, config)
