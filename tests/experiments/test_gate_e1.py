"""E1: made-up trials lead through the real tests to each of the five hypotheses, and from there to E2's units."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_e1 import CHANCE, CONFIG, FLAT, LEADS, SWAPPED, WIDE, concluded, memo_trials, rules
from made_up_trials import choice_trials

from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments import e2_finetuned_retrieval as e2
from experiments.analysis.ends import ENDS
from experiments.contract import Metrics, Result, Status, Trial
from experiments.findings import Earlier
from experiments.solving.memory_bank import MemoRecord
from experiments.solving.retrieval import RetrievalConfig

# The conditions by hypothesis of docs/science.md, E2, written anew, with the two controls.
ASKED = {
    "amplification": {"base_semantic", "base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
    "awakening": {
        "base_temporal",
        "base_semantic",
        "base_query",
        "tuned_s",
        "tuned_r",
        "tuned_s_random",
        "tuned_s_none",
    },
    "correction": {"base_best", "base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
    "stabilization": {"base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
    "weak_signal": {"base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none"},
}


@pytest.mark.parametrize("hypothesis", LEADS)
def test_from_trials_to_the_hypothesis_to_the_units_of_e2(hypothesis: str) -> None:
    """The whole way: trials, real statistics, the hypothesis, and the conditions E2 then asks for."""
    metrics, verdict = concluded(*LEADS[hypothesis])
    assert verdict.findings.hypothesis == hypothesis
    assert verdict.status is (Status.INCONCLUSIVE if hypothesis == "weak_signal" else Status.PASS)
    assert verdict.reason.startswith(f"{hypothesis}: ")
    assert verdict.main == metrics.find("mean_difference", "semantic - temporal") and verdict.main.n == len(
        LEADS[hypothesis][0]
    )
    assert bool(verdict.next_steps) == (hypothesis == "weak_signal")
    config = e2.Config(n_problems=24, n_test=3, n_train=2, per_unit=2, train_seeds=(42,), n_by_tokens=0)
    findings = Earlier((e0.Findings(retrieval=RetrievalConfig()), verdict.findings))
    training = e2.units(config, findings, [])
    assert {(u.spec["role"], u.spec["dataset"], u.spec["hypothesis"]) for u in training} == {
        ("train", "s", hypothesis),
        ("train", "r", hypothesis),
    }
    so_far = [
        Result(u, [Trial("training", f"train_{u.spec['dataset']}", details={"adapter": u.spec["dataset"] * 64})])
        for u in training
    ]
    evaluation = e2.units(config, findings, so_far)
    assert {u.spec["condition"] for u in evaluation} == ASKED[hypothesis]
    for unit in evaluation:
        tuned = unit.spec["condition"].startswith("tuned_")
        wanted = ((unit.spec["condition"].split("_")[1] * 64),) if tuned else ()
        assert unit.files == wanted
        assert set(unit.depends_on) == {u.unit_id for u in training}
    for condition in ASKED[hypothesis]:
        problems = [p for u in evaluation if u.spec["condition"] == condition for p in u.spec["problems"]]
        assert problems == metrics.facts["test"], condition
    assert {u.spec["hypothesis"] for u in evaluation} == {hypothesis}
    assert e2.units(config, findings, [*so_far, Result(evaluation[0], [])]) == []


def test_memos_are_handed_on_in_the_order_of_solving() -> None:
    """The order is what temporal retrieval means; trials come in any order."""
    metrics, verdict = concluded(FLAT, FLAT, FLAT)
    assert [m.problem_id for m in verdict.findings.memos] == ["m3", "m2", "m1", "m0"]
    assert verdict.findings.memos[0] == MemoRecord.model_validate(["m3", "O(n)", 1, 1, True, ["O(1)", "O(n)"]])
    assert len(verdict.findings.test) == 3
    share = metrics.find("memo_success_rate", e1.MEMO)
    assert share is not None and share.value == 1.0 and share.n == 4


def test_a_failed_memo_keeps_the_truth_or_is_dropped() -> None:
    """The protocol's choice, and it must be the one that the config states."""
    trials = [*memo_trials(2), *memo_trials(2, solved=False), Trial("m9", e1.MEMO, 100, error="OSError: gone")]
    assert len(e1.memos_of(trials, CONFIG)) == 4
    dropped = e1.memos_of(trials, CONFIG.model_copy(update={"memo_on_failure": "drop"}))
    assert len(dropped) == 2 and all(memo.success for memo in dropped)
    assert all(memo.answer == "O(n)" for memo in e1.memos_of(trials, CONFIG))


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
        (rules(0.001, -0.5, tost=0.01, ratio=1.1), "amplification"),
        (rules(0.03, -0.5, tost=0.01, ratio=1.1), "awakening"),
        (rules(0.9, 0.0, tost=0.05, ratio=1.1), "stabilization"),
        (rules(0.9, 0.0, tost=0.5, ratio=1.0), "weak_signal"),
        (rules(None, 0.3, tost=None, ratio=None), "weak_signal"),
        # Mean and signed ranks on different sides show no direction; the later rules still hold.
        (rules(0.001, -0.5, ranks=0.3), "weak_signal"),
        (rules(0.001, 0.5, ranks=-0.3), "weak_signal"),
        (rules(0.001, -0.1, ranks=0.3, tost=0.01), "awakening"),
    ],
)
def test_the_rules_at_their_exact_bounds(metrics: Metrics, hypothesis: str) -> None:
    """All bounds are strict, and the order of the rules is the protocol's."""
    assert e1.hypothesis_of(metrics, CONFIG)[0] == hypothesis
    assert e1.gate(metrics, CONFIG).findings.hypothesis == hypothesis


