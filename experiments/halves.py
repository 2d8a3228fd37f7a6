"""Two halves of the problems that a phase chooses on: one chooses, the other says how good the choice is.

The best of many on some problems looks better there than it is (Cawley and Talbot 2010, JMLR 11:2079).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from experiments.domains import Problem
from experiments.seeds import generator


def held_out(problems: Sequence[Problem], seed: int) -> frozenset[str]:
    """Return the ids of the half that is held out.

    Families (groups) are taken in a drawn order, the larger ones first. Each goes whole to the side that has fewer of its
    classes, or fewer in all, or else is held out. A family with all of a class, if these are several, is divided.

    Args:
        problems: at least two, in any order.
    """
    pieces = _pieces(sorted(problems, key=lambda p: p.problem_id))
    order = generator(seed, "halves").permutation(len(pieces))
    more: Counter[str] = Counter()  # class -> those held out less those that choose
    found: set[str] = set()
    for i in sorted(order, key=lambda i: -len(pieces[i])):
        own = Counter(p.label for p in pieces[i])
        lean = sum(more[label] * n for label, n in own.items()) or more.total()
        if lean <= 0:
            found |= {p.problem_id for p in pieces[i]}
            more.update(own)
        else:
            more.subtract(own)
    return frozenset(found)


def _pieces(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Return the problems as what stays together: families, but single problems of those that would take a whole class."""
    families: dict[str, list[Problem]] = defaultdict(list)
    for p in problems:
        families[p.group].append(p)
    total = Counter(p.label for p in problems)
    pieces: list[list[Problem]] = []
    for own in families.values():
        of_class = Counter(p.label for p in own)
        divided = len(families) == 1 or any(n == total[label] > 1 for label, n in of_class.items())
        pieces += [[p] for p in own] if divided else [own]
    return pieces
