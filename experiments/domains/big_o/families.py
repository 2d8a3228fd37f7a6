"""The algorithm families of the domain big_o, read from families/*.txt.

A file holds one class: its label, then for each family a line "== name | arguments | natural names" and its templates
(template.py), divided by lines "-- or".
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Literal, cast

import numpy as np

from experiments.domains.big_o.template import fill

CLASSES = ("constant", "logarithmic", "linear", "linearithmic", "quadratic", "exponential")


@dataclass(frozen=True)
class Family:
    """One algorithm of known worst-case complexity, in one or more templates.

    takes: the arguments - a list of n numbers, such a list and a number to look for, or the integer n.
    called: natural names of its functions. They hint at the class, as real code does, and never name it.
    deep: True if the recursion is n calls deep, which Python's own limit bounds.
    """

    label: str
    name: str
    takes: Literal["list", "search", "int"]
    templates: tuple[str, ...]
    called: tuple[str, ...]
    deep: bool = False

    def make(self, rng: np.random.Generator, names: str = "neutral") -> str:
        """Return the text of one function of this family."""
        template = self.templates[int(rng.integers(len(self.templates)))]
        return fill(template, rng, self.called if names == "natural" else ())


def _read(text: str) -> list[Family]:
    """Return the families of one file."""
    label, *parts = text.split("\n== ")
    found = []
    for part in parts:
        head, _, body = part.partition("\n")
        name, arguments, called = head.split(" | ")
        takes, _, deep = arguments.partition(", ")
        templates = tuple(f"\n{one.strip()}\n" for one in body.split("\n-- or\n"))
        kind = cast(Literal["list", "search", "int"], takes)
        found.append(Family(label.strip(), name, kind, templates, tuple(called.split()), deep == "deep"))
    return found


_FILES = resources.files("experiments.domains.big_o") / "families"
FAMILIES = tuple(f for name in CLASSES for f in _read((_FILES / f"{name}.txt").read_text(encoding="utf-8")))