def test_the_better_strategy_is_handed_on() -> None:
    """E2's base_best under correction is the strategy with fewer attempts."""
    assert e1.gate(rules(0.03, 0.5), CONFIG).findings.best == "temporal"
    assert e1.gate(rules(0.001, -0.5), CONFIG).findings.best == "semantic"


def test_no_result_at_all_still_goes_on() -> None:
    """E1 never stops the chain: the hypothesis is then weak_signal, with the reason that there is nothing to compare."""
    numbers: dict[str, list[int | None]] = {c: [None] * 6 for c in e1.CONDITIONS}
    verdict = e1.gate(e1.metrics([*memo_trials(), *choice_trials(numbers)], CONFIG), CONFIG)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.findings.hypothesis == "weak_signal" and verdict.main.value is None
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
    assert friedman is not None and friedman.value is not None and friedman.n == 48
    rate = metrics.find("success_rate", "semantic")
    censored = metrics.find("censoring_rate", "semantic")
    assert rate is not None and censored is not None and (rate.value, censored.value) == (0.75, 0.25)
    tokens = metrics.find("tokens_mean", "none")
    assert tokens is not None and tokens.value == 120.0
    accuracy = metrics.find("class_accuracy", "O(1) semantic")
    assert accuracy is not None and accuracy.n == 8  # q0, q6 and so on to q42
    assert {m.metric for m in metrics.values if m.timing} == {"latency_s"}


def test_a_mean_and_a_test_that_disagree_lead_nowhere() -> None:
    """120 of 148 problems are worse under semantic, and the mean is better: it was amplification."""
    semantic, temporal = [3] * 120 + [1] * 28, [2] * 120 + [6] * 28
    metrics, verdict = concluded(semantic, temporal, temporal)
    p, mean, ranks = (metrics.find(m, e1.PAIR) for m in ("adjusted_p", "mean_difference", "rank_biserial"))
    assert p is not None and mean is not None and ranks is not None and None not in (p.value, mean.value, ranks.value)
    assert p.value < 0.01 and mean.value < 0 < ranks.value  # type: ignore[operator]
    assert verdict.status is Status.INCONCLUSIVE and verdict.findings.hypothesis == "weak_signal"
    assert "mean and signed ranks do not point the same way" in verdict.reason


def test_strategies_that_never_differ_show_no_equivalence() -> None:
    """TOST's p was 0 for pairs without variation: a memory that the solver does not see looks the same."""
    metrics, verdict = concluded(FLAT, FLAT, FLAT)
    equivalence = metrics.find("equivalence_p", e1.PAIR)
    assert equivalence is not None and equivalence.value is None and "no variation" in equivalence.method
    assert verdict.findings.hypothesis == "weak_signal" and verdict.status is Status.INCONCLUSIVE


NOTHING_SOLVED = [6] * 16
ONE_SOLVED = [6] * 15 + [1]
FOUR_SOLVED = [6] * 12 + [1] * 4


@pytest.mark.parametrize(
    ("semantic", "temporal", "end", "means"),
    [
        (NOTHING_SOLVED, NOTHING_SOLVED, "floor", "6.00 and 6.00"),
        (ONE_SOLVED, NOTHING_SOLVED, "floor", "6.00 and 5.69"),
        # At chance one problem in six takes the most attempts: such conditions were never at the floor.
        (CHANCE, [2, 1, *CHANCE[2:]], "floor", "3.50 and 3.50"),
        ([1] * 16, [1] * 15 + [2], "ceiling", "1.06 and 1.00"),
    ],
)
def test_where_nothing_can_differ_equality_says_nothing(
    semantic: list[int], temporal: list[int], end: str, means: str
) -> None:
    """Equations, SmolLM2: no strategy solved anything, TOST called that equivalent, and E2 set out to awaken it."""
    metrics, verdict = concluded(semantic, temporal, FLAT)
    assert verdict.status is Status.INCONCLUSIVE and verdict.findings.hypothesis == "weak_signal"
    wanted = f"weak_signal: temporal and semantic are both at the {end} ({ENDS[end]}): {means} attempts, "
    assert verdict.reason.startswith(f"{wanted}so equality says nothing")
    assert metrics.facts["flags"] == {"ceiling": [], "floor": []} | {end: ["temporal", "semantic"]}
    assert f"At the {end}" in verdict.reason and "none" not in verdict.reason.split("At the")[1]
    other = {"floor": "model=", "ceiling": "names=neutral"}[end]
    assert any(f"lab run e1 --set {other}" in step for step in map(str, verdict.next_steps))


