"""Specifications of a study: what may differ in them, and which other plans are one."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import LabError
from experiments import p2_retrieval_utility as p2
from experiments.contract import PhaseConfig
from experiments.data import split, universe
from experiments.domains import get_domain
from experiments.precision import Precision
from experiments.protocol.specifications import FACTORS, alternatives, as_given, conclusion, difference, specifications
from experiments.registry import PHASES, configure
from experiments.solving.choice import option_order

BOTH = (Precision.FLOAT32, Precision.BFLOAT16)


def small(**given: Any) -> PhaseConfig:
    return configure("p2", "smoke", given)


def test_one_at_a_time_each_specification_differs_in_one_value_and_the_study_is_first() -> None:
    """Else a change of the verdict could not be put down to one choice."""
    found = specifications("p2", small(), BOTH, every=False)
    assert [len(one.settings) for one in found] == [0] + [1] * (len(found) - 1)
    assert {name for one in found for name in one.settings} == set(FACTORS) - {"topics"}
    assert alternatives("e1", configure("e1", "smoke"), BOTH)["topics"] == (2, 8)
    for one in found[1:]:
        small(**one.settings)  # a value that the phase takes


def test_all_together_are_every_combination() -> None:
    """3 orders x 3 calibrations x 3 memories x 2 draws of seeds x 2 precisions x 2 numbers of memos besides 2, so 3 values."""
    found = specifications("p2", small(k=3), BOTH, every=True)
    assert len(found) == 3 * 3 * 3 * 2 * 2 * 3
    assert len({str(one) for one in found}) == len(found)
    assert found[0].settings == {}


def test_what_cannot_differ_is_left_out() -> None:
    """A memory of all problems has one draw, guessed formulas have no options, E2's memory is E1's."""
    whole = small(n_memory=len(split(small(), 12, 4).memory))
    assert "memory_draw" in alternatives("p2", whole, BOTH)
    zone = 96 - 2 * 6  # one in ten of 16 problems a class, at least one, is for the test and one for tuning
    assert "memory_draw" not in alternatives("p2", small(n_memory=zone), BOTH)
    assert not {"option_order", "calibration"} & alternatives("p2", small(domain="equations"), BOTH).keys()
    assert "memory_draw" not in alternatives("e2", configure("e2", "smoke"), BOTH)
    assert "precision" not in alternatives("p2", small(), (Precision.FLOAT32,))
    with pytest.raises(LabError, match="p1 is no test of differences"):
        specifications("p1", configure("p1", "smoke"), BOTH, every=False)


def test_a_plan_is_a_specification_if_it_differs_in_nothing_else() -> None:
    """Another number of problems, or another value of an earlier phase, is another study."""
    configs = {name: configure(name, "smoke").model_dump(mode="json") for name in PHASES}
    for one in specifications("p2", small(), BOTH, every=True)[1:40]:
        other = {**configs, "p2": small(**as_given(one)).model_dump(mode="json")}
        found = difference("p2", configs, other)
        assert found is not None
        assert as_given(found) == as_given(one)
    assert difference("p2", configs, configs) is None
    assert difference("p2", configs, {**configs, "p2": {**configs["p2"], "n_test": 5}}) is None
    assert difference("p2", configs, {**configs, "p1": {**configs["p1"], "k": 3}}) is None


def test_another_draw_remembers_other_problems_of_the_same_classes_and_keeps_the_test() -> None:
    """Else a specification would change its question, or leak a test problem into the memory."""
    first, second = (p2.Config(n_problems=96, memory_draw=draw) for draw in (0, 1))
    (memory, test), (other, same) = (split(c, 18, 6) for c in (first, second))
    assert same == test
    assert {p.problem_id for p in memory} != {p.problem_id for p in other}
    assert sorted(p.label for p in memory) == sorted(p.label for p in other)
    assert not {p.problem_id for p in other} & {p.problem_id for p in test}
    assert split(second, 18, 6).memory == other


def test_one_order_of_options_for_all_prompts() -> None:
    """Listed and reversed are each other's mirror, and the same for every problem."""
    domain = get_domain("big_o")
    for problem in universe(p2.Config(n_problems=96)).problems[:7]:
        listed, other = (
            option_order(p2.Config(n_problems=96, option_order=order), domain, problem)  # type: ignore[arg-type]
            for order in ("listed", "reversed")
        )
        assert listed == tuple(domain.options) == other[::-1]


def test_a_conclusion_names_the_hypothesis_where_the_phase_chooses_one() -> None:
    """E1 passes with four different hypotheses, and another hypothesis is another conclusion."""
    assert conclusion("PASS", {"hypothesis": "awakening"}) == "PASS, awakening"
    assert conclusion("FAIL", {"retrieval_helps": "semantic"}) == conclusion("FAIL", {}) == "FAIL"
