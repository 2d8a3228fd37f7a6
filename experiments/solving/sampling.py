"""Answers by choice from a model that gives no log-probabilities: answers are drawn until the right one comes.

A draw of an option that was tried before is put back. So the options come in the order of sampling without replacement from
the model's own distribution over them, which is what ranking log-probabilities with Gumbel noise gives (Plackett-Luce).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.backends.protocols import LanguageModel
from experiments.seeds import generator, seed_for
from experiments.solving.replies import MARKS, answers

DRAWS_AN_OPTION = 4  # after so many for each option the rest is guessed blindly: the model will not name them
# Draws after which a course in which no reply named an option is given up. A model that names one in every second reply
# is given up by mistake once in 256 times.
UNREADABLE_DRAWS = 8


@dataclass
class Drawn:
    """The options in the order in which one seed came to them, the right one last, and what that cost."""

    order: list[int] = field(default_factory=list)  # indices into the options
    draws: int = 0
    unreadable: int = 0  # draws that named no option
    blind: int = 0  # of `order`, drawn by lot at the end
    tokens_in: int = 0
    tokens_out: int = 0
    latency_s: float = 0.0


def option_in(text: str, options: Sequence[str]) -> int | None:
    """The option that a reply begins with, also in quotes or marked, the longest if several; None when it names none."""
    for named in (text.strip(), text.strip(MARKS)):
        found = [i for i, o in enumerate(options) if named.startswith(o) and not named[len(o) : len(o) + 1].isalnum()]
        if found:
            return max(found, key=lambda i: len(options[i]))
    return None


def draw(
    lm: LanguageModel,
    prompt: str,
    options: Sequence[str],
    right: int,
    temperature: float,
    keys: Sequence[tuple[str | int, ...]],
) -> list[Drawn]:
    """One course a key (run seed, phase, problem id, condition); each ends with the option `right`.

    A course in which no reply named an option has an empty order: nothing is drawn in its place.
    """
    courses = [Drawn() for _ in keys]
    longest = max(lm.count_tokens(f" {option}") for option in options) + 1
    for turn in range(DRAWS_AN_OPTION * len(options)):
        under_way = [
            (c, key)
            for c, key in zip(courses, keys, strict=True)
            if right not in c.order and (c.order or c.draws < UNREADABLE_DRAWS)
        ]
        if not under_way:
            break
        replies = answers(
            lm,
            [prompt] * len(under_way),
            longest,
            stop="\n",
            temperature=temperature,
            seeds=[seed_for(*key, turn) for _, key in under_way],
        )
        for (course, _), reply in zip(under_way, replies, strict=True):
            named = option_in(reply.text, options)
            course.draws += 1
            course.unreadable += named is None
            course.tokens_in += reply.tokens_in
            course.tokens_out += reply.tokens_out
            course.latency_s += reply.latency_s
            if named is not None and named not in course.order:
                course.order.append(named)
    for course, key in zip(courses, keys, strict=True):
        if course.order and right not in course.order:
            left = [i for i in range(len(options)) if i not in course.order]
            lot = [left[int(i)] for i in generator(*key).permutation(len(left))]
            lot = lot[: lot.index(right) + 1]
            course.order, course.blind = course.order + lot, len(lot)
    return courses
