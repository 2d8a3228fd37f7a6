"""The settings of E1: its conditions, configuration and findings."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from experiments import power
from experiments.analysis.ends import ROOM, scale_of
from experiments.findings import PhaseFindings
from experiments.power import Level
from experiments.solving.controls import Control, with_controls
from experiments.solving.memory_bank import MemoRecord
from experiments.solving.stream import StreamConfig

CONDITIONS = ("none", "temporal", "semantic")
PAIRS = (("semantic", "temporal"), ("semantic", "none"), ("temporal", "none"))
PAIR = "semantic - temporal"  # the comparison that decides
WEAK_SIGNAL = "weak_signal"  # the hypothesis where nothing was shown
MEMO = "memo"  # condition of the trials that fill the memory


class Config(StreamConfig):
    """E1's protocol."""

    n_memory: int = Field(1500, gt=0, description="problems that the baseline solver turns into memos")
    n_test: int = Field(150, gt=1, description="problems to solve")
    k: int = Field(5, gt=0, description="memos shown, temporal and semantic alike")
    memo_on_failure: Literal["truth", "drop"] = Field("truth", description="of a failure: store the truth, or no memo")
    controls: tuple[Control, ...] = Field(
        ("label_only", "shuffled_labels", "other_families", "lexical", "oracle"),
        description="conditions that say why semantic memos help",
    )
    per_unit: int = Field(10, gt=0, description="test problems a unit")
    memos_per_unit: int = Field(50, gt=0, description="memory problems a unit")
    margin: float = Field(
        ROOM, gt=0, lt=1, description="share of the range of attempts; TOST's equivalence margin, fixed beforehand"
    )
    amplification_p: float = Field(0.01, description="semantic better below this")
    correction_p: float = Field(0.05, description="temporal better below this")
    equivalence_p: float = Field(0.05, description="TOST's level")
    stabilization_ratio: float = Field(
        1.0, gt=0, description="of the standard deviation of attempts over a chance solver's, above this"
    )


class Findings(PhaseFindings, phase="e1", what="memos and hypothesis"):
    """The hypothesis for E2, and the memory that it rests on."""

    hypothesis: str  # a key of experiments.analysis.e2_settings.CONDITIONS
    best: Literal["temporal", "semantic"]  # strategy
    memos: tuple[MemoRecord, ...]  # in their order in the memory
    test: tuple[str, ...]  # problem ids
    labels_copied: float | None = (
        None  # share of semantic's gain over none that its labels alone give, if a gain is shown
    )
    base_above_chance: bool = (
        True  # whether the model without memory is shown to be; runs before protocol 2 did not ask
    )

    def doubted(self) -> Self:
        """Return the memos and problems, without the hypothesis and what a gain is made of."""
        return self.model_copy(update={"hypothesis": WEAK_SIGNAL, "labels_copied": None})


def conditions_of(config: Config) -> tuple[str, ...]:
    """Return all conditions under which a test problem is solved."""
    return with_controls(CONDITIONS, config.controls)


def level_of(config: Config) -> Level:
    """Return the level of one comparison."""
    return Level(config.amplification_p, len(PAIRS))


def margin_of(config: Config) -> float:
    """Return the margin of equivalence, in attempts."""
    return scale_of(config).part(config.margin)


def foretold(config: Config) -> str:
    """Return what n_test problems can show of equivalence and of a wide variation, in words."""
    scale, margin, n = scale_of(config), margin_of(config), config.n_test
    chance = power.equivalence(n, margin, scale.spread, config.equivalence_p) or 0.0
    narrow = power.largest_sd(n, margin, config.equivalence_p) or 0.0
    ratio = power.smallest_ratio(n, config.stabilization_ratio)
    # No attempts vary more than those that are half at one end of the range and half at the other.
    most = (scale.most - 1) / 2 / scale.spread
    wide = f"if they have {ratio:.2f} times that" if ratio and ratio <= most else "by no attempts of so few problems"
    return (
        f"that strategies are equivalent within {margin:.3g} attempts is shown at 80 % power if the paired differences have a standard "
        f"deviation of {narrow:.2f} attempts or less; with {scale.spread:.2f}, that of a solver that guesses by lot, the power is "
        f"{chance:.2f}; that attempts vary more than that solver's is shown at 80 % power {wide} standard deviation"
    )
