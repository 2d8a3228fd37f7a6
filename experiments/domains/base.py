"""What every domain gives the phases; they know nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Problem:
    """One problem with its right answer. `text` never names the answer; `group` is its family."""

    problem_id: str
    text: str
    label: str
    group: str


class Domain(Protocol):
    """A maker and judge of problems. Everything is a pure function of its arguments: same seed, same problems."""

    name: str
    version: str  # raised whenever the same seed would make other problems
    options: tuple[str, ...]  # the possible answers, in a meaningful order
    max_attempts: int  # guesses within which a problem counts as solved; more is censored
    instruction: str  # the task in a sentence, first line of every prompt
    noun: str  # what one problem is, as the prompt calls it: "Function"
    feature_names: tuple[str, ...]

    def problems(self, n: int, seed: int) -> list[Problem]:
        """`n` distinct problems, classes as equal as n allows, in an order shuffled by `seed`.

        The first m of problems(n, seed) are not promised to be problems(m, seed).

        Raises:
            LabError: the domain cannot make n distinct problems.
        """
        ...

    def normalise(self, problem: Problem) -> str:
        """A form in which two problems are equal exactly when they differ only in comments, layout and names."""
        ...

    def features(self, problem: Problem) -> NDArray[np.float64]:
        """Numeric features read off the text alone, never off the label; shape (len(feature_names),)."""
        ...

    def describe(self, problem: Problem) -> str:
        """One sentence on the problem from its features, naming no answer: the material of E2's analyses."""
        ...

    def terms(self) -> frozenset[str]:
        """Lowercase words of the trade that a good retrieval query uses."""
        ...

    def similarity(self, answer: str, other: str) -> float:
        """How near two answers are, 0 to 1: 1 - rank distance / (number of options - 1) where options are ordered."""
        ...


def leaks(domain: Domain, left: Sequence[Problem], right: Sequence[Problem]) -> list[tuple[str, str]]:
    """Pairs (id in left, id in right) that are equal once normalised."""
    seen = {domain.normalise(p): p.problem_id for p in left}
    return [(seen[key], p.problem_id) for p in right if (key := domain.normalise(p)) in seen]
