"""P2's comparisons through the real tests, and its gate at every edge."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_trials import choice_trials, compared, metrics_of

from experiments import p2_retrieval_utility as p2
from experiments.contract import Metric, Metrics, Status

CONFIG = p2.Config(controls=())
FLAGS: dict[str, list[str]] = {"ceiling": [], "floor": []}
BASE = [4, 5, 3] * 6  # 18 problems
# 60 of 74 problems need one attempt more and 14 need five fewer: the mean falls by 10 / 74, the signed ranks rise.
MANY_WORSE = ([2] * 60 + [6] * 14, [3] * 60 + [1] * 14)


def less(by: int) -> list[int]:
    return [a - by for a in BASE]


Seen = tuple[float | None, float | None] | tuple[float, float, float]  # adjusted p, mean difference, rank-biserial


def decided(none: Seen, random: Seen) -> Metrics:
    """Metrics of semantic against none and against random."""
    rows = []
    for name, seen in (("none", none), ("random", random)):
        p, d, *ranks = seen
        rows += compared(f"semantic - {name}", p, d, ranks=ranks[0] if ranks else None)
    return metrics_of(rows, flags=FLAGS, errors=[])


def test_fewer_attempts_than_none_and_than_random_pass() -> None:
    """The plain case: semantic saves two attempts on every problem, random one on every second."""
    some = [a - (i % 2) for i, a in enumerate(BASE)]
    metrics = p2.metrics(choice_trials({"none": BASE, "random": some, "recent": less(1), "semantic": less(2)}), CONFIG)
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.PASS and verdict.findings == p2.Findings(retrieval_helps="semantic")
    difference = metrics.find("mean_difference", "semantic - none")
    assert difference is not None and difference.value == -2.0 and difference.n == 18
    assert verdict.main.metric == "adjusted_p" and verdict.threshold == 0.05
    assert verdict.next_steps == ()
    assert verdict.reason.startswith("semantic needs fewer attempts than none and than random: semantic - none -2.00")
    methods = {m.method for m in metrics.values if m.metric == "adjusted_p"}
    assert all("Holm over 4" in method for method in methods), "each of the comparisons that were looked at is counted"


@pytest.mark.parametrize("alone", ["random", "recent"])
def test_random_or_recent_memos_alone_pass_nothing(alone: str) -> None:
    """More text in the prompt that helps whatever it is shows no use of retrieval."""
    numbers = {c: list(BASE) for c in p2.CONDITIONS} | {alone: less(2)}
    verdict = p2.gate(p2.metrics(choice_trials(numbers), CONFIG), CONFIG)
    assert verdict.status is Status.FAIL and verdict.findings is None


def test_what_random_memos_do_as_well_is_no_use_of_retrieval() -> None:
    """Semantic beats none clearly, and random does too: FAIL, with the comparison that is missing."""
    near = [a - 2 + (i % 2) * (1 if i % 4 == 1 else -1) for i, a in enumerate(BASE)]
    metrics = p2.metrics(choice_trials({"none": BASE, "random": near, "recent": BASE, "semantic": less(2)}), CONFIG)
    verdict = p2.gate(metrics, CONFIG)
    p = metrics.find("adjusted_p", "semantic - none")
    assert p is not None and p.value is not None and p.value < 0.001
    assert verdict.status is Status.FAIL and verdict.main.condition == "semantic - random"
    assert verdict.reason.startswith("semantic is not shown to need fewer attempts than random: ")


def test_a_mean_and_a_test_that_disagree_pass_nothing() -> None:
    """60 of 74 problems are worse: it passed, with the sign from the mean and the p from the signed ranks."""
    none, semantic = MANY_WORSE
    trials = choice_trials({"none": none, "random": none, "recent": none, "semantic": semantic})
    metrics = p2.metrics(trials, CONFIG)
    p, mean, ranks = (metrics.find(m, "semantic - none") for m in ("adjusted_p", "mean_difference", "rank_biserial"))
    assert p is not None and mean is not None and ranks is not None
    assert p.value is not None and p.value < 0.05
    assert mean.value == pytest.approx(-10 / 74) and ranks.value is not None and ranks.value > 0.3
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.INCONCLUSIVE and verdict.findings is None
    assert "mean and signed ranks do not point the same way" in verdict.reason


def test_worse_and_significant_does_not_pass() -> None:
    """A two-sided p below 0.05 says "different"; a retrieval that costs attempts is no reason to go on."""
    metrics = p2.metrics(choice_trials({c: less(-2) if c != "none" else BASE for c in p2.CONDITIONS}), CONFIG)
    p = metrics.find("adjusted_p", "semantic - none")
    assert p is not None and p.value is not None and p.value < 0.05
    verdict = p2.gate(metrics, CONFIG)
    assert verdict.status is Status.FAIL
    assert verdict.findings is None
    assert "semantic needs more attempts than none" in verdict.reason and "+2.00 attempts" in verdict.reason


def test_better_but_not_significant_fails_with_the_number_of_problems_it_needs() -> None:
    """The failure protocol names how many problems the effect seen asks for, more than there were."""
    mixed = [a + (-1 if i % 3 else 1) for i, a in enumerate(BASE)]
    metrics = p2.metrics(choice_trials({"none": BASE, "random": BASE, "recent": mixed, "semantic": mixed}), CONFIG)
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
        config = p2.Config(alpha=alpha, controls=())
        assert p2.gate(p2.metrics(trials, config), config).status is status


@pytest.mark.parametrize(
    ("none", "random", "status", "named"),
    [
        ((0.001, -0.4), (0.04, -0.5), Status.PASS, "random"),
        ((0.04, -0.4), (0.001, -0.5), Status.PASS, "none"),
        ((0.06, -0.9), (0.001, -0.5), Status.FAIL, "none"),
        ((0.001, -0.9), (0.05, -0.5), Status.FAIL, "random"),
        ((0.001, 0.5), (0.001, 0.5), Status.FAIL, "none"),
        ((0.001, -0.5), (0.001, 0.5), Status.FAIL, "random"),
        ((0.001, -0.1, 0.3), (0.001, -0.4), Status.INCONCLUSIVE, "none"),
        ((0.001, 0.1, -0.3), (0.001, -0.4), Status.INCONCLUSIVE, "none"),
        ((0.001, 0.0), (0.001, -0.4), Status.INCONCLUSIVE, "none"),
        ((0.001, -0.1, 0.3), (0.2, -0.4), Status.FAIL, "random"),
        ((0.01, -0.4), (None, None), Status.INCONCLUSIVE, ""),
        ((None, -1.0), (0.01, -1.0), Status.INCONCLUSIVE, ""),
        ((0.01, None), (0.01, None), Status.INCONCLUSIVE, ""),
    ],
)
def test_which_comparison_decides(none: Seen, random: Seen, status: Status, named: str) -> None:
    """Both comparisons, both with mean and ranks on one side; the weaker one is the number shown."""
    verdict = p2.gate(decided(none, random), CONFIG)
    assert verdict.status is status
    assert verdict.main.condition == (f"semantic - {named}" if named else "")
    assert verdict.findings == (p2.Findings(retrieval_helps="semantic") if status is Status.PASS else None)


@pytest.mark.parametrize(
    ("semantic", "lexical", "status", "named"),
    [
        (
            (0.06, -0.3),
            (0.001, 0.5),
            Status.FAIL,
            "semantic",
        ),  # a retriever that costs attempts is not the stronger one
        ((0.001, -0.1, 0.3), (0.001, 0.5), Status.INCONCLUSIVE, "semantic"),
        ((0.001, 0.5), (0.2, -0.1), Status.FAIL, "lexical"),
        ((0.9, 0.1), (0.3, 0.1), Status.FAIL, "semantic"),
        ((0.001, 0.5), (0.001, -0.5), Status.PASS, "lexical"),
    ],
)
def test_the_stronger_retriever_decides(semantic: Seen, lexical: Seen, status: Status, named: str) -> None:
    """By the side of its difference, then by p: p has two sides, and 0.001 may say that it costs attempts."""
    rows = []
    for retriever, seen in (("semantic", semantic), ("lexical", lexical)):
        p, d, *ranks = seen
        for baseline in p2.BASELINES:
            rows += compared(f"{retriever} - {baseline}", p, d, ranks=ranks[0] if ranks else None)
    rows += [
        Metric("attempts_mean", value, condition=c) for c, value in (("none", 3.0), ("semantic", 3.2), ("vote", 2.0))
    ]
    config = p2.Config(controls=("lexical",))
    verdict = p2.gate(metrics_of(rows, flags=FLAGS, errors=[]), config)
    assert (verdict.status, verdict.main.condition.split(" - ")[0]) == (status, named)
    assert ("gain to explain" in verdict.reason) == (named == "semantic"), "what is said of labels is of semantic memos"


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


def test_a_retriever_without_results_is_not_judged() -> None:
    """It may have been the one that helps; `recent` helping stands for nothing."""
    numbers: dict[str, list[int | None]] = {c: list(BASE) for c in p2.CONDITIONS} | {"semantic": [None] * 18}
    for more in ({}, {"recent": list(less(2))}):
        verdict = p2.gate(p2.metrics(choice_trials({**numbers, **more}), CONFIG), CONFIG)
        assert verdict.status is Status.INCONCLUSIVE and verdict.main.value is None
        assert verdict.reason.startswith("Too few results to compare: semantic - none, semantic - random.")
        assert "OSError: gone" in verdict.reason


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
    assert found is not None and found.value is not None and 0.8 < found.value < 1.0 and found.n == 18
    assert "two-sided 0.05 over 4 comparisons" in found.method


MANY = [4, 5, 3, 4] * 12  # 48 problems
LOOKS = p2.Config(controls=(), n_test=96, look_every=12)


@pytest.mark.parametrize(
    ("semantic", "status", "words"),
    [
        ([a - 2 for a in MANY], Status.PASS, "semantic needs fewer attempts than none and than random: "),
        ([a + 1 for a in MANY], Status.FAIL, "Each retriever is shown to save less than 0.25 attempts"),
        ([a - (i % 3 == 0) for i, a in enumerate(MANY)], Status.INCONCLUSIVE, "Open after 48 problems, of 96 at most"),
    ],
)
def test_a_look_decides_or_leaves_it_open(semantic: list[int], status: Status, words: str) -> None:
    """With one look the third is a FAIL; between two looks it is a reason to go on."""
    numbers = {"none": MANY, "random": MANY, "recent": MANY, "semantic": semantic}
    metrics = p2.metrics(choice_trials(numbers), LOOKS)
    verdict = p2.gate(metrics, LOOKS)
    assert verdict.status is status and words in verdict.reason, verdict.reason
    assert not any("n_test" in str(step) for step in verdict.next_steps), "no more problems for this study"
    difference, p = (metrics.find(m, "semantic - none") for m in ("mean_difference", "adjusted_p"))
    assert difference is not None and difference.low is not None and difference.high is not None and p is not None
    assert difference.low <= np.mean(semantic) - np.mean(MANY) <= difference.high
    assert (
        "confidence sequence" in difference.method and "valid at every look" in p.method and "Holm over 4" in p.method
    )
    assert metrics.find("smallest_effect") is metrics.find("mcnemar_p", "semantic - none") is None
    others = [m for m in metrics.values if m.metric in ("attempts_mean", "above_chance_p")]
    assert others and all("holds for one look" in m.method for m in others)
