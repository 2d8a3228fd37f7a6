"""E1: made-up trials lead through the real tests to each of the five hypotheses, and from there to E2's units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_up_trials import choice_trials, compared, metrics_of

from experiments import e1_retrieval_strategies as e1
from experiments import e2_finetuned_retrieval as e2
from experiments.contract import Metric, Metrics, Status, Trial
from experiments.retrieval import RetrievalConfig

CONFIG = e1.Config(n_problems=24, n_memory=6, n_test=3)
RETRIEVAL = RetrievalConfig().model_dump()
FLAT = [3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4]  # 16 problems, coefficient of variation 0.15
SWAPPED = FLAT[1:] + FLAT[:1]  # the same spread, one attempt apart on every problem, no mean difference
WIDE = [1, 6, 1, 6, 1, 6, 1, 6, 1, 6, 1, 6, 1, 6, 1, 6]
WIDE_SWAPPED = WIDE[1:] + WIDE[:1]


def memo_trials(n: int = 4, solved: bool = True) -> list[Trial]:
    return [
        Trial(
            f"m{i}", e1.MEMO, 100, attempts=1 if solved else 5, solved=solved, answer="O(1)", truth="O(n)",
            details={"order": n - i, "guesses": ["O(1)", "O(n)"]},
        )
        for i in range(n)
    ]  # fmt: skip


def concluded(semantic: list[int], temporal: list[int], none: list[int]) -> tuple[Metrics, Any]:
    trials = choice_trials({"none": none, "temporal": temporal, "semantic": semantic})
    metrics = e1.metrics([*memo_trials(), *trials], CONFIG)
    return metrics, e1.gate(metrics, CONFIG)


LEADS = {
    "amplification": ([a - 1 for a in FLAT], FLAT, FLAT),
    "correction": (FLAT, [a - 1 for a in FLAT], FLAT),
    "awakening": (FLAT, FLAT, FLAT),
    "stabilization": (WIDE, WIDE_SWAPPED, WIDE),
    "weak_signal": (FLAT, SWAPPED, FLAT),
}
# SCIENCE, E2, "Conditions by hypothesis", written anew, with the two controls.
ASKED = {
    "amplification": {"base_semantic", "base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
    "awakening": {"base_temporal", "base_semantic", "base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
    "correction": {"base_best", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
    "stabilization": {"base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
    "weak_signal": {"base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
}  # fmt: skip


@pytest.mark.parametrize("hypothesis", LEADS)
def test_from_trials_to_the_hypothesis_to_the_units_of_e2(hypothesis: str) -> None:
    """The whole way: trials, real statistics, the hypothesis carried, and the conditions E2 then asks for."""
    metrics, verdict = concluded(*LEADS[hypothesis])
    assert verdict.carried["hypothesis"] == hypothesis
    assert verdict.status is (Status.INCONCLUSIVE if hypothesis == "weak_signal" else Status.PASS)
    assert verdict.reason.startswith(f"{hypothesis}: ")
    assert verdict.main == metrics.find("mean_difference", "semantic - temporal") and verdict.main.n == 16
    assert bool(verdict.next_steps) == (hypothesis == "weak_signal")
    config = e2.Config(n_problems=24, n_test=3, n_train=2, per_unit=2)
    carried = {"retrieval": RETRIEVAL, **verdict.carried}
    training = e2.units(config, carried, [])
    assert {(u.spec["role"], u.spec["dataset"], u.spec["hypothesis"]) for u in training} == {
        ("train", "s", hypothesis), ("train", "r", hypothesis),
    }  # fmt: skip
    so_far = [
        (u, [Trial("training", f"train_{u.spec['dataset']}", details={"adapter": u.spec["dataset"] * 64})])
        for u in training
    ]
    evaluation = e2.units(config, carried, so_far)
    assert {u.spec["condition"] for u in evaluation} == ASKED[hypothesis]
    for unit in evaluation:
        tuned = unit.spec["condition"].startswith("tuned_")
        wanted = ((unit.spec["condition"].split("_")[1] * 64),) if tuned else ()
        assert unit.files == wanted
        assert set(unit.depends_on) == {u.unit_id for u in training}
    problems = [p for u in evaluation if u.spec["condition"] == "tuned_s" for p in u.spec["problems"]]
    assert problems == metrics.facts["test"]
    assert e2.units(config, carried, [*so_far, (evaluation[0], [])]) == []


def test_memos_are_carried_in_the_order_of_solving() -> None:
    """The order is what temporal retrieval means; trials come in any order."""
    metrics, verdict = concluded(FLAT, FLAT, FLAT)
    assert [m[0] for m in verdict.carried["memos"]] == ["m3", "m2", "m1", "m0"]
    assert verdict.carried["memos"][0] == ["m3", "O(n)", 1, 1, True, ["O(1)", "O(n)"]]
    assert len(verdict.carried["test"]) == 3
    share = metrics.find("memo_success_rate", e1.MEMO)
    assert share is not None and share.value == 1.0 and share.n == 4


def test_a_failed_memo_keeps_the_truth_or_is_dropped() -> None:
    """The protocol's choice, and it must be the one that the config states."""
    trials = [*memo_trials(2), *memo_trials(2, solved=False), Trial("m9", e1.MEMO, 100, error="OSError: gone")]
    assert len(e1.memos_of(trials, CONFIG)) == 4
    dropped = e1.memos_of(trials, CONFIG.model_copy(update={"memo_on_failure": "drop"}))
    assert len(dropped) == 2 and all(row[4] for row in dropped)
    assert all(row[1] == "O(n)" for row in e1.memos_of(trials, CONFIG))


