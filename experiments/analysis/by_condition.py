"""Numbers of each condition that decide nothing: accuracy by class, tokens and time, relevance against attempts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments import statistics
from experiments.analysis import attempts
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Trial


def by_class(trials: Sequence[Trial], labels: Sequence[str], conditions: Sequence[str], by: Resampling) -> list[Metric]:
    """class_accuracy of each class and condition."""
    rows = []
    for label in labels:
        for condition in conditions:
            mine = [t for t in trials if t.condition == condition and t.details.get("label", t.truth) == label]
            share = by.share(attempts.first_guesses(mine))
            rows.append(attempts.row("class_accuracy", f"{label} {condition}", share))
    return rows


def tokens(trials: Sequence[Trial], conditions: Sequence[str]) -> list[Metric]:
    """tokens_mean and latency_s of each condition."""
    rows = []
    for condition in conditions:
        mine = [t for t in trials if t.condition == condition]
        if mine:
            mean = float(np.mean([(t.tokens_in or 0) + (t.tokens_out or 0) for t in mine]))
            seconds = float(np.median([t.latency_s or 0.0 for t in mine]))
            n, how = len(mine), "in and out, by the tokenizer"
            rows.append(Metric("tokens_mean", mean, n=n, condition=condition, method=how))
            rows.append(Metric("latency_s", seconds, n=n, condition=condition, method="median, measured", timing=True))
    return rows


def relevance(trials: Sequence[Trial], table: attempts.Table, conditions: Sequence[str]) -> list[Metric]:
    """Spearman correlation of what retrieval brought back with the median attempts it took, one pair a problem."""
    rows = []
    for condition in conditions:
        by_problem = {t.problem_id: t.details["relevance"] for t in trials if t.condition == condition}
        medians = table[condition]
        found = statistics.correlation([by_problem[p] for p in medians], list(medians.values()))
        rows.append(attempts.row("relevance_attempts_correlation", condition, found))
    return rows
