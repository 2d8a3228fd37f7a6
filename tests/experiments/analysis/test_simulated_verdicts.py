"""Made-up trials with a known truth through the gates, a seeded hundred each; the benchmark does a thousand."""

from __future__ import annotations

import pytest

from benchmarks import simulated_tests
from benchmarks import simulated_verdicts as simulated
from experiments import e1_retrieval_strategies as e1
from experiments import p2_retrieval_utility as p2
from experiments.power import Level

SIMULATIONS = 100
# Three standard deviations of a share of 0.05 in a hundred above it.
MOST_WRONG = 0.05 + 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5


@pytest.mark.parametrize(
    ("gate", "truth", "icc"),
    [
        ("p2", "no effect", 0.5),
        ("p2", "effect against", 0.3),
        ("p2, lexical", "no effect", 0.5),
        ("p2, lexical", "effect against", 0.3),
        ("e1", "no effect", 0.3),
        ("e1", "effect against", 0.0),
        ("e1", "chance", 0.5),
        ("e1", "floor", 0.5),
        ("e1", "copied labels", 0.0),
        ("e1", "copied labels", 0.5),
        ("e1", "wide", 0.3),
        ("e2", "no effect", 0.5),
        ("e2, stabilization", "effect against", 0.3),
        ("e2, stabilization", "no effect", 0.1),
    ],
)
def test_verdicts_are_wrong_no_more_often_than_their_level(gate: str, truth: str, icc: float) -> None:
    """Never for the opposite of the truth; for what is not there at most at 5 %, families and all."""
    found = simulated.outcomes_of(gate, truth, icc, SIMULATIONS, seed=5)
    assert found.opposite == 0, found
    assert found.wrong <= MOST_WRONG, found


@pytest.mark.parametrize(
    ("gate", "outcome"),
    [
        ("p2", "semantic"),
        ("p2, lexical", "lexical"),
        ("e1", "amplification"),
        ("e2", "PASS"),
        ("e2, stabilization", "PASS"),
    ],
)
def test_effects_that_are_there_are_found(gate: str, outcome: str) -> None:
    """Gates that never pass are never wrong either."""
    found = simulated.outcomes_of(gate, "effect for", 0.1, 40, seed=5)
    assert found.outcomes[outcome] > 20 and found.wrong == 0, found


@pytest.mark.parametrize("icc", [0.3, 0.5])
def test_six_families_of_alike_problems_are_six_observations(icc: float) -> None:
    """By problem differences are found where there are none, in one case of five or four; by group in 5 % at most."""
    alone, grouped = (simulated_tests.type_one(by_group, icc, 6, 300, seed=5) for by_group in (False, True))
    assert alone > 0.12
    assert grouped <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


@pytest.mark.parametrize(("level", "n"), [(p2.level_of(p2.Config()), 30), (e1.level_of(e1.Config()), 60)])
def test_the_smallest_visible_effect_is_seen_at_80_percent(level: Level, n: int) -> None:
    """At the level of one of four or three comparisons; at 5 % it would be seen more often than was said."""
    seen = simulated_tests.power_of(level, n, 400, seed=5)
    assert abs(seen - 0.8) < 3 * (0.8 * 0.2 / 400) ** 0.5 + 0.02, seen
