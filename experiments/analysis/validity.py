"""P1's numbers of one candidate, from the trials of its queries (docs/science.md, P1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments import statistics
from experiments.analysis.attempts import row
from experiments.analysis.resampling import BOOTSTRAP_SEED, Resampling, resampling_of
from experiments.contract import Metric, PhaseConfig, Trial
from experiments.solving.candidates import candidate
from experiments.solving.neighbours import vote

RATIO_OF_PROTOCOL_1 = 1.2  # similarity within / between classes; decides nothing in protocol 2
NOISE = 1e-9  # a mean cosine below it is zero: float64 leaves some 1e-17 where vectors are orthogonal
BY_COSINE = "within_similarity within_similarity_std between_similarity between_similarity_std separation".split()


def chance(trials: Sequence[Trial]) -> Metric:
    """Return the share of the most frequent class among the queries: no candidate without information can expect more."""
    label, most = Counter(t.truth for t in trials).most_common(1)[0]
    n = len(trials)
    return Metric("chance_accuracy", most / n, n=n, method=f"always the most frequent class, {label}")


def of_candidate(name: str, trials: Sequence[Trial], failed: int, config: PhaseConfig) -> list[Metric]:
    """Return the metrics of a candidate.

    Args:
        name: the condition of its metrics.
        trials: of its queries, without those that failed.
        failed: how many those are.
    """
    by = resampling_of(trials, config)
    sizes = sorted(map(int, trials[0].details["nearest"]))
    curve = {size: _accuracy(trials, [t.details["nearest"][str(size)] for t in trials], by) for size in sizes}
    others = _accuracy(trials, [t.details["nearest_other_families"] for t in trials], by)
    of_all, bound = curve[sizes[-1]], chance(trials).value or 0.0
    value, low, high = (None if v is None else v - bound for v in (of_all.value, of_all.low, of_all.high))
    over = statistics.Interval(
        value, low, high, of_all.n, f"accuracy - {bound:.3f}, the share of the most frequent class"
    )
    rows = [
        row("knn_accuracy", name, of_all, failed, f"; {sizes[-1]:,} memos"),
        row("knn_accuracy_other_families", name, others, failed, "; own family left out of memory"),
        row("knn_over_chance", name, over, failed),
        *(row("knn_accuracy_by_memory", f"{name} | {size} memos", found, failed) for size, found in curve.items()),
        row("auc", name, _mean(trials, "auc", by), failed),
        row("auc_other_families", name, _mean(trials, "auc_other_families", by), failed),
    ]
    if not candidate(name).has_vectors:
        why = f"{name} has no vectors"
        without = ("probe_accuracy", "similarity_ratio", *BY_COSINE, "silhouette")
        return rows + [Metric(metric, None, n=len(trials), condition=name, method=why) for metric in without]
    probe = {t.problem_id: float(t.details["probe"] == t.truth) for t in trials if t.details.get("probe") is not None}
    method = "; logistic regression, fitted on memory"
    return [
        *rows,
        row("probe_accuracy", name, by.share(probe), failed, method),
        row("similarity_ratio", name, _ratio(trials, by), failed),
        *_similarities(name, trials),
        row("silhouette", name, _mean(trials, "silhouette", by), failed, "; cosine distance to the classes in memory"),
    ]


def _accuracy(trials: Sequence[Trial], nearest: Sequence[Sequence[str]], by: Resampling) -> statistics.Interval:
    """Return the share of queries whose neighbours vote for their class; one without neighbours is wrong."""
    pairs = zip(trials, nearest, strict=True)
    return by.share({t.problem_id: float(vote(found) == t.truth) for t, found in pairs})


def _mean(trials: Sequence[Trial], name: str, by: Resampling) -> statistics.Interval:
    """Return the mean of a detail over the queries that have it."""
    return by.mean({t.problem_id: t.details[name] for t in trials if t.details.get(name) is not None})


def _numbers(trials: Sequence[Trial], name: str) -> NDArray[np.float64]:
    """Return a detail of each query; NaN where it has none."""
    return np.array([t.details.get(name) for t in trials], dtype=np.float64)


def _ratio(trials: Sequence[Trial], by: Resampling) -> statistics.Interval:
    """within / between, each a mean over queries; undefined where the mean between classes is not positive."""
    within, between = _numbers(trials, "within"), _numbers(trials, "between")

    def ratio(chosen: NDArray[np.intp]) -> float | None:
        inside, across = (part[chosen][~np.isnan(part[chosen])] for part in (within, between))
        if not len(inside) or not len(across) or across.mean() <= NOISE:
            return None
        return float(inside.mean() / across.mean())

    groups = by.of([t.problem_id for t in trials])
    found = statistics.bootstrap("within / between", ratio, len(trials), BOOTSTRAP_SEED, groups)
    return found if found.value is not None else replace(found, method="between-class mean is not positive")


def _similarities(name: str, trials: Sequence[Trial]) -> list[Metric]:
    """Return mean and spread of the cosines of queries with memory, within a class and between classes."""
    rows, means, n = [], {}, len(trials)
    for kind in ("within", "between"):
        values, squares = _numbers(trials, kind), _numbers(trials, f"{kind}_square")
        known = ~np.isnan(values) & ~np.isnan(squares)
        if not known.any():
            rows += [Metric(f"{kind}_similarity{end}", None, condition=name, method="no pairs") for end in ("", "_std")]
            continue
        means[kind] = float(values[known].mean())
        spread = float(np.sqrt(max(0.0, squares[known].mean() - means[kind] ** 2)))
        rows.append(Metric(f"{kind}_similarity", means[kind], n=n, condition=name, method="mean cosine with memory"))
        rows.append(Metric(f"{kind}_similarity_std", spread, n=n, condition=name, method="standard deviation"))
    apart = means["within"] - means["between"] if len(means) == 2 else None
    return [*rows, Metric("separation", apart, n=n, condition=name, method="within - between")]
