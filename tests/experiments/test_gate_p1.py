"""P1's numbers on likeness that is known by construction, and its gate at every edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_trials import OPTIONS, metrics_of

from experiments import p1_embedding_validity as p1
from experiments.contract import Metric, Metrics, Status, Trial
from experiments.data import balanced, split
from experiments.domains import Problem
from experiments.registry import configure
from experiments.solving.candidates import HYBRID, TEXT

MINI, OTHER = TEXT, "all-mpnet-base-v2"
CONFIG = p1.Config(embedders=(MINI, OTHER, HYBRID))


def asked(name: str, found: list[list[str]], truths: list[str], group: str = "{i}", **details: Any) -> list[Trial]:
    """Trials of queries with these nearest labels in a memory of 12, in one of 24, and without their own family."""
    likeness = {"within": 0.8, "within_square": 0.66, "between": 0.5, "between_square": 0.29, "silhouette": 0.6}
    return [
        Trial(
            f"q{i}",
            name,
            truth=truth,
            latency_s=0.01,
            details={
                "group": group.format(i=i),
                "nearest": {"12": labels[:1], "24": labels},
                "nearest_other_families": labels[::-1],
                "auc": 0.75,
                "auc_other_families": 0.5,
                "probe": truth,
                **likeness,
                **details,
            },
        )
        for i, (labels, truth) in enumerate(zip(found, truths, strict=True))
    ]


def sure(name: str, right: int = 54, n: int = 60) -> list[Trial]:
    """Queries of six classes, the first `right` of which have neighbours of their class."""
    truths = [OPTIONS[i % 6] for i in range(n)]
    return asked(name, [[t if i < right else OPTIONS[(i + 1) % 6]] for i, t in enumerate(truths)], truths)


def without_vectors(trial: Trial) -> Trial:
    """The same trial of a candidate that has scores alone."""
    likeness = ("within", "within_square", "between", "between_square", "silhouette", "probe")
    return replace(trial, details={k: v for k, v in trial.details.items() if k not in likeness})


def unloaded(name: str, n: int = 60) -> list[Trial]:
    return [
        Trial(f"q{i}", name, truth=OPTIONS[i % 6], error=f"embedder {name!r} cannot be loaded here") for i in range(n)
    ]


def numbers(
    *rows: tuple[str, float, float], ratio: float | None = 1.1, skipped: dict[str, str] | None = None
) -> Metrics:
    """Metrics from (embedder, kNN accuracy, lower end of its interval); chance is 1/6."""
    made = [Metric("chance_accuracy", 1 / 6, n=60)]
    for name, knn, low in rows:
        made.append(Metric("similarity_ratio", ratio, n=60, condition=name, method="no vectors"))
        made.append(Metric("knn_accuracy", knn, low, 1.0, n=60, condition=name))
    return metrics_of(made, skipped=skipped or {}, embedders=list(CONFIG.embedders))


def test_the_numbers_of_four_queries_by_hand() -> None:
    """Votes, chance, curve, AUC, probe and protocol 1's criteria, all of them small enough to count."""
    found = p1.metrics(asked(MINI, [["a", "b", "b"], ["a", "b"], ["b"], ["b"]], ["a", "a", "b", "a"]), CONFIG)
    wanted = {
        # b wins 2 to 1; a is the nearer of two; b is right; b is wrong.
        "knn_accuracy": 0.5,
        # The nearest decides ties: b, b, b and b.
        "knn_accuracy_other_families": 0.25,
        "knn_over_chance": 0.5 - 0.75,
        "auc": 0.75,
        "auc_other_families": 0.5,
        "probe_accuracy": 1.0,
        "similarity_ratio": 1.6,
        "separation": 0.3,
        "within_similarity": 0.8,
        "within_similarity_std": np.sqrt(0.66 - 0.64),
        "between_similarity_std": np.sqrt(0.29 - 0.25),
        "silhouette": 0.6,
    }
    for metric, value in wanted.items():
        row = found.find(metric, MINI)
        assert row is not None and row.n == 4 and row.value == pytest.approx(value), metric
    chance, small, all_ = (
        found.find("chance_accuracy"),
        found.find("knn_accuracy_by_memory", f"{MINI} | 12 memos"),
        found.find("knn_accuracy_by_memory", f"{MINI} | 24 memos"),
    )
    assert chance is not None and chance.value == 0.75 and "a" in chance.method
    assert small is not None and small.value == 0.75, "with the nearest memo alone: a, a, b right, b wrong"
    assert all_ is not None and all_.value == 0.5


