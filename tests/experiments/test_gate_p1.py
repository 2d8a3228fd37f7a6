"""P1's numbers on vectors whose similarities are known by construction, and its gate at every edge."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_trials import OPTIONS, metrics_of

from experiments import p1_embedding_validity as p1
from experiments.contract import Metric, Metrics, Status, Trial

MINI, OTHER = "all-MiniLM-L6-v2", "all-mpnet-base-v2"
CONFIG = p1.Config(embedders=(MINI, OTHER, p1.HYBRID))


def by_class(between: float, per_class: int = 10) -> list[list[float]]:
    """Unit vectors, equal within a class, with cosine `between` across classes; classes in turn."""
    axes = np.eye(7)
    if between < 0:
        # A simplex: the cosine between any two of six classes is -1/5.
        axes[:6, :6] -= 1 / 6
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        between = 0.0
    vectors = np.sqrt(between) * np.eye(7)[6] + np.sqrt(1 - between) * axes[:6]
    return [vectors[i % 6].tolist() for i in range(6 * per_class)]


def embedded(name: str, vectors: list[list[float]]) -> list[Trial]:
    return [
        Trial(
            f"q{i}",
            name,
            truth=OPTIONS[i % 6],
            latency_s=0.01,
            details={"vector": v, "map": [0.0, 0.0], "group": f"{OPTIONS[i % 6]}-{i % 4}"},
        )
        for i, v in enumerate(vectors)
    ]


def unloaded(name: str, n: int = 60) -> list[Trial]:
    return [
        Trial(f"q{i}", name, truth=OPTIONS[i % 6], error=f"embedder {name!r} cannot be loaded here") for i in range(n)
    ]


def numbers(*rows: tuple[str, float | None, float | None], skipped: dict[str, str] | None = None) -> Metrics:
    """Metrics from (embedder, ratio, kNN accuracy)."""
    made = [
        m
        for name, ratio, knn in rows
        for m in (
            Metric("similarity_ratio", ratio, n=60, condition=name),
            Metric("knn_accuracy", knn, n=18, condition=name),
        )
    ]
    return metrics_of(made, skipped=skipped or {}, embedders=list(CONFIG.embedders))


def test_similarities_are_those_built_in() -> None:
    """Within 1, between b: the ratio is 1 / b, and classes that lie apart are told apart by every measure."""
    found = p1.metrics(embedded(MINI, by_class(0.5)), CONFIG)
    wanted = {
        "within_similarity": 1.0,
        "between_similarity": 0.5,
        "separation": 0.5,
        "similarity_ratio": 2.0,
        "knn_accuracy": 1.0,
        "knn_accuracy_groupwise": 1.0,
        "silhouette": 1.0,
        "within_similarity_std": 0.0,
    }
    for metric, value in wanted.items():
        row = found.find(metric, MINI)
        assert row is not None and row.value == pytest.approx(value, abs=1e-9), metric
    ratio, knn = found.find("similarity_ratio", MINI), found.find("knn_accuracy", MINI)
    assert ratio is not None and (ratio.low, ratio.high) == (pytest.approx(2.0), pytest.approx(2.0))
    assert knn is not None and knn.n == 18  # 30 % of ten in each of six classes


def test_labels_without_likeness_are_not_told_apart() -> None:
    """Random vectors must not pass for valid: kNN near chance and a ratio without meaning."""
    rng = np.random.default_rng(0)
    vectors = [v.tolist() for v in rng.normal(size=(60, 16)) + 1.0]
    verdict = p1.gate(p1.metrics(embedded(MINI, vectors), CONFIG), CONFIG)
    assert verdict.status is Status.FAIL
    assert verdict.next_steps


@pytest.mark.parametrize(
    ("between", "status"),
    [
        (0.5, Status.PASS),
        (0.9, Status.FAIL),
        (0.0, Status.INCONCLUSIVE),
        (1e-12, Status.INCONCLUSIVE),
        (-0.2, Status.INCONCLUSIVE),
    ],
)
def test_from_vectors_to_verdict(between: float, status: Status) -> None:
    """A between-class mean of zero or below leaves the ratio undefined: never infinite, never a PASS."""
    metrics = p1.metrics(embedded(MINI, by_class(between)), CONFIG)
    verdict = p1.gate(metrics, CONFIG)
    assert verdict.status is status
    assert verdict.findings == p1.Findings(embedder=MINI, text_weight=1.0)
    assert verdict.main == metrics.find("similarity_ratio", MINI)
    assert verdict.threshold == 1.2
    if status is Status.INCONCLUSIVE:
        assert verdict.main.value is None and verdict.main.low is None
        assert "not positive" in verdict.reason
    assert bool(verdict.next_steps) == (status is not Status.PASS)


@pytest.mark.parametrize(
    ("ratio", "knn", "status"),
    [
        (1.2, 0.9, Status.FAIL),
        (np.nextafter(1.2, 2), 0.9, Status.PASS),
        (1.5, 0.70, Status.FAIL),
        (1.5, np.nextafter(0.70, 1), Status.PASS),
        (1.1, 0.6, Status.FAIL),
        (None, 0.99, Status.INCONCLUSIVE),
    ],
)
def test_both_thresholds_must_be_exceeded(ratio: float | None, knn: float, status: Status) -> None:
    """ "> 1.2" and "> 0.70" are strict, and one alone is not enough."""
    assert p1.gate(numbers((MINI, ratio, knn)), CONFIG).status is status


def test_an_embedder_that_meets_both_wins_over_a_more_accurate_one_that_does_not() -> None:
    """The gate asks for one embedder that does; the best by accuracy alone could fail the chain needlessly."""
    verdict = p1.gate(numbers((MINI, 1.3, 0.75), (OTHER, 1.1, 0.95), (p1.HYBRID, None, 1.0)), CONFIG)
    assert verdict.status is Status.PASS
    assert verdict.findings.embedder == MINI


def test_hybrid_is_handed_on_as_its_text_embedder_and_weight() -> None:
    """P2 cannot load "hybrid": it needs the text embedder and the weight."""
    verdict = p1.gate(numbers((MINI, 1.3, 0.75), (p1.HYBRID, 1.4, 0.9)), CONFIG)
    assert verdict.findings == p1.Findings(embedder=p1.HYBRID_TEXT, text_weight=0.5)


def test_a_skipped_embedder_is_named_and_does_not_fail_the_phase() -> None:
    """One that this machine cannot get is skipped, but nobody may think it was tried."""
    metrics = p1.metrics([*embedded(MINI, by_class(0.5)), *unloaded(OTHER)], CONFIG)
    verdict = p1.gate(metrics, CONFIG)
    assert verdict.status is Status.PASS
    assert list(metrics.facts["skipped"]) == [OTHER]
    assert f"{OTHER} was skipped" in verdict.reason
    assert metrics.find("similarity_ratio", OTHER) is None


def test_no_embedder_at_all_is_inconclusive() -> None:
    """Nothing was measured, so nothing may be said, and nothing is handed on."""
    verdict = p1.gate(p1.metrics([t for e in CONFIG.embedders for t in unloaded(e)], CONFIG), CONFIG)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.findings is None
    assert verdict.main.value is None
    assert all(name in verdict.reason for name in CONFIG.embedders)
    assert verdict.next_steps


def test_nearest_neighbours_vote_and_ties_go_to_the_nearer() -> None:
    """The classifier's rule on five problems: with k 2 and two classes tied, the nearest decides."""
    cosine = np.array([[1.0, 0.9, 0.8, 0.1, 0.1]] * 5)
    labels = np.array(["a", "a", "b", "b", "b"])
    assert p1.knn_hits(cosine, labels, np.array([0]), 2) == 1
    assert p1.knn_hits(cosine, labels, np.array([0]), 4) == 0


def test_groupwise_split_keeps_groups_whole() -> None:
    """A neighbour from the same family on the training side would make any embedder look valid."""
    labels = np.array([OPTIONS[i % 6] for i in range(60)])
    groups = np.array([f"{OPTIONS[i % 6]}-{i // 6 % 3}" for i in range(60)])
    test = p1.groupwise(labels, groups, CONFIG)
    train = np.setdiff1d(np.arange(60), test)
    assert len(test) and not set(groups[test]) & set(groups[train])
    assert set(labels[test]) == set(OPTIONS)
