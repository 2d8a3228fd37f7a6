"""Problems of big_o whose programs are in Java."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from common.errors import LabError
from experiments.domains.base import Problem
from experiments.domains.big_o.domain import BigO
from experiments.domains.big_o.java import Untranslatable, java_of


def java_problems(n: int, seed: int, names: str = "neutral") -> list[Problem]:
    """Return `n` problems of big_o whose programs are in Java, classes equal to within one.

    Raises:
        LabError: there are too few that can be translated.
    """
    every = BigO().problems(BigO.maximum, seed, names)
    found: list[Problem] = []
    for i, label in enumerate(BigO.options):
        wanted = n // len(BigO.options) + (i < n % len(BigO.options))
        own = list(islice(_translated(p for p in every if p.label == label), wanted))
        if len(own) < wanted:
            most = len(own) * len(BigO.options)
            raise LabError(f"{n} problems asked for; in Java there are {most} with seed {seed}", f"--n {most}")
        found += own
    place = {p.problem_id: i for i, p in enumerate(every)}
    return sorted(found, key=lambda p: place[p.problem_id])


def _translated(problems: Iterable[Problem]) -> Iterator[Problem]:
    for p in problems:
        with suppress(Untranslatable):
            yield replace(p, text=java_of(p.text))
