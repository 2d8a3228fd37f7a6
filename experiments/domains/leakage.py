"""Find leaks: problems that are in memory and in the test, and texts that name their answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.errors import LabError
from experiments.domains.base import Domain, Problem
from experiments.domains.scripts import first_of

NAMED_PAIRS = 3  # in a message; all are counted


class Pair(NamedTuple):
    """The ids of two problems."""

    left: str  # of memory, where there are two sides
    right: str  # of the test


class Named(NamedTuple):
    """A problem whose text names an answer."""

    problem_id: str
    word: str  # the class name or option that stands in its text


@dataclass(frozen=True)
class Leaks:
    """Leaks between memory and test, or within one set of problems where there are no two sides."""

    exact: tuple[Pair, ...]  # texts equal to the last character
    normalised: tuple[Pair, ...]  # equal only once comments, layout and names are gone
    named: tuple[Named, ...]
    pairs: int  # compared
    texts: int  # read

    @property
    def none(self) -> bool:
        return not (self.exact or self.normalised or self.named)


def inspect(domain: Domain, memory: Sequence[Problem], test: Sequence[Problem] | None) -> Leaks:
    """Compare each problem of `test` with each of `memory`; with test None, those of memory among themselves."""
    forms: dict[str, list[str]] = {}
    for p in memory:
        forms.setdefault(domain.normalise(p), []).append(p.problem_id)
    asked = memory if test is None else test
    twins = [Pair(twin, p.problem_id) for p in asked for twin in forms.get(domain.normalise(p), ())]
    if test is None:
        at = {p.problem_id: i for i, p in enumerate(memory)}
        twins = [pair for pair in twins if at[pair.left] < at[pair.right]]
    text = {p.problem_id: p.text for p in memory} | {p.problem_id: p.text for p in test or ()}
    exact = tuple(pair for pair in twins if text[pair.left] == text[pair.right])
    normalised = tuple(pair for pair in twins if text[pair.left] != text[pair.right])
    every = [*memory, *(test or ())]
    named = tuple(Named(p.problem_id, word) for p in every if (word := names_answer(domain, p.text)))
    pairs = len(memory) * (len(memory) - 1) // 2 if test is None else len(memory) * len(test)
    return Leaks(exact, normalised, named, pairs, len(every))


def refuse(found: Leaks, sides: bool = True) -> None:
    """Raise LabError with the first pairs if there are leaks; `sides`: memory and test, not one set with itself."""
    twins = (*found.exact, *found.normalised)
    if twins:
        first = ", ".join(f"{a} = {b}" for a, b in twins[:NAMED_PAIRS])
        tests = len({pair.right for pair in twins})
        what = f"{tests} test problems are also in memory" if sides else f"{len(twins)} pairs are equal"
        raise LabError(f"{what} ({first})", f"use another data_seed or split: group, or correct the data{ALLOW}")
    if found.named:
        first = ", ".join(f"{a} contains {word!r}" for a, word in found.named[:NAMED_PAIRS])
        what = f"{len(found.named)} problems name an answer in their text ({first})"
        raise LabError(what, f"correct the data{ALLOW}")


ALLOW = ', or go on with marked results: --allow-leakage "why"'


def names_answer(domain: Domain, text: str) -> str:
    """Return the first class name or option that is a word of `text`, whatever the case; "" if there is none."""
    return first_of((*domain.options, *sorted(domain.telling)), text)
