"""Made-up trials and metrics of E1 for the tests of its gate; no number here is a result."""

from __future__ import annotations

from collections.abc import Sequence

from made_up_trials import choice_trials, compared, metrics_of

from experiments import e1_retrieval_strategies as e1
from experiments.contract import Metric, Metrics, Trial, Verdict

CONFIG = e1.Config(n_problems=24, n_memory=6, n_test=3)
FLAT = [2, 3] * 8  # 16 problems, better than chance (3.5), coefficient of variation 0.2
SWAPPED = FLAT[1:] + FLAT[:1]  # the same spread, one attempt apart on every problem, no mean difference
NEARLY = [3, 2, *FLAT[2:]]  # one attempt more on one problem and one less on another
WIDE = [1, 1, 1, 6] * 12  # better than chance; 48 problems, a standard deviation of 2.19, a chance solver has 1.71
WIDE_SWAPPED = WIDE[3:] + WIDE[:3]


def memo_trials(n: int = 4, solved: bool = True) -> list[Trial]:
    return [
        Trial(
            f"m{i}",
            e1.MEMO,
            100,
            attempts=1 if solved else 5,
            solved=solved,
            answer="O(1)",
            truth="O(n)",
            details={"order": n - i, "guesses": ["O(1)", "O(n)"]},
        )
        for i in range(n)
    ]


def concluded(
    semantic: Sequence[int | None],
    temporal: Sequence[int | None],
    none: Sequence[int | None],
    config: e1.Config = CONFIG,
) -> tuple[Metrics, Verdict]:
    trials = choice_trials({"none": none, "temporal": temporal, "semantic": semantic})
    metrics = e1.metrics([*memo_trials(), *trials], config)
    return metrics, e1.gate(metrics, config)


LEADS = {
    "amplification": ([a - 1 for a in FLAT], FLAT, FLAT),
    "correction": (FLAT, [a - 1 for a in FLAT], FLAT),
    "awakening": (FLAT, NEARLY, FLAT),
    "stabilization": (WIDE, WIDE_SWAPPED, WIDE),
    "weak_signal": (FLAT, SWAPPED, FLAT),
}
CHANCE = [1, 2, 3, 4, 5, 6] * 3


def rules(
    p: float | None,
    difference: float | None,
    tost: float | None = 1.0,
    ratio: float | None = 0.1,
    temporal: float = 2.0,
    ranks: float | None = None,
) -> Metrics:
    return metrics_of(
        [
            *compared("semantic - temporal", p, difference, ranks=ranks),
            Metric("equivalence_p", tost, condition="semantic - temporal"),
            Metric("attempts_sd_ratio", ratio, low=ratio, condition="semantic"),
            Metric("attempts_mean", temporal, condition="temporal"),
            Metric("attempts_mean", 2.0 + (difference or 0.0), condition="semantic"),
        ],
        memos=[],
        test=[],
        errors=[],
        flags={},
        base_above_chance=True,
    )
