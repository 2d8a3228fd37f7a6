"""What a query's neighbours say, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.solving import neighbours

LABELS = np.array(["a", "b", "b", "a", "c"], dtype=object)
SCORES = np.array([[0.9, 0.8, 0.7, 0.1, 0.0]])


def test_neighbours_vote_and_ties_go_to_the_nearer() -> None:
    """With one vote each the nearest decides; a majority wins however far it is; nobody has no vote."""
    assert neighbours.vote(["a", "b"]) == "a"
    assert neighbours.vote(["a", "b", "b"]) == "b"
    assert neighbours.vote(["a", "b", "b", "a"]) == "a"
    assert neighbours.vote(["c", "a", "a", "b", "b"]) == "a"
    assert neighbours.vote([]) is None


def test_nearest_without_the_own_family() -> None:
    """The family's memo is the nearest, and must not be among the neighbours that are left; fewer are left than k."""
    assert neighbours.nearest_labels(SCORES, LABELS, 3) == [["a", "b", "b"]]
    others = np.array([[False, True, True, True, False]])
    assert neighbours.nearest_labels(SCORES, LABELS, 2, others) == [["b", "b"]]
    assert neighbours.nearest_labels(SCORES, LABELS, 5, others) == [["b", "b", "a"]]
    assert neighbours.nearest_labels(SCORES, LABELS, 5, np.zeros((1, 5), dtype=bool)) == [[]]


def test_auc_by_hand() -> None:
    """Of the 2 x 3 pairs a-other, the first a wins all three and the second one (c): 4 of 6; a tie is half a pair."""
    assert neighbours.auc(SCORES[0], LABELS == "a") == pytest.approx(4 / 6)
    assert neighbours.auc(np.array([0.5, 0.5, 0.1]), np.array([True, False, False])) == pytest.approx(0.75)
    assert neighbours.auc(np.array([0.5, 0.5 + 1e-12]), np.array([True, False])) == 0.5, "the last bits are no order"
    assert neighbours.auc(SCORES[0], np.ones(5, dtype=bool)) is None
    assert neighbours.auc(SCORES[0], np.zeros(5, dtype=bool)) is None


def test_likeness_by_class_and_silhouette_by_hand() -> None:
    """a: 0.9 and 0.1, mean 0.5; the others 0.8, 0.7, 0.0, mean 0.5; the nearest other class is b with 0.75."""
    found = neighbours.of_classes(SCORES[0], "a", LABELS)
    assert (found.within, found.between) == (pytest.approx(0.5), pytest.approx(0.5))
    assert (found.within_square, found.between_square) == (pytest.approx(0.41), pytest.approx(1.13 / 3))
    # Distances 0.5 to the own class and 0.25 to b.
    assert found.silhouette == pytest.approx((0.25 - 0.5) / 0.5)
    alone = neighbours.of_classes(SCORES[0], "z", LABELS)
    assert alone.within is None and alone.silhouette is None and alone.between == pytest.approx(0.5)


def test_a_histogram_counts_every_memo_once() -> None:
    """A cosine of 1 belongs to the last bin, and of a bin's lower edge to that bin, whatever the last bits are."""
    found = neighbours.histogram(np.array([1.0, 0.0, -1e-12, -1.0, 0.049]), "a", LABELS)
    assert {i: n for i, n in enumerate(found.within) if n} == {39: 1, 0: 1}
    assert {i: n for i, n in enumerate(found.between) if n} == {20: 3}


def test_a_probe_finds_what_neighbours_cannot() -> None:
    """The class is the sign of one small coordinate beside a large one of noise: linear, and far from kNN's reach."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)) * [100.0, 1.0]
    labels = np.where(rows[:, 1] > 0, "up", "down").astype(object)
    found = neighbours.probed(rows[:150], rows[150:], labels[:150])
    assert found is not None and np.mean(np.array(found) == labels[150:]) > 0.9
    assert neighbours.probed(rows[:3], rows, np.array(["one"] * 3, dtype=object)) is None


@pytest.mark.parametrize("different", [1, 3, 8])
def test_equal_vectors_are_one_point_of_the_map(different: int) -> None:
    """t-SNE crashes on equal vectors, and a map of fewer than four is a row."""
    rows = np.eye(8)[np.arange(24) % different]
    points = neighbours.on_a_map(rows, 42)
    assert points.shape == (24, 2) and len(np.unique(points, axis=0)) == different
    assert (points[0] == points[different % 24]).all()
