"""E0's choice among the cells of its grid: the Pareto front, the bounds, and what a choice gains by being the best of many.

All numbers of a cell here are of the half of the queries that chooses; the other half says how good the chosen cell is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from experiments import statistics
from experiments.analysis.resampling import BOOTSTRAP_SEED, Resampling
from experiments.solving.retrieval import RetrievalConfig

FACTORS = ("embedder", "text_weight", "k", "distance")  # of the grid
LEAST_BOUND = 1e-3  # relevance is 0 to 1; relaxing further says nothing, and would never reach a relevance of 0


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid."""

    name: str
    retrieval: RetrievalConfig
    relevance: float  # mean over the queries that choose
    measured_s: float  # median time of a retrieval
    time_s: float  # the same, equal for times that are nearer to each other than the resolution


@dataclass(frozen=True)
class Bounds:
    """The bounds of the choice of a cell."""

    time_s: float  # at most
    relevance: float  # at least; relaxed by x0.9 until one fits
    ks: tuple[int, ...]  # k one of


class Choice(NamedTuple):
    """The configuration that was chosen, and what was relaxed for it; without one, why there is none."""

    cell: Cell | None
    note: str


def merge_times(cells: Sequence[Cell], resolution_s: float) -> list[Cell]:
    """Return the cells with one time for all whose times follow each other more closely than the resolution: the least.

    Rounding would split equal times at a boundary, and the choice would change from run to run.
    """
    merged: dict[str, float] = {}
    group = last = -np.inf
    for cell in sorted(cells, key=lambda c: c.measured_s):
        if cell.measured_s - last >= resolution_s:
            group = cell.measured_s
        last, merged[cell.name] = cell.measured_s, group
    return [replace(c, time_s=merged[c.name]) for c in cells]


def front(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that no other beats in relevance without being slower."""

    def beaten(c: Cell) -> bool:
        atleast = (o for o in cells if o.relevance >= c.relevance and o.time_s <= c.time_s)
        return any(o.relevance > c.relevance or o.time_s < c.time_s for o in atleast)

    return [c for c in cells if not beaten(c)]


def choose(cells: Sequence[Cell], best: Sequence[Cell], bounds: Bounds) -> Choice:
    """Return the most relevant cell that is on the front, in time, relevant enough, and of an allowed k.

    Args:
        best: the cells on the front.
    """
    for group, note in ((best, ""), (cells, "no allowed k on the front; ")):
        fit = [c for c in group if c.measured_s <= bounds.time_s and c.retrieval.k in bounds.ks]
        bound = bounds.relevance
        while fit and bound > LEAST_BOUND and not any(c.relevance >= bound for c in fit):
            bound *= 0.9
        if fit:
            cell = max(fit, key=lambda c: (c.relevance, -c.time_s))
            lowered = f"relevance bound lowered to {bound:.2f}" if bound < bounds.relevance else ""
            return Choice(cell, (note + lowered).strip("; "))
    if not cells:
        return Choice(None, "none was measured")
    if not any(c.retrieval.k in bounds.ks for c in cells):
        return Choice(None, f"no configuration has a k of {', '.join(map(str, bounds.ks))}")
    return Choice(None, "no configuration is fast enough")


def variance_share(cells: Sequence[Cell], factor: str) -> float | None:
    """Main-effect share of variance of mean relevance: between-level sum of squares over the total (Fisher 1925)."""
    found = np.array([c.relevance for c in cells])
    total = float(((found - found.mean()) ** 2).sum()) if len(found) else 0.0
    if total == 0:
        return None
    between = 0.0
    for level in dict.fromkeys(  # sums depend on the order, and the order of a set on the process
        getattr(c.retrieval, factor) for c in cells
    ):
        part = np.array([c.relevance for c in cells if getattr(c.retrieval, factor) == level])
        between += len(part) * float((part.mean() - found.mean()) ** 2)
    return between / total


def optimism(chose: Mapping[str, float], held: Mapping[str, float], by: Resampling) -> statistics.Interval:
    """Return how much better the chosen cell looks on the queries that chose it than on those held out.

    Args:
        chose, held: query -> its relevance, of the two halves.
    """
    values, n = np.array([*chose.values(), *held.values()]), len(chose)

    def difference(i: np.ndarray) -> float | None:
        first, second = values[i[i < n]], values[i[i >= n]]
        return float(first.mean() - second.mean()) if len(first) and len(second) else None

    return statistics.bootstrap(
        "mean on the half that chose less mean on the half held out",
        difference,
        len(values),
        BOOTSTRAP_SEED,
        by.of([*chose, *held]),
    )
