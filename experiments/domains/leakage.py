"""What would make a test one of memory or of reading: problems on both sides, and texts that name their answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from common.errors import LabError
from experiments.domains.base import Domain, Problem, leaks

Pair = tuple[str, str]
NAMED_PAIRS = 3  # in a message; all are counted


@dataclass(frozen=True)
class Leaks:
    """What was found between memory and test, or within one set of problems where there are no two sides."""

    exact: tuple[Pair, ...]  # (id in memory, id in test) of texts equal to the last character
    normalised: tuple[Pair, ...]  # equal only once comments, layout and names are gone
    named: tuple[Pair, ...]  # (problem id, what its text says) of class names and options
    pairs: int  # compared
    texts: int  # read

    @property
    def none(self) -> bool:
        return not (self.exact or self.normalised or self.named)


def inspect(domain: Domain, memory: Sequence[Problem], test: Sequence[Problem] | None) -> Leaks:
    """Compare every problem of `test` with every one of `memory`; with test None, those of memory among themselves."""
    twins = leaks(domain, memory, memory if test is None else test)
    if test is None:
        at = {p.problem_id: i for i, p in enumerate(memory)}
        twins = [(a, b) for a, b in twins if at[a] < at[b]]
    text = {p.problem_id: p.text for p in memory} | {p.problem_id: p.text for p in test or ()}
    exact = tuple(pair for pair in twins if text[pair[0]] == text[pair[1]])
    normalised = tuple(pair for pair in twins if text[pair[0]] != text[pair[1]])
    every = [*memory, *(test or ())]
    named = tuple((p.problem_id, said) for p in every if (said := names_answer(domain, p.text)))
    pairs = len(memory) * (len(memory) - 1) // 2 if test is None else len(memory) * len(test)
    return Leaks(exact, normalised, named, pairs, len(every))


def refuse(found: Leaks, sides: bool = True) -> None:
    """LabError with the first pairs named, unless nothing was found."""
    twins = (*found.exact, *found.normalised)
    if twins:
        first = ", ".join(f"{a} = {b}" for a, b in twins[:NAMED_PAIRS])
        what = (
            f"{len({b for _, b in twins})} test problems are also in memory"
            if sides
            else f"{len(twins)} pairs are equal"
        )
        raise LabError(f"{what} ({first})", f"use another data_seed or split: group, or mend the data{ALLOW}")
    if found.named:
        first = ", ".join(f"{a} says {said!r}" for a, said in found.named[:NAMED_PAIRS])
        raise LabError(f"{len(found.named)} problems name an answer in their text ({first})", f"mend the data{ALLOW}")


ALLOW = ', or go on with marked results: --allow-leakage "why"'


def names_answer(domain: Domain, text: str) -> str:
    """The first class name or option that stands in `text` as a word of its own, whatever the case; "" if none does."""
    return first_of((*domain.options, *sorted(domain.telling)), text)


def first_of(words: Iterable[str], text: str) -> str:
    """The first of `words` that stands in `text`; letters and digits beside it make it another word, _ does not."""
    found = _any_of(tuple(words)).search(text)
    return found.group() if found else ""


@lru_cache(maxsize=64)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first, or "O(n" would be found where "O(n^2)" stands.
    either = "|".join(re.escape(w) for w in sorted(words, key=lambda w: (-len(w), w)))
    return re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])" if either else r"(?!)", re.IGNORECASE)
