"""Solving by guessing: propose an answer, hear its loss, propose again (docs/science.md, Problems)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.backends.protocols import LanguageModel, Unreadable
from experiments.contract import PhaseConfig, Trial
from experiments.domains import Domain, Problem
from experiments.domains.base import Judged
from experiments.seeds import seed_for
from experiments.solving.replies import answers, failed

GUESS_TOKENS = 32  # the longest formula of the domain equations has 23 and an end of line (measured, SmolLM2)
SHOWN = 4  # guesses that the prompt shows
SHOWN_CHARACTERS = 60  # of a guess; a model that rambles must not fill the window
RESERVED_TOKENS = SHOWN * (SHOWN_CHARACTERS + 16) + GUESS_TOKENS  # at a character a token and a loss or a reason behind

NO_ANSWER = "replies is an answer"  # end of the error of a trial without a readable reply


@dataclass
class _Course:
    """The guesses of one seed so far."""

    seed: int
    guesses: list[str] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    tokens_in: int = 0
    tokens_out: int = 0
    latency_s: float = 0.0

    @property
    def solved(self) -> bool:
        return bool(self.judged) and self.judged[-1].solved


def most_guesses(domain: Domain, config: PhaseConfig) -> int:
    """Guesses at one problem, at most."""
    return min(domain.max_attempts, config.max_guesses)


def feedback(judged: Judged) -> str:
    """Return the feedback on a guess: "loss 0.53", or the reason for which it has none."""
    return judged.reason if judged.loss is None else f"loss {judged.loss:.3g}"


def prompt_after(prompt: str, lead: str, guesses: Sequence[str], judged: Sequence[Judged]) -> str:
    """Return `prompt` with the best guesses so far before its last words, the best of all last.

    The few best, in rising order, are what a model proposes better ones from (Yang et al. 2023, arXiv:2309.03409).
    """
    tried = dict(zip(guesses, judged, strict=True))
    ranked = sorted(tried.items(), key=lambda t: float("-inf") if t[1].loss is None else -t[1].loss)
    lines = "".join(f"Tried: {text[:SHOWN_CHARACTERS]}, {feedback(j)}\n" for text, j in ranked[-SHOWN:])
    return f"{prompt.removesuffix(lead)}{lines}{lead}"


def guess(
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
    """One trial a seed; the seeds' guesses of a round are one batch, and a seed that solved it drops out.

    `attempts` is the number of guesses made. A problem that the last one did not solve is censored there: solved is
    False, and its attempts are only a lower bound. A guess that is no formula is a wrong guess, with its reason; a trial
    in which none is one failed.
    """
    courses = [_Course(seed) for seed in seeds]
    for turn in range(most_guesses(domain, config)):
        under_way = [c for c in courses if not c.solved]
        if not under_way:
            break
        replies = answers(
            lm,
            [prompt_after(prompt, domain.lead, c.guesses, c.judged) for c in under_way],
            GUESS_TOKENS,
            stop="\n",
            temperature=config.guess_temperature,
            seeds=[seed_for(c.seed, phase, problem.problem_id, condition, turn) for c in under_way],
        )
        for course, reply in zip(under_way, replies, strict=True):
            course.guesses.append(reply.text.strip())
            course.judged.append(domain.judge(problem, reply.text))
            course.tokens_in += reply.tokens_in
            course.tokens_out += reply.tokens_out
            course.latency_s += reply.latency_s
    trials: list[Trial] = []
    for course in courses:
        if any(judged.readable for judged in course.judged):
            first = {"prompt": prompt} if all(t.error is not None for t in trials) else {}
            trials.append(_trial(problem, condition, course, {**details, **first}))
        else:
            trials += failed(
                problem, condition, [course.seed], Unreadable(f"none of {len(course.guesses)} {NO_ANSWER}")
            )
    return trials


def _trial(problem: Problem, condition: str, course: _Course, details: dict[str, object]) -> Trial:
    losses = [j.loss for j in course.judged]
    best = min(range(len(losses)), key=lambda i: float("inf") if (loss := losses[i]) is None else loss)
    return Trial(
        problem_id=problem.problem_id,
        condition=condition,
        seed=course.seed,
        attempts=float(len(course.guesses)),
        solved=course.solved,
        answer=course.guesses[best],
        truth=problem.truth,
        tokens_in=course.tokens_in,
        tokens_out=course.tokens_out,
        latency_s=course.latency_s,
        details={
            **details,
            "solved_by": "guessing",
            "label": problem.label,
            "guesses": course.guesses,
            "losses": losses,
            "reasons": [j.reason for j in course.judged],
        },
    )