def test_a_floor_of_guesses_asks_for_more_guesses_or_easier_problems() -> None:
    """Where formulas are guessed, the floor is the last guess: all of 6 unsolved, of 20 that the domain allows."""
    config = e1.Config(domain="equations", n_problems=48, n_memory=8, n_test=4, max_guesses=6)
    _, verdict = concluded(NOTHING_SOLVED, NOTHING_SOLVED, NOTHING_SOLVED, config)
    assert verdict.findings.hypothesis == "weak_signal"
    assert "(6.00 attempts, chance 6.00, n 16)" in verdict.reason, "a solver that knows nothing solves nothing"
    assert [str(step.command) for step in verdict.next_steps] == [
        "lab run e1 --set model=hf/microsoft/Phi-3-mini-4k-instruct",
        "lab run e1 --set max_guesses=20",
        "lab run e1 --set domain=big_o",
    ]
    # Four in sixteen that are solved are more than a solver that knows nothing.
    assert concluded(FOUR_SOLVED, FOUR_SOLVED, FLAT, config)[0].facts["flags"]["floor"] == []


def test_one_strategy_at_an_end_does_not_silence_the_other() -> None:
    """Semantic solves all at once and temporal nothing: nothing could differ more."""
    metrics, verdict = concluded([1] * 16, NOTHING_SOLVED, FLAT)
    assert verdict.findings.hypothesis == "amplification" and verdict.status is Status.PASS
    assert metrics.facts["flags"] == {"ceiling": ["semantic"], "floor": ["temporal"]}
    assert "At the ceiling" in verdict.reason and "At the floor" in verdict.reason


def test_a_difference_that_shows_in_spite_of_a_floor_is_a_difference() -> None:
    """Ten of a hundred solved against none: both strategies at the floor, and p = 2 / 2^10, the largest of Holm's three."""
    metrics, verdict = concluded([6] * 90 + [1] * 10, [6] * 100, [2] * 50 + [3] * 50)
    assert metrics.facts["flags"]["floor"] == ["temporal", "semantic"]
    p = metrics.find("adjusted_p", "semantic - temporal")
    assert p is not None and p.value == pytest.approx(2 / 2**10)
    assert verdict.findings.hypothesis == "amplification"


def test_each_number_rests_on_the_problems_it_can() -> None:
    """One failure under `none` costs its comparisons and Friedman a problem, and not the comparison that decides."""
    metrics, _ = concluded(FLAT, SWAPPED, [None, *FLAT[1:]])
    n = {
        name: found.n
        for name, found in {
            "deciding": metrics.find("mean_difference", "semantic - temporal"),
            "other": metrics.find("mean_difference", "semantic - none"),
            "friedman": metrics.find("friedman_p"),
            "equivalence": metrics.find("equivalence_p", "semantic - temporal"),
            "mean": metrics.find("attempts_mean", "semantic"),
            "cv": metrics.find("attempts_cv", "none"),
            "first guess": metrics.find("mcnemar_p", "temporal - none"),
        }.items()
        if found
    }
    assert n == {
        "deciding": 16,
        "other": 15,
        "friedman": 15,
        "equivalence": 16,
        "mean": 16,
        "cv": 15,
        "first guess": 15,
    }


def test_the_best_strategy_is_the_better_one_on_the_same_problems() -> None:
    """Temporal failed on the hard problems: its mean is lower, and semantic still needs less on those that both solved."""
    semantic, temporal = [1, 5] * 8, [2, None] * 8
    metrics, verdict = concluded(semantic, temporal, FLAT)
    means = {c: m.value for c in ("temporal", "semantic") if (m := metrics.find("attempts_mean", c))}
    assert means == {"temporal": 2.0, "semantic": 3.0}
    assert verdict.findings.best == "semantic" and verdict.main.value == -1.0 and verdict.main.n == 8
    # No problem under both: the means are all there is.
    lonely = concluded([3] * 8 + [None] * 8, [None] * 8 + [2] * 8, FLAT)[1]
    assert lonely.findings.best == "temporal" and lonely.findings.hypothesis == "weak_signal"


def test_a_strategy_without_a_result_gives_weak_signal_and_says_so() -> None:
    """The reason names the hypothesis that is handed on, however wide the other strategy's attempts vary."""
    verdict = concluded(WIDE, [None] * 16, WIDE)[1]
    assert verdict.status is Status.INCONCLUSIVE and verdict.findings.hypothesis == "weak_signal"
    assert verdict.reason == "Too few results to compare; the hypothesis is weak_signal. Failed: OSError: gone."
    assert str(verdict.next_steps[0]).startswith("pip install ")


def test_too_few_memos_are_named_as_the_cause() -> None:
    """With `drop` and a solver that solves nothing there is no memory to ask, and no trial that failed."""
    config = CONFIG.model_copy(update={"memo_on_failure": "drop"})
    verdict = e1.gate(e1.metrics(memo_trials(6, solved=False), config), config)
    assert "The memory has 0 memos, and 5 are shown." in verdict.reason
    assert str(verdict.next_steps[0]).startswith("lab run e1 --set memo_on_failure=truth  (")
