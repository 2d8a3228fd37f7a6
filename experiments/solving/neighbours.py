"""The neighbours of a query in memory, and what they say of its class: votes, AUC, likeness by class, a linear probe, a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.solving.candidates import Rows
from experiments.solving.retrieval import Scale, top_k

Numbers = NDArray[np.float64]
Labels = NDArray[Any]  # of strings
MAPPED = 4  # different vectors that t-SNE needs; fewer stand in a row
BINS = 40  # of a histogram of cosines, which lie between -1 and 1


class OfClasses(NamedTuple):
    """Likeness of memory's problems to a query: those of its own class, and the others."""

    within: float | None  # mean cosine with its own class
    within_square: float | None  # mean squared cosine
    between: float | None
    between_square: float | None
    silhouette: float | None  # Rousseeuw 1987, by the mean cosine distances to the classes in memory


class Histogram(NamedTuple):
    """Memos by their cosine with a query, in BINS bins from -1 to 1."""

    within: list[int]
    between: list[int]


def vote(nearest: Sequence[str]) -> str | None:
    """Return the most frequent of the labels, nearest first; of equally frequent ones that of the nearer neighbours."""
    votes: dict[str, float] = {}
    for rank, label in enumerate(nearest):
        votes[label] = votes.get(label, 0.0) + 1.0 + 1e-6 * (len(nearest) - rank)
    return max(votes, key=lambda label: votes[label], default=None)


def nearest_labels(
    scores: Numbers, labels: Labels, k: int, allowed: NDArray[np.bool_] | None = None
) -> list[list[str]]:
    """Return the labels of each query's k nearest, nearest first; fewer where fewer are allowed.

    Args:
        scores: shape (queries, memory).
        labels: of memory.
        allowed: shape (queries, memory); None for all.
    """
    if allowed is None:
        allowed = np.ones(scores.shape, dtype=bool)
    ranked = top_k(np.where(allowed, scores, -np.inf), k)
    return [[str(labels[j]) for j in row if allowed[i, j]] for i, row in enumerate(ranked)]


def auc(scores: Numbers, same: NDArray[np.bool_]) -> float | None:
    """Return the probability that a memo of the query's class scores higher than one of another; ties count half.

    None where memory has no memo of the class, or of no other class (Hanley and McNeil 1982, Radiology 143:29).
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(same, np.round(scores, 9))) if same.any() and not same.all() else None


def of_classes(cosines: Numbers, own: str, labels: Labels) -> OfClasses:
    """Return how like a query's own class, and the others, are.

    Args:
        cosines: of the query with memory, shape (memory,).
        own: its label.
        labels: of memory.
    """
    same = labels == own
    inside, across = cosines[same], cosines[~same]
    means = {str(c): float(cosines[labels == c].mean()) for c in sorted(set(labels))}
    silhouette = None
    if len(inside) and len(across):
        near, other = 1 - means[own], 1 - max(mean for c, mean in means.items() if c != own)
        silhouette = (other - near) / max(near, other) if max(near, other) > 0 else 0.0
    parts = (inside, inside**2, across, across**2)
    within, within_square, between, between_square = (float(part.mean()) if len(part) else None for part in parts)
    return OfClasses(within, within_square, between, between_square, silhouette)


def histogram(cosines: Numbers, own: str, labels: Labels) -> Histogram:
    """Count memos by their cosine with a query, within its class and between classes; arguments as of `of_classes`."""
    bins = np.clip(((np.round(cosines, 9) + 1) * BINS / 2).astype(int), 0, BINS - 1)
    counts = [np.bincount(bins[part], minlength=BINS).tolist() for part in (labels == own, labels != own)]
    return Histogram(*counts)


def probed(memory: Rows, queries: Rows, labels: Labels) -> list[str] | None:
    """Return each query's class by a logistic regression fitted on memory: what a linear boundary can tell at best.

    L2 with C = 1, lbfgs (scikit-learn), which draws nothing at random. Numbers are standardised by memory's mean and
    spread; sparse rows stay as they are. None where memory has one class only.
    """
    from sklearn.linear_model import LogisticRegression

    if len(set(labels)) < 2:
        return None
    if isinstance(memory, np.ndarray):
        scale = Scale.of(memory)
        memory, queries = scale.apply(memory), scale.apply(queries)
    return [str(c) for c in LogisticRegression(max_iter=1000).fit(memory, labels.astype(str)).predict(queries)]


def on_a_map(rows: Rows, seed: int) -> Numbers:
    """Map to two dimensions by t-SNE (van der Maaten and Hinton 2008), for the plot only; equal vectors are one point.

    The exact method: the approximate one divides space until each point is alone, and crashes where two are equal.
    """
    from sklearn.manifold import TSNE

    dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
    different, of = np.unique(np.round(dense, 9), axis=0, return_inverse=True)
    if len(different) < MAPPED:
        return np.column_stack([np.arange(float(len(different))), np.zeros(len(different))])[of.ravel()]
    perplexity = min(30.0, (len(different) - 1) / 3)
    fitted = TSNE(2, perplexity=perplexity, random_state=seed, init="pca", method="exact").fit_transform(different)
    return np.asarray(fitted, dtype=np.float64)[of.ravel()]
