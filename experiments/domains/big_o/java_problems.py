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
    classes = len(BigO.options)
    wanted = [n // classes + (i < n % classes) for i in range(classes)]
    own = [
        list(islice(_translated(p for p in every if p.label == label), count))
        for label, count in zip(BigO.options, wanted, strict=True)
    ]
    if any(len(there) < count for there, count in zip(own, wanted, strict=True)):
        most = classes * min(map(len, own))
        raise LabError(f"{n} problems asked for; in Java there are {most} with seed {seed}", f"--n {most}")
    found = [p for there in own for p in there]
    place = {p.problem_id: i for i, p in enumerate(every)}
    return sorted(found, key=lambda p: place[p.problem_id])


def _translated(problems: Iterable[Problem]) -> Iterator[Problem]:
    for p in problems:
        with suppress(Untranslatable):
            yield replace(p, text=java_of(p.text))
