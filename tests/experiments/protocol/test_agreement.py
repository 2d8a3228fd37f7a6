"""What counts as the same result: an audit is worth what this comparison sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from experiments.contract import Trial
from experiments.protocol.agreement import compare, difference

TRIAL = Trial(
    "p-1",
    "semantic",
    seed=100,
    attempts=2,
    solved=True,
    answer="O(n)",
    truth="O(n)",
    tokens_in=40,
    tokens_out=1,
    latency_s=0.5,
    details={"logprobs": [-1.0, -2.0], "retrieved": ["p-2"], "adapter": "ab"},
)


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
    found = compare([TRIAL, TRIAL], [TRIAL, replace(TRIAL, **change)])
    assert (found.trials, found.deviating) == (2, 1)
    assert found.first.startswith(f"trial 1.{next(iter(change))}")


def test_clocks_and_last_bits_are_no_deviation() -> None:
    """Two machines never take equally long nor sum in the same order: that alone must not ring the bell."""
    near = {"logprobs": [-1.0, -2.00004], "retrieved": ["p-2"], "adapter": "other bytes"}
    found = compare([TRIAL], [replace(TRIAL, latency_s=9.0, details=near)])
    assert (found.deviating, found.first) == (0, "")
    assert found.largest == pytest.approx(4e-5)


def test_missing_and_surplus_trials_deviate() -> None:
    """Half a result equals the first half of the whole one, and is not the same result."""
    assert (compare([TRIAL] * 3, [TRIAL]).deviating, compare([TRIAL], [TRIAL] * 3).deviating) == (2, 2)
    assert compare([TRIAL], []).first == "1 trials and 0"
    assert compare([], []).largest is None
