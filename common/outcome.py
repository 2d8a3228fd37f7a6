"""The outcomes of a comparison of two conditions, for gates and pages alike."""

from __future__ import annotations

from enum import StrEnum

LEVEL = 0.05  # where a run has no record of its own (docs/science.md, Statistics)


class Outcome(StrEnum):
    """The outcome for the first of two conditions."""

    FEWER = "needs fewer attempts than {}"
    MORE = "needs more attempts than {}"
    MIXED = "differs from {}, but mean and signed ranks do not point the same way"
    OPEN = "is not shown to need fewer attempts than {}"
    UNMEASURED = "could not be compared with {}"

    def against(self, other: str) -> str:
        """Return what is shown against the other condition, in words."""
        return self.value.format(other)


def outcome_of(p: float | None, mean: float | None, rank_biserial: float | None, level: float) -> Outcome:
    """Return the outcome by adjusted p, mean difference and rank-biserial correlation."""
    if p is None or mean is None:
        return Outcome.UNMEASURED
    if p >= level or rank_biserial is None:
        return Outcome.OPEN
    if mean < 0 and rank_biserial < 0:
        return Outcome.FEWER
    return Outcome.MORE if mean > 0 and rank_biserial > 0 else Outcome.MIXED
