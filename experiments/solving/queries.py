"""Queries that a model writes for its own memory: asked for, and told from replies that search for nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from experiments.backends.protocols import LanguageModel, Reply, TooLong, Unreadable
from experiments.contract import PhaseConfig
from experiments.domains import Domain, Problem
from experiments.solving.distillation import hunch_prompt
from experiments.solving.replies import UNFINISHED, answers, check_room

WORD = re.compile(r"[^\W_]")


def usable(query: str) -> bool:
    """Return True if a query holds a letter or a digit to search for."""
    return bool(WORD.search(query))


def written(
    problems: Sequence[Problem], most: int, config: PhaseConfig, lm: LanguageModel, domain: Domain
) -> dict[str, Reply | TooLong | Unreadable]:
    """Return by problem the query of at most `most` tokens that the model wrote, or why there is none."""
    found: dict[str, Reply | TooLong | Unreadable] = {}
    prompts: dict[str, str] = {}
    for problem in problems:
        prompt = hunch_prompt(domain, problem, config)
        try:
            check_room(lm, prompt, most)
            prompts[problem.problem_id] = prompt
        except TooLong as error:
            found[problem.problem_id] = error
    replies = answers(lm, list(prompts.values()), most, stop="\n") if prompts else []
    both = zip(prompts, replies, strict=True)
    return found | {i: Unreadable(UNFINISHED) if reply.unfinished else reply for i, reply in both}
