"""E2's trainings and trials made by hand, through its analysis and gate; no number here is a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from made_up_trials import SEEDS, choice_trials, with_queries

from experiments import e2_finetuned_retrieval as e2
from experiments.contract import Metrics, Status, Trial, Verdict

CONFIG = e2.Config(n_crossed=0, train_seeds=SEEDS)
FLAT = [3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4]
SWAPPED = FLAT[1:] + FLAT[:1]
NEARLY = [4, 3, *FLAT[2:]]  # one attempt more on one problem, one less on another
WIDE = [1, 6] * 8
STATUSES = {"confirmed": Status.PASS, "refuted": Status.FAIL, "inconclusive": Status.INCONCLUSIVE}


PRECISE = [0.4, 0.6] * 8  # retrieval precision of sixteen problems
WRITERS = ("base_query", "tuned_s", "tuned_r")


def trained(
    name: str, hypothesis: str, seconds: float = 100.0, tokens: int = 1000, losses: Sequence[float] = (2.0, 1.5)
) -> Trial:
    return Trial(
        "training",
        f"train_{name}",
        42,
        tokens_in=tokens,
        latency_s=seconds,
        details={
            "hypothesis": hypothesis,
            "adapter": name * 64,
            "adapter_bytes": 900,
            "examples": 16,
            "held": 4,
            "train_loss": [2.0],
            "validation_loss": list(losses),
            "best_epoch": 1,
        },
    )


def untrained(name: str, hypothesis: str) -> Trial:
    return Trial("training", f"train_{name}", error="nothing solved", details={"hypothesis": hypothesis})


def analysed(
    hypothesis: str,
    numbers: Mapping[str, Sequence[int | None]],
    training: Sequence[Trial] | None = None,
    precise: Mapping[str, Sequence[float]] | None = None,
) -> tuple[Metrics, Verdict]:
    """Metrics and verdict of attempts by condition; both adapters trained and all queries as good unless said otherwise."""
    if training is None:
        training = [trained("s", hypothesis), trained("r", hypothesis)]
    solved = choice_trials(numbers, hypothesis=hypothesis, query_quality=0.5, query_tokens=7, hypothesis_quality=0.8)
    longest = max(map(len, numbers.values()), default=0)
    matches = dict.fromkeys(WRITERS, (PRECISE * longest)[:longest]) | dict(precise or {})
    metrics = e2.metrics([*training, *with_queries(solved, matches)], CONFIG)
    return metrics, e2.gate(metrics, CONFIG)


def gained(by: float) -> list[float]:
    """So much more precise, and twice as much on the first problem: differences that never vary show nothing."""
    return [PRECISE[0] + 2 * by, *(p + by for p in PRECISE[1:])]


def shifted(by: int) -> list[int]:
    return [a + by for a in FLAT]


def worse(by: int) -> list[int]:
    """So many attempts more, and one more on the first problem: differences that never vary show nothing."""
    return [FLAT[0] + by + 1, *shifted(by)[1:]]
