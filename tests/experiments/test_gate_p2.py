"""P2's comparisons through the real tests, and its gate at every edge."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_trials import choice_trials, compared, metrics_of

from experiments import p2_retrieval_utility as p2
from experiments.contract import Metrics, Status

CONFIG = p2.Config()
FLAGS = {"ceiling": [], "floor": []}
BASE = [4, 5, 3] * 6  # 18 problems: with 13 or fewer and ties scipy counts all permutations, a second a test


def less(by: int) -> list[int]:
    return [a - by for a in BASE]


def decided(
    random: tuple[float | None, float | None],
    recent: tuple[float | None, float | None],
    semantic: tuple[float | None, float | None],
) -> Metrics:
    """Metrics from (adjusted p, mean difference) of each retrieval."""
    pairs = zip(("random", "recent", "semantic"), (random, recent, semantic), strict=True)
    return metrics_of([m for name, (p, d) in pairs for m in compared(f"{name} - none", p, d)], flags=FLAGS, errors=[])


def test_fewer_attempts_pass_and_the_best_condition_is_named() -> None:
    """The plain case: semantic saves two attempts on every problem, random nothing."""
    metrics = p2.metrics(choice_trials({"none": BASE, "random": BASE, "recent": less(1), "semantic": less(2)}), CONFIG)
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.PASS
    assert verdict.findings.retrieval_helps in ("recent", "semantic")  # both are significant, with the same p
    difference = metrics.find("mean_difference", "semantic - none")
    assert difference is not None and difference.value == -2.0 and difference.n == 18
    assert verdict.main.metric == "adjusted_p" and verdict.threshold == 0.05
    assert verdict.next_steps == ()


def test_worse_and_significant_does_not_pass() -> None:
    """A two-sided p below 0.05 says "different"; a retrieval that costs attempts is no reason to go on."""
    metrics = p2.metrics(choice_trials({c: less(-2) if c != "none" else BASE for c in p2.CONDITIONS}), CONFIG)
    p = metrics.find("adjusted_p", "semantic - none")
    assert p is not None and p.value is not None and p.value < 0.05
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.FAIL
    assert verdict.findings is None
    assert "+2.00 attempts" in verdict.reason


def test_better_but_not_significant_fails_with_the_number_of_problems_it_needs() -> None:
    """The failure protocol names how many problems the effect seen asks for, more than there were."""
    mixed = [a + (-1 if i % 3 else 1) for i, a in enumerate(BASE)]
    metrics = p2.metrics(choice_trials({"none": BASE, "random": mixed, "recent": mixed, "semantic": mixed}), CONFIG)
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.FAIL
    step = next(s for s in map(str, verdict.next_steps) if "n_test=" in s)
    assert int(step.split("n_test=")[1].split()[0]) > 18


def test_the_threshold_is_strict() -> None:
    """p < 0.05: equal to the level is not below it; the level tried is the p that came out."""
    trials = choice_trials({"none": BASE, "random": BASE, "recent": BASE, "semantic": less(1)})
    p = p2.metrics(trials, CONFIG).find("adjusted_p", "semantic - none")
    assert p is not None and p.value is not None
    for alpha, status in ((p.value, Status.FAIL), (float(np.nextafter(p.value, 1)), Status.PASS)):
        config = p2.Config(alpha=alpha)
        assert p2.gate(p2.metrics(trials, config), config).status is status


@pytest.mark.parametrize(
    ("random", "recent", "semantic", "status", "named"),
    [
        ((0.04, -0.5), (0.9, 0.1), (0.001, -0.4), Status.PASS, "semantic"),
        ((0.04, -0.5), (0.9, 0.1), (0.06, -0.9), Status.PASS, "random"),
        ((0.001, 0.5), (0.2, 0.4), (0.6, -0.1), Status.FAIL, "semantic"),
        ((0.001, 0.5), (0.2, 0.4), (0.6, 0.1), Status.FAIL, "random"),
        ((0.001, 0.0), (1.0, 0.0), (1.0, 0.0), Status.FAIL, "random"),
        ((None, None), (None, None), (0.01, -0.4), Status.PASS, "semantic"),
        ((None, -1.0), (None, -1.0), (None, -1.0), Status.INCONCLUSIVE, ""),
        ((0.01, None), (0.01, None), (0.01, None), Status.INCONCLUSIVE, ""),
    ],
)
def test_which_comparison_decides(
    random: tuple[float | None, float | None],
    recent: tuple[float | None, float | None],
    semantic: tuple[float | None, float | None],
    status: Status,
    named: str,
) -> None:
    """Fewer attempts first, then the smallest p; an undefined number never decides."""
    verdict = p2.gate(decided(random, recent, semantic), CONFIG)
    assert verdict.status is status
    assert verdict.main.condition == (f"{named} - none" if named else "")
    assert verdict.findings == (p2.Findings(retrieval_helps=named) if status is Status.PASS else None)


@pytest.mark.parametrize("lost", [p2.CONDITIONS, ("none",)])
def test_failed_trials_are_counted_and_never_numbers(lost: tuple[str, ...]) -> None:
    """Where nothing can be compared: INCONCLUSIVE, with the failures counted, the cause named and how to mend it."""
    numbers: dict[str, list[int | None]] = {c: [None] * 18 if c in lost else list(BASE) for c in p2.CONDITIONS}
    metrics = p2.metrics(choice_trials(numbers), CONFIG)
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.main.value is None and "OSError: gone" in verdict.reason
    assert str(verdict.next_steps[0]).startswith("pip install '.[weak]'  (")
    mean = metrics.find("attempts_mean", "none")
    assert mean is not None and mean.failed == 54 and mean.value is None


def test_one_failed_retrieval_leaves_the_others_to_be_judged() -> None:
    """It may have been the one that helps, so there is no FAIL without it; a PASS of another stands."""
    numbers: dict[str, list[int | None]] = {c: list(BASE) for c in p2.CONDITIONS} | {"semantic": [None] * 18}
    verdict = p2.gate(p2.metrics(choice_trials(numbers), CONFIG), CONFIG)
    assert verdict.status is Status.INCONCLUSIVE and verdict.main.n == 18
    assert verdict.reason.startswith("semantic - none could not be compared") and "OSError: gone" in verdict.reason
    passed = p2.gate(p2.metrics(choice_trials({**numbers, "recent": list(less(2))}), CONFIG), CONFIG)
    assert passed.status is Status.PASS and passed.findings == p2.Findings(retrieval_helps="recent")


def test_a_problem_that_failed_once_is_left_out_of_its_own_comparison() -> None:
    """A pair must be whole; the other comparisons keep the problem, and every number says how many it rests on."""
    trials = choice_trials({"none": BASE, "random": BASE, "recent": BASE, "semantic": [None, *less(1)[1:]]})
    metrics = p2.metrics(trials, CONFIG)
    for condition in p2.CONDITIONS:
        mean = metrics.find("attempts_mean", condition)
        lost = condition == "semantic"
        assert mean is not None and (mean.n, mean.failed) == ((17, 3) if lost else (18, 0))
        if condition != "none":
            difference, p = (metrics.find(m, f"{condition} - none") for m in ("mean_difference", "adjusted_p"))
            assert difference is not None and p is not None and difference.n == p.n == (17 if lost else 18)
    visible = metrics.find("smallest_effect")
    assert visible is not None and visible.n == 17, "of the comparison that sees least"


def test_a_ceiling_is_flagged_and_named_in_the_next_steps() -> None:
    """When all is solved at the first guess no memory can help; the advice is harder problems, not more of them."""
    metrics = p2.metrics(choice_trials({c: [1] * 18 for c in p2.CONDITIONS}), CONFIG)
    assert metrics.facts["flags"] == {"ceiling": list(p2.CONDITIONS), "floor": []}
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.FAIL
    assert any("harder problems" in step.reason for step in verdict.next_steps)
    floor = p2.metrics(choice_trials({c: [6] * 18 for c in p2.CONDITIONS}), CONFIG)
    assert floor.facts["flags"] == {"ceiling": [], "floor": list(p2.CONDITIONS)}


def test_the_smallest_visible_effect_is_among_the_numbers() -> None:
    """docs/science.md, P2: before it can say "no effect", P2 says which effect it could have seen."""
    found = p2.metrics(choice_trials(dict.fromkeys(p2.CONDITIONS, BASE)), CONFIG).find("smallest_effect")
    assert found is not None and found.value is not None and 0.6 < found.value < 0.8 and found.n == 18
