"""Halves of the problems that a phase chooses on: even by class, whole families where they allow it, the same for every order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import e0_retrieval_parameters as e0
from experiments.domains import Problem
from experiments.findings import Earlier
from experiments.halves import held_out
from experiments.registry import configure


def problems_of(*kinds: tuple[str, str]) -> list[Problem]:
    """Problems q00, q01, ... of these families and classes."""
    return [Problem(f"q{i:02}", f"text {i}", label, group) for i, (group, label) in enumerate(kinds)]


def test_halves_of_e0_at_full_scale_have_equal_classes_and_no_family_on_both_sides() -> None:
    """50 of 100 queries choose; of the 16 or 17 of a class no half has more than one more than the other."""
    queries = e0.sides(configure("e0", "full"), Earlier()).test or ()
    held = held_out(queries, 42)
    sides = [[p for p in queries if (p.problem_id in held) == side] for side in (True, False)]
    assert [len(side) for side in sides] == [50, 50]
    assert not {p.group for p in sides[0]} & {p.group for p in sides[1]}
    counts = [Counter(p.label for p in side) for side in sides]
    assert all(abs(counts[0][label] - counts[1][label]) <= 1 for label in counts[0] | counts[1])


def test_another_seed_draws_other_halves() -> None:
    """The halves are drawn, not read off the order of the data."""
    queries = problems_of(*[(f"g{i}", "ab"[i % 2]) for i in range(12)])
    found = {held_out(queries, seed) for seed in range(20)}
    assert len(found) > 15 and {len(half) for half in found} == {6}


def test_a_family_that_is_all_of_a_class_is_divided() -> None:
    """Whole, it would put its class in one half; the families of the other class stay whole."""
    queries = problems_of(*[("a", "a")] * 6, *[("b", "b")] * 3, *[("c", "b")] * 3)
    for seed in range(10):
        held = held_out(queries, seed)
        of = Counter(p.group for p in queries if p.problem_id in held)
        assert of["a"] == 3 and {of["b"], of["c"]} == {0, 3}


KINDS = st.lists(st.tuples(st.sampled_from("fghi"), st.sampled_from("abc")), min_size=2, max_size=24)


@given(KINDS, st.integers(0, 99), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_no_half_is_empty_and_none_depends_on_the_order(kinds: list[tuple[str, str]], seed: int, random) -> None:  # type: ignore[no-untyped-def]
    """Whatever families and classes there are, both halves have problems, and the same ones on every host."""
    problems = problems_of(*kinds)
    held = held_out(problems, seed)
    assert 0 < len(held) < len(problems)
    random.shuffle(problems)
    assert held_out(problems, seed) == held
