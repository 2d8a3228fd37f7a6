"""The settings of E2 that its analysis reads: conditions, writers and solvers, criteria, findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from pydantic import Field

from experiments.analysis.ends import ROOM
from experiments.backends.lora import LoraSettings
from experiments.findings import PhaseFindings
from experiments.power import Level
from experiments.solving.stream import StreamConfig

BASE = "base_query"  # the untuned model writes its query and solves: what every writer is compared with
CONTROLS = ("tuned_s_random", "tuned_s_none")
# docs/science.md, E2, the conditions of each hypothesis; the first is the base that attempts are compared with.
CONDITIONS = {
    "amplification": ("base_semantic", BASE, "tuned_s", "tuned_r"),
    "awakening": (BASE, "base_temporal", "base_semantic", "tuned_s", "tuned_r"),
    "correction": ("base_best", BASE, "tuned_s", "tuned_r"),
    "stabilization": (BASE, "tuned_s", "tuned_r"),
    "weak_signal": (BASE, "tuned_s", "tuned_r"),
}
# Condition -> the dataset of the adapter that writes the query, "" for the untuned model.
WRITERS = {BASE: "", "tuned_s": "s", "tuned_r": "r"}
TUNED_WRITERS = ("tuned_s", "tuned_r")
# As a second comparison: of S and R the one whose examples have more tokens, trained on fewer of them.
BY_TOKENS = "tuned_tokens"
WRITES = (*WRITERS, BY_TOKENS)


class Crossed(NamedTuple):
    """A condition in which one model solves with the query that another wrote."""

    writer: str  # the condition whose queries it takes
    solver: str  # the dataset of the adapter that solves, "" for the untuned model


CROSSED: Mapping[str, Crossed] = {
    f"write_{by or 'base'}_solve_{solver or 'base'}": Crossed(writer, solver)
    for writer, by in WRITERS.items()
    for solver in WRITERS.values()
    if by != solver
}
# (name, largest time or token ratio S/R, what is bounded, smallest performance ratio S/R), docs/science.md, E2, success criteria.
CRITERIA = (
    ("efficiency_moderate", "time", 0.65, 0.95),
    ("efficiency_strong", "time", 0.50, 0.85),
    ("performance_moderate", "time", 1.5, 1.25),
    ("performance_strong", "time", 2.0, 1.50),
    ("token_efficiency", "tokens", 0.60, 0.90),
)
PROTOCOL_LORA = LoraSettings(
    rank=8, alpha=16, dropout=0.1, learning_rate=5e-5, epochs=3, batch_size=4, accumulation=4, warmup=0.1, patience=3
)


def solver_of(condition: str) -> str:
    """Return the dataset of the adapter that solves under a condition, "" for the untuned model."""
    if condition in CROSSED:
        return CROSSED[condition].solver
    return condition.split("_")[1] if condition.startswith("tuned_") else ""


class AnalysisConfig(StreamConfig):
    """The fields of E2's Config that its analysis reads."""

    n_train: int = Field(1500, gt=1, description="memos at most in each dataset")
    n_crossed: int = Field(
        150, ge=0, description="of the test problems, solved by each model with the queries of the others as well"
    )
    train_seeds: tuple[int, ...] = Field((42, 43, 44), min_length=1, description="trainings of each dataset")
    lora: LoraSettings = PROTOCOL_LORA
    margin: float = Field(
        ROOM,
        gt=0,
        lt=1,
        description="share of the range of attempts; the smallest saving worth having, fixed beforehand",
    )
    precision_margin: float = Field(
        0.05,
        gt=0,
        description="share of memos; the smallest gain in retrieval precision worth having, fixed beforehand",
    )
    empty_limit: float = Field(0.2, gt=0, le=1, description="share of empty queries up to which a writer is judged")
    alpha: float = Field(0.05, description="level of the one-sided tests, after Holm")


def first_trained(config: AnalysisConfig, seeds: Iterable[int | None]) -> int | None:
    """Return the first of `train_seeds` that is among `seeds`, None if none is: a dataset's training for crossed cells."""
    known = set(seeds)
    return next((seed for seed in config.train_seeds if seed in known), None)


class Findings(PhaseFindings, phase="e2", what="verdict on the hypothesis"):
    """The answer to the hypothesis."""

    hypothesis_verdict: str  # confirmed, refuted or inconclusive: whether tuned models write queries that find more
    attempts_verdict: str = "inconclusive"  # the same for attempts, by the hypothesis's own rule
    best_model: str  # condition with the fewest attempts
    criteria: dict[str, bool]  # success criterion -> met
    training_seeds: int = 1  # trainings of each dataset behind it

    def doubted(self) -> Self:
        """Return the numbers, without an answer."""
        return self.model_copy(update={"hypothesis_verdict": "inconclusive", "attempts_verdict": "inconclusive"})


def level_of(config: AnalysisConfig) -> Level:
    """Return the level of one comparison: both tuned conditions are tested against the base, on one side."""
    return Level(config.alpha, 2, 1)
