"""What counts as the same result: an audit is worth what this comparison sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from experiments.contract import Trial, Unit
from experiments.domains import get_domain
from experiments.precision import Precision
from experiments.protocol.agreement import TOLERANCES, compare, difference, precision_of
from experiments.registry import configure
from experiments.solving.choice import with_outcome

DOMAIN = get_domain("big_o")
CONFIG = configure("p2", "smoke")


def unit_in(precision: str, model: str = "smollm2-135m") -> Unit:
    config = configure("p2", "smoke", {"precision": precision}).model_dump(mode="json")
    return Unit("0" * 32, "p2", 1, config, {}, {"models": {model: "d"}})


TRIAL = Trial(
    "p-1",
    "semantic",
    seed=100,
    attempts=2.0,
    first_right=0.5,
    solved=True,
    answer="O(n)",
    truth="O(n)",
    tokens_in=40,
    tokens_out=1,
    latency_s=0.5,
    details={"logprobs": [-1.0, -2.0], "retrieved": ["p-2"], "adapter": "ab"},
)

UNIT = unit_in("float32")


def test_what_counts_as_different() -> None:
    """The comparison itself sees a changed choice, a missing trial, and a number beyond the tolerance."""
    one = {"answer": "O(n)", "details": {"logprobs": [-1.0, -2.0], "adapter": "x"}, "latency_s": 1.0}
    assert not difference(one, {**one, "latency_s": 2.0, "details": {"logprobs": [-1.0, -2.0005], "adapter": "y"}})
    assert difference(one, {**one, "answer": "O(1)"}) == ".answer: 'O(n)' 'O(1)'"
    assert difference(one, {**one, "details": {"logprobs": [-1.0, -2.1], "adapter": "x"}}).startswith(
        ".details.logprobs[1]"
    )
    assert difference([one], [one, one])


@pytest.mark.parametrize(
    "change",
    [
        {"problem_id": "p-9"},
        {"condition": "random"},
        {"seed": 200},
        {"attempts": 3},
        {"attempts": None},
        {"first_right": 0.7},
        {"solved": False},
        {"answer": "O(1)"},
        {"truth": "O(1)"},
        {"tokens_in": 41},
        {"tokens_out": 2},
        {"error": "out of memory"},
        {"details": {"logprobs": [-1.0, -2.01], "retrieved": ["p-2"], "adapter": "ab"}},
        {"details": {"logprobs": [-1.0, -2.0], "retrieved": ["p-3"], "adapter": "ab"}},
        {"details": {"logprobs": [-1.0], "retrieved": ["p-2"], "adapter": "ab"}},
    ],
)
def test_every_field_but_the_clock_is_compared(change: dict[str, Any]) -> None:
    """A field that the comparison passed over could differ on every other machine without anybody knowing."""
    found = compare([TRIAL, TRIAL], [TRIAL, replace(TRIAL, **change)], UNIT)
    assert (found.trials, found.deviating) == (2, 1)
    assert found.first.startswith(f"trial 1.{next(iter(change))}")


def test_clocks_and_last_bits_are_no_deviation() -> None:
    """Two machines never take equally long nor sum in the same order: that alone must not ring the bell."""
    near = {"logprobs": [-1.0, -2.00004], "retrieved": ["p-2"], "adapter": "other bytes"}
    found = compare([TRIAL], [replace(TRIAL, latency_s=9.0, details=near)], UNIT)
    assert (found.deviating, found.first) == (0, "")
    assert found.largest == pytest.approx(4e-5)


def test_missing_and_surplus_trials_deviate() -> None:
    """Half a result equals the first half of the whole one, and is not the same result."""
    assert (compare([TRIAL] * 3, [TRIAL], UNIT).deviating, compare([TRIAL], [TRIAL] * 3, UNIT).deviating) == (2, 2)
    assert compare([TRIAL], [], UNIT).first == "1 trials and 0"
    assert compare([], [], UNIT).largest is None


def answered(logprobs: list[float]) -> Trial:
    """A trial of a choice as experiments.solving.solving makes it from log-probabilities."""
    asked = Trial("p-1", "semantic", truth=DOMAIN.options[0])
    return with_outcome(asked, DOMAIN, DOMAIN.options[0], {"logprobs": logprobs}, CONFIG)


def tied(width: float) -> tuple[Trial, Trial]:
    """Two trials of which the first two options are `width` nats apart, the one way and the other."""
    rest = [-9.0] * (len(DOMAIN.options) - 2)
    return answered([-1.0 + width, -1.0, *rest]), answered([-1.0 - width, -1.0, *rest])


def test_a_near_tie_is_counted_as_one() -> None:
    """Two machines that agree to the tolerance rank two options in another order where no number says which comes first."""
    one, two = tied(TOLERANCES[Precision.FLOAT32].nats / 4)
    assert one.attempts != two.attempts and one.answer != two.answer
    found = compare([one, one], [two, one], UNIT)
    assert (found.deviating, found.ties, found.first) == (0, 1, "")


def test_numbers_that_follow_from_agreeing_ones_may_differ_by_more() -> None:
    """At temperature 0.3 a difference of one tolerance moves the expected attempts by up to four of them."""
    nats = TOLERANCES[Precision.FLOAT32].nats
    one, two = (answered([-1.0 + w, *[-1.0] * (len(DOMAIN.options) - 1)]) for w in (0.0, nats * 0.9))
    assert abs((one.attempts or 0) - (two.attempts or 0)) > 2 * nats
    assert compare([one], [two], UNIT).deviating == 0


def test_what_is_no_near_tie_deviates() -> None:
    """An outcome that the numbers do not explain, or anything else that differs."""
    one, two = tied(TOLERANCES[Precision.FLOAT32].nats / 4)
    forged = replace(one, details={**one.details, "guesses": one.details["guesses"][::-1]})
    for a, b in (
        (one, forged),
        (one, replace(forged, answer=forged.details["guesses"][0])),
        (one, replace(two, attempts=one.attempts)),
        (one, replace(two, first_right=one.first_right)),
        (one, replace(two, answer=one.answer)),
        (one, replace(two, tokens_in=9)),
        (one, replace(two, problem_id="p-2")),
        (one, replace(two, details={**two.details, "retrieved": ["p-3"]})),
        tied(0.1),
    ):
        found = compare([a], [b], UNIT)
        assert (found.deviating, found.ties) == (1, 0), (a, b)


def test_each_precision_has_its_own_tolerance() -> None:
    """float32's would call every unit in bfloat16 deviating; bfloat16's would pass a float32 unit computed in bfloat16."""
    assert set(TOLERANCES) == set(Precision)
    near = TOLERANCES[Precision.BFLOAT16].nats / 2
    one, two = (
        answered([-9.0, *[-1.0] * (len(DOMAIN.options) - 1)]),
        answered([-9.0 + near, *[-1.0] * (len(DOMAIN.options) - 1)]),
    )
    half = unit_in("bfloat16")
    found = compare([one], [two], half)
    assert found.deviating == 0 and found.tolerance == TOLERANCES[Precision.BFLOAT16].nats
    assert compare([one], [two], UNIT).deviating == 1
    assert precision_of(unit_in("bfloat16", model="all-MiniLM-L6-v2")) is Precision.FLOAT32
    old = {k: v for k, v in UNIT.config.items() if k != "precision"}
    assert precision_of(replace(UNIT, config=old)) is Precision.FLOAT32


def test_where_it_was_computed_is_no_deviation() -> None:
    """A card and a processor that agree would differ by their names; in other numbers they do differ."""
    engine = {
        "engine": "transformers",
        "version": "5.23.0",
        "torch": "2.13.0+cpu",
        "device": "cpu",
        "numbers": "float32",
    }
    one, two = (
        replace(TRIAL, details={"engine": engine | more}) for more in ({}, {"device": "cuda", "torch": "2.13.0"})
    )
    assert compare([one], [two], UNIT).deviating == 0
    assert compare([one], [replace(TRIAL, details={"engine": engine | {"numbers": "bfloat16"}})], UNIT).deviating == 1