def test_queries_of_a_family_are_fewer_observations() -> None:
    """Sixty queries of six families are no sixty: the interval must be wider than that of sixty families."""
    truths = [OPTIONS[i % 6] for i in range(60)]
    labels = [[t if i % 6 < 4 else "none"] for i, t in enumerate(truths)]
    alone = p1.metrics(asked(MINI, labels, truths), CONFIG).find("knn_accuracy", MINI)
    families = [replace(t, details={**t.details, "group": t.truth}) for t in asked(MINI, labels, truths)]
    kin = p1.metrics(families, CONFIG).find("knn_accuracy", MINI)
    assert alone is not None and kin is not None and alone.value == kin.value == pytest.approx(4 / 6)
    assert alone.low is not None and kin.low is not None and kin.low < alone.low - 0.1
    assert "by group (6 groups)" in kin.method


def test_without_vectors_what_needs_them_is_undefined() -> None:
    """BM25 has scores and no vectors: a ratio made of scores would be read as one of cosines."""
    found = p1.metrics(list(map(without_vectors, sure("bm25"))), p1.Config(embedders=("bm25",)))
    for metric in ("similarity_ratio", "separation", "silhouette", "probe_accuracy"):
        row = found.find(metric, "bm25")
        assert row is not None and row.value is None and row.method == "bm25 has no vectors"
    verdict = p1.gate(found, p1.Config(embedders=("bm25",)))
    assert verdict.status is Status.PASS
    assert "similarity ratio is undefined (bm25 has no vectors" in verdict.reason
    assert verdict.findings == p1.Findings(embedder=TEXT, text_weight=1.0, distance="bm25")


@pytest.mark.parametrize("between", [0.0, 1e-12, -0.2])
def test_a_ratio_without_likeness_between_classes_is_undefined_and_decides_nothing(between: float) -> None:
    """A between-class mean of zero or below: never infinite, and no reason to stop a chain whose kNN is good."""
    near = {"between": between, "between_square": between**2}
    trials = [replace(t, details={**t.details, **near}) for t in sure(MINI)]
    metrics = p1.metrics(trials, CONFIG)
    ratio, verdict = metrics.find("similarity_ratio", MINI), p1.gate(metrics, CONFIG)
    assert ratio is not None and ratio.value is None and "not positive" in ratio.method
    assert verdict.status is Status.PASS and "undefined (between-class mean is not positive" in verdict.reason


@pytest.mark.parametrize(
    ("knn", "low", "status"),
    [
        (0.70, 0.6, Status.FAIL),
        (np.nextafter(0.70, 1), 0.6, Status.PASS),
        (0.9, 1 / 6, Status.FAIL),
        (0.9, np.nextafter(1 / 6, 1), Status.PASS),
        (0.6, 0.5, Status.FAIL),
    ],
)
@pytest.mark.parametrize("ratio", [None, 0.9, 102.0])
def test_accuracy_and_its_lower_end_decide_and_the_ratio_does_not(
    knn: float, low: float, status: Status, ratio: float | None
) -> None:
    """ "> 0.70" and "above chance" are strict, one alone is not enough, and no ratio changes that."""
    verdict = p1.gate(numbers((MINI, knn, low), ratio=ratio), CONFIG)
    assert verdict.status is status and verdict.threshold == 0.70
    assert verdict.main.metric == "knn_accuracy" and verdict.main.value == knn
    assert "protocol 1 asked for > 1.2" in verdict.reason
    assert bool(verdict.next_steps) == (status is not Status.PASS)


