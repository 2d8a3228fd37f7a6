"""How much of a gain is copying labels, on made-up trials whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from made_up_trials import choice_trials

from experiments import e1_retrieval_strategies as e1
from experiments.analysis import attempts, controls
from experiments.analysis.resampling import BY_PROBLEM
from experiments.contract import Metrics, Trial, Verdict

NONE = [4, 5, 3] * 6  # 18 problems
CONFIG = e1.Config(n_problems=24, n_memory=6, n_test=3)
FACTS: dict[str, Any] = {
    "type_match": 0.6,
    "recall": 0.02,
    "reciprocal_rank": 0.5,
    "ndcg": 0.7,
    "vote_attempts": 1.5,
    "vote_first_right": 0.75,
}


def less(by: int) -> list[int]:
    return [a - by for a in NONE]


def analysed(numbers: Mapping[str, Sequence[int | None]], facts: Mapping[str, Any] = FACTS) -> Metrics:
    trials = [t for c, own in numbers.items() for t in choice_trials({c: own}, **(facts if c == "semantic" else {}))]
    table = attempts.median_attempts(trials, list(numbers))
    main = attempts.comparisons(table, [("semantic", "none")])
    means = attempts.per_condition(trials, table)
    return Metrics((*main, *means, *controls.rows(trials, table, BY_PROBLEM)))


def value(metrics: Metrics, metric: str, condition: str) -> float | None:
    found = metrics.find(metric, condition)
    assert found is not None, (metric, condition)
    return found.value


def test_the_gain_is_split_by_what_the_controls_save() -> None:
    """Semantic saves two attempts, its labels one and a half, its problems under other labels none, the vote 2.5."""
    half = [a - 1 - i % 2 for i, a in enumerate(NONE)]
    found = analysed({"none": NONE, "semantic": less(2), "label_only": half, "shuffled_labels": NONE})
    assert value(found, "gain_share", "label_only") == 0.75 and value(found, "gain_share", "shuffled_labels") == 0.0
    assert value(found, "gain_share", "vote") == pytest.approx((4 - 1.5) / 2)
    assert value(found, "mean_difference", "semantic - label_only") == -0.5
    assert value(found, "attempts_mean", "vote") == 1.5 and value(found, "accuracy", "vote") == 0.75
    p = found.find("adjusted_p", "label_only - none")
    assert p is not None and p.method.endswith("Holm over 4"), "a family of its own"
    sentence = controls.copying_in_words(found)
    assert sentence.startswith(" Unrelated problems under the labels of the semantic memos save 75% (")
    assert (
        "of the 2.00 attempts that semantic memos save against none: so much of the gain is copying labels" in sentence
    )
    assert sentence.endswith("without a model needs 1.50 attempts, the model with the memos 2.00.")


def test_no_gain_is_not_split() -> None:
    """Half a share of nothing, or of a loss, would be a number without a meaning."""
    found = analysed({"none": NONE, "semantic": NONE, "label_only": less(1)})
    assert value(found, "gain_share", "label_only") is None and controls.copied(found) is None
    assert controls.copying_in_words(found).startswith(" Semantic memos are not shown to save attempts against none")
    worse = analysed({"none": NONE, "semantic": less(-1), "label_only": less(1)})
    assert controls.copied(worse) is None and "copying" not in controls.copying_in_words(worse)


def test_a_gain_that_is_not_shown_is_not_split() -> None:
    """Three problems save an attempt each: nothing can be shown with three, whatever the ratio is."""
    found = analysed({"none": [3, 4, 5], "semantic": [2, 3, 4], "label_only": [2, 3, 4]})
    assert value(found, "gain_share", "label_only") == 1.0 and controls.copied(found) is None


def test_formulas_have_no_vote_and_no_controls_no_sentence() -> None:
    """Where answers are guessed nobody votes; without label-only and vote nothing is said."""
    facts = {k: v for k, v in FACTS.items() if not k.startswith("vote")}
    found = analysed({"none": NONE, "semantic": less(2)}, facts)
    assert found.find("attempts_mean", "vote") is None and controls.copying_in_words(found) == ""


def test_retrieval_is_measured_once_a_problem_whether_a_model_saw_it_or_not() -> None:
    """Three trials of a problem are one observation; what the condition itself found counts as well."""
    seen = {**FACTS, "unseen": {"lexical": {**FACTS, "recall": 0.5}, "oracle": {**FACTS, "recall": 1.0}}}
    found = analysed({"none": NONE, "semantic": less(1)}, seen)
    for metric, condition, wanted in (
        ("recall_at_k", "semantic", 0.02),
        ("recall_at_k", "oracle", 1.0),
        ("mrr", "lexical", 0.5),
        ("ndcg_at_k", "semantic", 0.7),
        ("attempts_mean", "vote_lexical", 1.5),
    ):
        row = found.find(metric, condition)
        assert row is not None and row.n == 18 and row.value == pytest.approx(wanted)
    own = choice_trials({"lexical": NONE}, **{**FACTS, "recall": 0.25})
    trials = [*choice_trials({"semantic": NONE}, **seen), *own]
    assert {f["recall"] for facts in controls.found_by(trials)["lexical"].values() for f in facts} >= {0.25}


COPYING = [1, 2, 1] * 6


def e1_says(labels: Sequence[int | None]) -> Verdict:
    numbers: dict[str, Sequence[int | None]] = {
        "none": less(1),  # 3 in the mean, better than chance
        "temporal": less(1),
        "semantic": COPYING,
        "label_only": labels,
    }
    trials: list[Trial] = [
        t for c, own in numbers.items() for t in choice_trials({c: own}, **(FACTS if c == "semantic" else {}))
    ]
    return e1.gate(e1.metrics(trials, CONFIG), CONFIG)


def test_e1_says_how_much_is_copying_and_hands_it_on() -> None:
    """In the reason, which is what commands and pages show, and among the findings; doubt takes it back."""
    verdict = e1_says(COPYING)
    assert "save 100% (100% to 100%) of the 1.67 attempts" in verdict.reason
    assert isinstance(verdict.findings, e1.Findings) and verdict.findings.labels_copied == 1.0
    assert verdict.findings.hypothesis == "amplification" and verdict.findings.doubted().labels_copied is None
    failed = e1_says([None] * 18)
    assert isinstance(failed.findings, e1.Findings) and failed.findings.labels_copied is None
    assert "The vote of the semantic memos' labels" in failed.reason
