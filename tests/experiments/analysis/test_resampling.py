"""Intervals by problem and by whole group: by hand, and that every phase with problems uses what its split asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_trials import OPTIONS, choice_trials

from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments import e2_finetuned_retrieval as e2
from experiments import p1_embedding_validity as p1
from experiments import p2_retrieval_utility as p2
from experiments import statistics
from experiments.analysis.resampling import BY_PROBLEM, Resampling, resampling_of
from experiments.contract import Metrics, Trial
from experiments.data import universe

WIDE = [1, 6] * 8  # 16 problems, two of each group
SHIFTED = [2, 6, 1, 5] * 4


def grouped(trials: list[Trial], split: str) -> list[Trial]:
    """The same with problems q0, q1 in one group, q2, q3 in the next, and so on; failures name none, as in the phases.

    With split: variant each is a group of its own here.
    """
    each = 2 if split == "group" else 1
    return [
        t if t.error else replace(t, details={**t.details, "group": f"g{int(t.problem_id[1:]) // each}"})
        for t in trials
    ]


def test_whole_groups_are_drawn_by_hand() -> None:
    """Groups (0, 0, 0) and (3): resamples have the means 0, 3/4, 3/4 and 3. By problem four draws give 3 once in 256
    times and 9/4 or more once in 20, so the upper bound is 9/4 there."""
    values = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 3.0}
    found = Resampling({"a": "x", "b": "x", "c": "x", "d": "y"}).mean(values)
    assert (found.value, found.low, found.high, found.n) == (0.75, 0.0, 3.0, 4)
    assert found.method == "mean, bootstrap by group (2 groups), 1000 resamples, 95%"
    one_by_one = BY_PROBLEM.mean(values)
    assert (one_by_one.value, one_by_one.low, one_by_one.high) == (0.75, 0.0, 2.25)
    assert one_by_one.method == "mean, bootstrap by problem, 1000 resamples, 95%"


def test_a_ratio_rests_on_the_problems_that_have_both() -> None:
    """(3 + 1) / (6 + 2): the third has no denominator, and a sum without its partner would be no ratio of anything."""
    found = BY_PROBLEM.ratio({"a": 3.0, "b": 1.0, "c": 9.0}, {"b": 2.0, "a": 6.0})
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 2)
    assert BY_PROBLEM.ratio({"a": 1.0}, {"b": 1.0}).value is None


def test_any_statistic_and_where_it_is_undefined() -> None:
    """Undefined resamples are left out and counted; a statistic that is undefined has no value and says so."""
    # Of two problems half of the resamples hold both.
    both = statistics.bootstrap("both", lambda i: 7.0 if len(set(i)) == 2 else None, 2, 42)
    assert (both.value, both.low, both.high) == (7.0, 7.0, 7.0)
    assert 400 < int(both.method.split(", ")[2].split()[0]) < 600
    never = statistics.bootstrap("all", lambda i: 7.0 if len(set(i)) == 40 else None, 40, 42)
    assert (never.value, never.low, never.method) == (7.0, None, "all, undefined in every resample")
    assert statistics.bootstrap("none", lambda i: None, 4, 42).method == "none, undefined"


def test_a_generator_goes_on_where_a_seed_begins_anew() -> None:
    """P1 draws from its own generator, derived from phase and embedder."""
    draws = [statistics.bootstrap("mean", lambda i: float(i.mean()), 30, s) for s in (7, np.random.default_rng(7))]
    assert draws[0] == draws[1]
    assert draws[0] != statistics.bootstrap("mean", lambda i: float(i.mean()), 30, 8)


def test_groups_come_from_the_trials_or_from_the_data() -> None:
    """Trials may name no group; a training is no problem; with the default split nothing is looked up."""
    config = e0.Config(n_problems=96, split="group")
    groups = {p.problem_id: p.group for p in universe(config).problems[:40]}
    assert len(set(groups.values())) < 40
    trials = [Trial(p, "c", attempts=1) for p in groups]
    rest = [Trial("training", "train_s"), Trial(next(iter(groups)), "c", error="gone")]
    assert resampling_of([*trials, *rest], config).groups == groups
    assert resampling_of(trials, e0.Config(n_problems=96)) is BY_PROBLEM


@pytest.mark.parametrize("split", ["variant", "group"])
def test_problems_of_a_family_are_a_group_whatever_the_split(split: Any) -> None:
    """Problems of one family may be alike wherever its others stand; one of each is no group."""
    named = [Trial(f"q{i}", "c", attempts=1, details={"group": f"g{i // 2}"}) for i in range(4)]
    assert resampling_of(named, e0.Config(n_problems=96, split=split)).of(["q0", "q3"]) == ["g0", "g1"]
    assert resampling_of(named[::2], e0.Config(n_problems=96, split=split)) is BY_PROBLEM


def of_p1(split: Any) -> tuple[Metrics, set[str]]:
    rng = np.random.default_rng(0)
    trials = [
        Trial(
            f"q{i}",
            "all-MiniLM-L6-v2",
            truth=OPTIONS[i % 6],
            details={
                "group": f"{i % 6}-{i // (12 if split == 'group' else 1)}",
                "nearest": {"36": [OPTIONS[i % 6 if rng.random() < 0.6 else 0]]},
                "nearest_other_families": [],
                "auc": rng.random(),
                "auc_other_families": rng.random(),
                "probe": OPTIONS[i % 6],
                **dict(zip(("within", "between", "silhouette"), rng.random(3).tolist(), strict=True)),
                "within_square": 1.0,
                "between_square": 1.0,
            },
        )
        for i in range(36)
    ]
    return p1.metrics(trials, p1.Config(split=split)), {"similarity_ratio", "auc", "auc_other_families", "silhouette"}


def of_p2(split: Any) -> tuple[Metrics, set[str]]:
    trials = grouped(choice_trials({"none": WIDE, "random": WIDE, "recent": SHIFTED, "semantic": SHIFTED}), split)
    return p2.metrics(trials, p2.Config(split=split)), {"attempts_mean", "mean_difference"}


def of_e0(split: Any) -> tuple[Metrics, set[str]]:
    config = e0.Config(n_problems=96, split=split)
    details = {"embedder": "all-MiniLM-L6-v2", "text_weight": 0.7, "k": 5, "distance": "cosine"}
    trials = [
        Trial(p.problem_id, "cell", latency_s=0.01, details={**details, "held_out": i % 4 != 0, "relevance": i / 40})
        for i, p in enumerate(universe(config).problems[:40])
    ]
    return e0.metrics(trials, config), {"relevance", "optimism"}


def of_e1(split: Any) -> tuple[Metrics, set[str]]:
    trials = grouped(choice_trials({"none": WIDE, "temporal": WIDE, "semantic": SHIFTED}), split)
    return e1.metrics(trials, e1.Config(n_problems=96, n_memory=12, n_test=6, split=split)), {
        "attempts_mean",
        "mean_difference",
    }


def of_e2(split: Any) -> tuple[Metrics, set[str]]:
    trials = choice_trials({"base_query": WIDE, "tuned_s": SHIFTED, "tuned_r": WIDE}, query_quality=0.5)
    # Unequal qualities, or the interval would be a point.
    uneven = [
        replace(t, details={**t.details, "query_quality": 0.1 * int(t.problem_id[1:])}) for t in grouped(trials, split)
    ]
    return e2.metrics(uneven, e2.Config(split=split)), {
        "attempts_mean",
        "mean_difference",
        "improvement_percent",
        "performance_ratio",
        "query_quality",
    }


@pytest.mark.parametrize("of_phase", [of_p1, of_p2, of_e0, of_e1, of_e2])
def test_every_phase_takes_groups_as_wholes(of_phase: Any) -> None:
    """docs/science.md, "Statistics". Problems of a group drawn one by one would make every interval too narrow."""
    metrics, wanted = of_phase("group")
    by_group = {m.metric for m in metrics.values if "bootstrap by group" in m.method}
    assert by_group == wanted
    assert not [m for m in metrics.values if "bootstrap by problem" in m.method]
    plain, _ = of_phase("variant")
    assert {m.metric for m in plain.values if "bootstrap by problem" in m.method} == wanted
    for metric in wanted:
        one, other = (
            [(m.low, m.high) for m in found.values if m.metric == metric and m.low is not None]
            for found in (metrics, plain)
        )
        assert one and one != other, metric
    values = [[(m.metric, m.condition, m.value, m.n) for m in found.values] for found in (metrics, plain)]
    own = {"p", "adjusted_p", "bonferroni_p", "p_by_problem", "equivalence_p"}
    own |= {m for m, *_ in values[0] if m.endswith(("_p", "_p_by_problem")) and m != "mcnemar_p"}
    rest = [[v for v in found if v[0] not in own] for found in values]
    assert rest[0] == rest[1], "what is estimated does not depend on how it is resampled"
    for m in metrics.values:
        if m.metric in ("accuracy", "success_rate", "attempts_cv", "cv_ratio", "adjusted_p") and m.value is not None:
            assert "by group (8 groups)" in m.method or m.low is None, m.method