def rules(
    p: float | None, difference: float | None, tost: float | None = 1.0, cv: float | None = 0.1, temporal: float = 2.0
) -> Metrics:
    return metrics_of(
        [
            *compared("semantic - temporal", p, difference),
            Metric("equivalence_p", tost, condition="semantic - temporal"),
            Metric("attempts_cv", cv, condition="semantic"),
            Metric("attempts_mean", temporal, condition="temporal"),
            Metric("attempts_mean", 2.0 + (difference or 0.0), condition="semantic"),
        ],
        memos=[], test=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "hypothesis"),
    [
        (rules(float(np.nextafter(0.01, 0)), -0.5), "amplification"),
        (rules(0.01, -0.5), "weak_signal"),
        (rules(0.03, -0.5), "weak_signal"),
        (rules(0.03, 0.5), "correction"),
        (rules(0.05, 0.5), "weak_signal"),
        (rules(0.001, 0.0), "weak_signal"),
        # The first rule that holds decides, in the protocol's order.
        (rules(0.001, -0.5, tost=0.01, cv=0.9), "amplification"),
        (rules(0.03, -0.5, tost=0.01, cv=0.9), "awakening"),
        (rules(0.9, 0.0, tost=0.05, cv=0.9), "stabilization"),
        (rules(0.9, 0.0, tost=0.5, cv=0.5), "weak_signal"),
        (rules(None, 0.3, tost=None, cv=None), "weak_signal"),
    ],
)
def test_the_rules_at_their_exact_bounds(metrics: Metrics, hypothesis: str) -> None:
    """All bounds are strict, and the order of the rules is the protocol's."""
    assert e1.hypothesis_of(metrics, CONFIG)[0] == hypothesis
    assert e1.gate(metrics, CONFIG).carried["hypothesis"] == hypothesis


def test_the_better_strategy_is_carried() -> None:
    """E2's base_best under correction is the strategy with fewer attempts."""
    assert e1.gate(rules(0.03, 0.5), CONFIG).carried["best"] == "temporal"
    assert e1.gate(rules(0.001, -0.5), CONFIG).carried["best"] == "semantic"


def test_no_result_at_all_still_goes_on() -> None:
    """E1 never stops the chain: weak_signal is carried, with the reason that there is nothing to compare."""
    numbers: dict[str, list[int | None]] = {c: [None] * 6 for c in e1.CONDITIONS}
    verdict = e1.gate(e1.metrics([*memo_trials(), *choice_trials(numbers)], CONFIG), CONFIG)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.carried["hypothesis"] == "weak_signal" and verdict.main.value is None
    assert "Too few results" in verdict.reason and not e1.BLOCKING


def test_relevance_is_correlated_one_pair_a_problem() -> None:
    """Three seeds of one problem are not three problems: counting them would narrow the interval by 1.7."""
    metrics, _ = concluded(*LEADS["weak_signal"])
    found = metrics.find("relevance_attempts_correlation", "semantic")
    assert found is not None and found.n == 16


def test_the_analysis_holds_what_the_protocol_names() -> None:
    """Friedman, equivalence, rates, tokens and classes must not get lost; timing must be marked as such."""
    metrics, _ = concluded(*LEADS["stabilization"])
    friedman = metrics.find("friedman_p")
    assert friedman is not None and friedman.value is not None and friedman.n == 16
    rate = metrics.find("success_rate", "semantic")
    censored = metrics.find("censoring_rate", "semantic")
    assert rate is not None and censored is not None and rate.value == 0.5 == censored.value
    tokens = metrics.find("tokens_mean", "none")
    assert tokens is not None and tokens.value == 120.0
    accuracy = metrics.find("class_accuracy", "O(1) semantic")
    assert accuracy is not None and accuracy.n == 9  # q0, q6 and q12 under three seeds
    assert {m.metric for m in metrics.values if m.timing} == {"latency_s"}
