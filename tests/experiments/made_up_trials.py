"""Trials and metrics made by hand, for the tests of analyses and gates; no number here is a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.contract import Metric, Metrics, Trial

OPTIONS = ("O(1)", "O(log n)", "O(n)", "O(n log n)", "O(n^2)", "O(2^n)")
SEEDS = (100, 200, 300)


def choice_trials(
    attempts: Mapping[str, Sequence[int | None]], seeds: Sequence[int] = SEEDS, **details: Any
) -> list[Trial]:
    """A trial for each condition, problem and seed; `attempts` gives each problem's number by condition, None a failure."""
    trials = []
    for condition, numbers in attempts.items():
        for i, number in enumerate(numbers):
            for seed in seeds:
                if number is None:
                    trials.append(Trial(f"q{i}", condition, seed, truth=OPTIONS[i % 6], error="OSError: gone"))
                    continue
                trials.append(
                    Trial(
                        f"q{i}",
                        condition,
                        seed,
                        number,
                        number <= 3,
                        OPTIONS[0],
                        OPTIONS[i % 6],
                        tokens_in=100,
                        tokens_out=20,
                        latency_s=0.5,
                        details={"relevance": 0.1 * (i % 7), **details},
                    )
                )
    return trials


def with_queries(trials: Iterable[Trial], matches: Mapping[str, Sequence[float]], query: str = "a loop") -> list[Trial]:
    """E2's trials with a query and what it brought back: each problem's type match by condition, of the others none."""
    found = []
    for t in trials:
        if t.condition in matches and t.error is None:
            match = matches[t.condition][int(t.problem_id[1:])]
            t = replace(t, details={**t.details, "query": query, "type_match": match, "vote_first_right": match})
        found.append(t)
    return found


def compared(
    pair: str, p: float | None, difference: float | None, width: float = 1.0, n: int = 20, ranks: float | None = None
) -> list[Metric]:
    """adjusted_p, mean_difference and rank_biserial of a pair, the interval `width` wide around the difference.

    The signed ranks lean as the mean does unless they are given.
    """
    if ranks is None and difference is not None:
        ranks = (difference > 0) - (difference < 0)
    low, high = (None, None) if difference is None else (difference - width / 2, difference + width / 2)
    return [
        Metric("adjusted_p", p, n=n, condition=pair),
        Metric("mean_difference", difference, low, high, n=n, condition=pair),
        Metric("rank_biserial", ranks, n=n, condition=pair),
    ]


def metrics_of(rows: Iterable[Metric], **facts: Any) -> Metrics:
    """Metrics from single rows."""
    return Metrics(tuple(rows), facts)
