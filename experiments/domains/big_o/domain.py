"""The domain big_o: name the worst-case time complexity of a Python function.

    def handle(xs):
        t = 0
        for x in xs:
            t += x
        return t                 -> O(n)

Every family's label is checked by measurement in tests/experiments/domains/test_big_o.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import LabError
from experiments.domains.base import Problem, judged_by_choice
from experiments.domains.big_o import features as big_o_text
from experiments.domains.big_o.families import FAMILIES, Family
from experiments.seeds import generator

NEW_SHAPE = 25  # draws in search of a structure that is new, constants aside; after them only constants need differ
NEW_TEXT = 100  # draws in all before a family is skipped for one turn
NUMBER = re.compile(r"Constant\(value=\d+\)")


def _new_problem(
    family: Family, rng: np.random.Generator, names: str, ids: set[str], shapes: set[str]
) -> Problem | None:
    """Return a problem whose id is not in `ids`, and add it there; None when there is no other."""
    for draw in range(NEW_TEXT):
        text = family.make(rng, names)
        form = big_o_text.normal_form(text)
        shape = NUMBER.sub("#", form)
        problem_id = f"{BigO.name}-{hashlib.sha256(form.encode()).hexdigest()[:8]}"
        if problem_id in ids or (draw < NEW_SHAPE and shape in shapes):
            continue
        ids.add(problem_id)
        shapes.add(shape)
        return Problem(problem_id, text, family.label, family.name)
    return None


def _of_class(label: str, seed: int, names: str, ids: set[str]) -> Iterator[Problem]:
    """Yield problems of one class, its families in turn, until no family has another."""
    families = [f for f in FAMILIES if f.label == label]
    order = generator(seed, BigO.name, "families", label).permutation(len(families))
    turns = [(families[i], generator(seed, BigO.name, families[i].name)) for i in order]
    shapes: set[str] = set()
    passed = 0
    for family, rng in cycle(turns):
        problem = _new_problem(family, rng, names, ids, shapes)
        passed = 0 if problem else passed + 1
        if problem:
            yield problem
        elif passed == len(turns):
            return


class BigO:
    """Implements experiments.domains.base.Domain."""

    name = "big_o"
    version = "big_o-1"
    answers: Literal["choice", "guessing"] = "choice"
    options = ("O(1)", "O(log n)", "O(n)", "O(n log n)", "O(n^2)", "O(2^n)")
    telling = frozenset(
        {"constant", "logarithmic", "linear", "linearithmic", "loglinear", "quadratic", "polynomial", "exponential"}
    )
    maximum = 3000  # the protocol needs 1,880
    max_attempts = 3
    instruction = (
        "What is the worst-case time complexity of this Python function in n, the length of its list or the value of its "
        "integer argument?"
    )
    noun = "Function"
    lead = "Answer:"
    feature_names = big_o_text.FEATURE_NAMES

    def problems(self, n: int, seed: int, names: str = "neutral") -> list[Problem]:
        """Return `n` distinct problems, classes equal to within one, families of a class in turn, shuffled by `seed`.

        With natural names the functions are named after what they do (families/*.txt); all else, ids too, is the same.
        """
        if names not in ("neutral", "natural"):
            raise LabError(f"names = {names!r}", "choose neutral or natural")
        if not 1 <= n <= self.maximum:
            raise LabError(f"{n} problems asked for; big_o makes 1 to {self.maximum}", f"choose at most {self.maximum}")
        ids: set[str] = set()
        made: list[Problem] = []
        for i, label in enumerate(self.options):
            wanted = n // len(self.options) + (i < n % len(self.options))
            found = list(islice(_of_class(label, seed, names, ids), wanted))
            if len(found) < wanted:
                most = len(found) * len(self.options)
                raise LabError(f"{n} problems asked for; with seed {seed} big_o makes {most}", f"choose at most {most}")
            made += found
        order = generator(seed, self.name, "order", n).permutation(len(made))
        return [made[i] for i in order]

    def normalise(self, problem: Problem) -> str:
        """Return the syntax tree with names numbered by first appearance (big_o_text.normal_form)."""
        return big_o_text.normal_form(problem.text)

    judge = staticmethod(judged_by_choice)

    def features(self, problem: Problem) -> NDArray[np.float64]:
        """Return counts of the syntax tree, shape (len(feature_names),)."""
        return big_o_text.features(problem.text)

    def describe(self, problem: Problem) -> str:
        """Return one sentence on loops, recursion, halving, sorting: "One loop, halving of a value."."""
        return big_o_text.describe(problem.text)

    def terms(self) -> frozenset[str]:
        """Return words that describe what a function does without naming a class."""
        return TERMS

    def similarity(self, answer: str, other: str) -> float:
        """Return 1 - rank distance / 5. Raises LabError when one of the two is no option."""
        for given in (answer, other):
            if given not in self.options:
                raise LabError(f"{given!r} is no answer of big_o", f"choose one of: {', '.join(self.options)}")
        return 1.0 - abs(self.options.index(answer) - self.options.index(other)) / (len(self.options) - 1)


TERMS = frozenset(
    (
        "loop loops nested inside single while recursion recursive call calls halving doubling sort sorted heap "
        "bisect scan slice list element elements index pairs range step steps depth helper accumulator counter "
        "window pointers dictionary stack comprehension swap divide subsets branches prefix"
    ).split()
)
