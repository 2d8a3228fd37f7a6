"""The protocol of a domain, and the records that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Problem:
    """One problem with its right answer. `text` never names the answer; `group` is its family."""

    problem_id: str
    text: str
    label: str  # its class
    group: str
    answer: str = ""  # the answer that a memory stores, where it is more than the class: a formula

    @property
    def truth(self) -> str:
        """Return the right answer."""
        return self.answer or self.label


@dataclass(frozen=True)
class Judged:
    """A domain's judgement of one guess."""

    solved: bool
    loss: float | None  # 0 is right; None when the guess is no valid answer
    reason: str = ""  # why there is no loss
    readable: bool = True  # False for a text that is no answer at all


class Domain(Protocol):
    """A maker and judge of problems. Everything is a pure function of its arguments: same seed, same problems."""

    name: str
    version: str  # raised whenever the same seed would make other problems
    answers: Literal["choice", "guessing"]  # an answer is one of the options, or a text that `judge` measures
    options: tuple[str, ...]  # the classes, in a meaningful order; in a domain of choice the possible answers
    telling: frozenset[str]  # lowercase words that name a class in another way, beside the options
    maximum: int  # problems that it can make
    max_attempts: int  # guesses within which a problem counts as solved; more is censored
    instruction: str  # the task in a sentence, first line of every prompt
    noun: str  # what one problem is, as the prompt calls it: "Function"
    lead: str  # what the prompt ends with and an answer follows: "Answer:"
    feature_names: tuple[str, ...]

    def problems(self, n: int, seed: int, names: str = "neutral") -> list[Problem]:
        """Return `n` distinct problems, classes as equal as n allows, in an order shuffled by `seed`.

        The first m of problems(n, seed) are not promised to be problems(m, seed).

        Args:
            names: neutral, or natural where the domain's texts hold names (PhaseConfig.names).

        Raises:
            LabError: the domain cannot make n distinct problems, or has no such names.
        """
        ...

    def normalise(self, problem: Problem) -> str:
        """Return a form that is equal for two problems exactly when they differ only in comments, layout and names."""
        ...

    def judge(self, problem: Problem, guess: str) -> Judged:
        """Judge a guess; never raises, whatever the guess is."""
        ...

    def features(self, problem: Problem) -> NDArray[np.float64]:
        """Return numeric features of the text, never of the label; shape (len(feature_names),)."""
        ...

    def describe(self, problem: Problem) -> str:
        """Return one sentence on the problem that names no answer; E2's analyses are made of them."""
        ...

    def terms(self) -> frozenset[str]:
        """Return lowercase technical words that a good retrieval query uses."""
        ...

    def similarity(self, answer: str, other: str) -> float:
        """Return the similarity of two answers, or two classes, 0 to 1; where options are ordered
        1 - rank distance / (number of options - 1)."""
        ...


def judged_by_choice(problem: Problem, guess: str) -> Judged:
    """Judge a guess where an answer is one of the options: right or wrong."""
    right = guess.strip() == problem.label
    return Judged(right, float(not right))
