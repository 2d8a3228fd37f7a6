"""Floor and ceiling: conditions in which nothing can be seen, found by test against chance and against certainty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.analysis.attempts import Table, row
from experiments.analysis.resampling import BY_PROBLEM, Resampling
from experiments.contract import Metric, Metrics, PhaseConfig
from experiments.domains import get_domain
from experiments.solving.solving import most_attempts

ROOM = 0.05  # of the range of attempts: the smallest difference worth having (docs/science.md, E1; 0.25 of 1 to 6)
ENDS = {"ceiling": "solved at the first guess or nearly so", "floor": "not shown to be better than chance"}
Flags = Mapping[str, Sequence[str]]  # end -> the conditions at it


@dataclass(frozen=True)
class Scale:
    """The attempts that a trial can have: 1 to `most`, and `chance` for a solver that knows nothing."""

    most: int
    chance: float

    def part(self, share: float) -> float:
        """Return a share of the range of attempts, in attempts."""
        return share * (self.most - 1)

    @property
    def room(self) -> float:
        """The smallest difference worth having, in attempts."""
        return self.part(ROOM)

    @property
    def spread(self) -> float:
        """Standard deviation of attempts that are any of 1 to `most` equally often, as those of a solver that picks by lot."""
        return math.sqrt((self.most**2 - 1) / 12)


def scale_of(config: PhaseConfig) -> Scale:
    """Return the scale of a phase's domain.

    Guessing among m options without repeating one takes (m + 1) / 2 attempts in the mean; where formulas are guessed,
    a solver that knows nothing solves nothing.
    """
    domain = get_domain(config.domain)
    most = most_attempts(domain, config)
    return Scale(most, (most + 1) / 2 if domain.answers == "choice" else float(most))


def margin_row(scale: Scale, share: float) -> Metric:
    """Return a margin that is a share of the range of attempts, in attempts."""
    method = f"{share:.3g} of the range of attempts, 1 to {scale.most}; fixed beforehand"
    return Metric("equivalence_margin", scale.part(share), method=method)


def ends(table: Table, scale: Scale, by: Resampling = BY_PROBLEM) -> list[Metric]:
    """Test each condition against both ends: shares of problems at them, above_chance_p and ceiling_p."""
    rows = []
    for condition, values in table.items():
        for end, at, words in (("ceiling", 1, "first guess"), ("floor", scale.most, "most attempts there are")):
            found = by.share(
                {p: float(round(v) <= at if end == "ceiling" else round(v) >= at) for p, v in values.items()}
            )
            rows.append(
                row(f"{end}_share", condition, found, note=f"; problems whose attempts round to {at}, the {words}")
            )
        full = 1 + scale.room
        for metric, bound, words in (
            ("above_chance_p", scale.chance, "chance"),
            ("ceiling_p", full, "no room worth having"),
        ):
            test = by.under(values, bound)
            note = f"; {test.note}" if test.note else ""
            method = f"one-sided t test that the mean lies under {bound:.4g} attempts, {words}{note}"
            rows.append(Metric(metric, test.p, n=test.n, condition=condition, method=method))
    return rows


def flags_of(table: Table, scale: Scale, by: Resampling = BY_PROBLEM) -> dict[str, list[str]]:
    """Return the conditions at either end.

    At the floor: not shown to be better than chance, so that "equal" may mean that nothing works. At the ceiling: shown
    to leave less room than the smallest difference worth having. Where no problem differs, its number decides.
    """
    return {
        "ceiling": [c for c, values in table.items() if values and _under(values, 1 + scale.room, by)],
        "floor": [c for c, values in table.items() if values and not _under(values, scale.chance, by)],
    }


def _under(values: Mapping[str, float], bound: float, by: Resampling) -> bool:
    found = list(values.values())
    if len(found) > 1 and np.ptp(found) == 0:
        return found[0] < bound
    return bool(by.under(values, bound).shown)


def ends_in_words(flags: Flags) -> str:
    """Return the flags as the end of a reason, "" when there are none."""
    return "".join(f" At the {end} ({ENDS[end]}): {', '.join(names)}." for end, names in flags.items() if names)


def means_in_words(metrics: Metrics, conditions: Sequence[str]) -> str:
    """Return the mean attempts of conditions, as "3.40 and 3.60 attempts"."""
    found = [m.value for c in conditions if (m := metrics.find("attempts_mean", c)) and m.value is not None]
    return f"{' and '.join(f'{v:.2f}' for v in found)} attempts"