def test_the_best_is_handed_on_as_later_phases_use_it() -> None:
    """P2 cannot load "hybrid" or "centred": it needs embedder, weight and distance; of equals the first is taken."""
    verdict = p1.gate(numbers((MINI, 0.8, 0.7), ("hybrid:tfidf+structure", 0.9, 0.8), (OTHER, 0.9, 0.8)), CONFIG)
    assert verdict.findings == p1.Findings(embedder=TEXT, text_weight=0.5, distance="tfidf")
    found = p1.gate(numbers(("centred", 0.8, 0.7), (MINI, 0.75, 0.6)), CONFIG).findings
    assert found == p1.Findings(embedder=TEXT, text_weight=1.0, distance="centred")
    assert p1.gate(numbers(("structure", 0.4, 0.3)), CONFIG).findings == p1.Findings(embedder=TEXT, text_weight=0.0)


def test_findings_of_an_older_warehouse_are_read() -> None:
    """They name no distance, which was the cosine."""
    assert p1.Findings.model_validate({"embedder": OTHER, "text_weight": 0.5}).distance == "cosine"


def test_a_skipped_embedder_is_named_and_does_not_fail_the_phase() -> None:
    """One that this machine cannot get is skipped, but nobody may think it was tried."""
    metrics = p1.metrics([*sure(MINI), *unloaded(OTHER)], CONFIG)
    verdict = p1.gate(metrics, CONFIG)
    assert verdict.status is Status.PASS
    assert list(metrics.facts["skipped"]) == [OTHER]
    assert f"{OTHER} was skipped" in verdict.reason
    assert metrics.find("knn_accuracy", OTHER) is None


def test_no_embedder_at_all_is_inconclusive() -> None:
    """Nothing was measured, so nothing may be said, and nothing is handed on."""
    verdict = p1.gate(p1.metrics([t for e in CONFIG.embedders for t in unloaded(e)], CONFIG), CONFIG)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.findings is None
    assert verdict.main.value is None
    assert all(name in verdict.reason for name in CONFIG.embedders)
    assert verdict.next_steps


@pytest.mark.parametrize(
    ("classes", "shares", "most"),
    [(6, [1 / 6] * 6, 0), (2, [0.8, 0.2], 10)],
    ids=["six equal classes", "eight in ten of one class"],
)
def test_candidates_without_information_do_not_pass(classes: int, shares: list[float], most: int) -> None:
    """A simulation: neighbours drawn from memory whatever the query. With eight in ten of one class they are right in
    eight of ten queries, more than 0.70; only chance tells, of which the interval is above in one of 40 at most."""
    rng, passed, names = np.random.default_rng(7), 0, ("one", "two", "three")
    config = p1.Config(embedders=names)
    for _ in range(200):
        truths = [OPTIONS[c] for c in rng.choice(classes, 60, p=shares)]
        trials = [
            replace(without_vectors(t), details={**without_vectors(t).details, "auc": None, "auc_other_families": None})
            for name in (names if classes == 6 else names[:1])
            for t in asked(name, [[OPTIONS[c] for c in rng.choice(classes, 5, p=shares)] for _ in truths], truths)
        ]
        passed += p1.gate(p1.metrics(trials, config), config).status is Status.PASS
    assert passed <= most


def test_the_memories_of_the_curve_are_nested_and_balanced() -> None:
    """Points of a curve from other memos would differ by those too; the last is the memory that the gate is about."""
    config = configure("p1", "demo")
    memory, _ = split(config, config.n_memory, config.n_queries, "tuning")
    sizes = p1.memory_sizes(config)
    assert sizes == [6, 12, 24, 48]
    assert p1.memory_sizes(config.model_copy(update={"n_memory": 1500}))[-3:] == [384, 768, 1500]
    assert p1.memory_sizes(config.model_copy(update={"n_memory": 4})) == [4]
    before: set[int] = set()
    for size in sizes:
        chosen = p1.first_memos(memory, size, config)
        labels = [memory[i].label for i in chosen]
        assert before <= set(chosen) and chosen == sorted(chosen)
        assert {labels.count(label) for label in OPTIONS} == {size // 6}
        before = set(chosen)
    rows = [Problem(f"r{i}", f"text {i}", "ab"[i % 5 == 0], f"g{i}") for i in range(20)]
    natural = config.model_copy(update={"balance": "natural"})
    assert p1.first_memos(rows, 4, natural) == [0, 1, 2, 3], "the file's shares, as the memory has them at random"
    assert [rows.index(p) for p in balanced(rows, 4)] == p1.first_memos(rows, 4, config)
