"""How often single tests find a difference that is not there, or their smallest visible effect; benchmarks.simulated_verdicts shows it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from experiments import power, sequential, statistics

LEVEL = 0.05


def type_one(by_group: bool, icc: float, families: int, simulations: int, seed: int) -> float:
    """Return how often the signed-rank test finds a difference at 0.05 where there is none, in 30 problems."""
    rng = np.random.default_rng([seed, round(100 * icc), families])
    family = np.arange(30) % families
    groups = [f"f{f}" for f in family] if by_group else None
    found = 0
    for _ in range(simulations):
        difference = np.sqrt(icc) * rng.normal(size=families)[family] + np.sqrt(1 - icc) * rng.normal(size=30)
        p = statistics.wilcoxon_paired(difference, np.zeros(30), groups=groups).p
        found += p is not None and p < LEVEL
    return found / simulations


class AtAnyLook(NamedTuple):
    """How often a difference that is not there is found, by a test that is made after every third family of up to 60."""

    betting: float  # experiments.sequential
    wilcoxon: float  # for a fixed number of families


def type_one_at_any_look(icc: float, simulations: int, seed: int) -> AtAnyLook:
    """Look 19 times at 3 to 60 families of three problems, from six families on with Wilcoxon's test."""
    rng, found = np.random.default_rng([seed, round(100 * icc)]), np.zeros(2)
    for _ in range(simulations):
        shared, single = rng.normal(size=(60, 1)), rng.normal(size=(60, 3))
        differences = np.clip(1.5 * (np.sqrt(icc) * shared + np.sqrt(1 - icc) * single), -5, 5)
        means = differences.mean(axis=1)
        capital = max(sequential.capital_below(signed, 0.0, -5.0, 5.0).max() for signed in (means, -means))
        ps = (statistics.wilcoxon_paired(means[:n], np.zeros(n)).p for n in range(6, 61, 3))
        found += capital >= 2 / LEVEL, any(p is not None and p < LEVEL for p in ps)
    return AtAnyLook(*(found / simulations).tolist())


def power_of(level: power.Level, n: int, simulations: int, seed: int) -> float:
    """Return how often a test at this level sees its own smallest visible effect, in normal differences."""
    effect, rng = power.smallest_effect(n, level) or 0.0, np.random.default_rng([seed, n])
    alternative = "two-sided" if level.sides == 2 else "greater"
    found = 0
    for _ in range(simulations):
        p = statistics.wilcoxon_paired(rng.normal(effect, 1, n), np.zeros(n), alternative).p
        found += p is not None and p < level.tail * level.sides
    return found / simulations
