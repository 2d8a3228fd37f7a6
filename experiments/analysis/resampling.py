"""Resampling of intervals: by problem, or by whole groups where the data are split by group (docs/science.md, Statistics)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments import statistics
from experiments.contract import PhaseConfig, Trial
from experiments.data import universe

BOOTSTRAP_SEED = 42  # docs/science.md, Seeds: 42 makes what is not a run


@dataclass(frozen=True)
class Resampling:
    """The things that are drawn with replacement: problems, or whole groups where `groups` gives each problem's group."""

    groups: Mapping[str, str] | None = None

    def of(self, problems: Iterable[str]) -> list[str] | None:
        """The groups of these problems in their order, as `experiments.statistics` takes them."""
        return None if self.groups is None else [self.groups[p] for p in problems]

    def mean(self, values: Mapping[str, float]) -> statistics.Interval:
        """Mean of one value a problem."""
        return statistics.bootstrap_mean(list(values.values()), BOOTSTRAP_SEED, self.of(values))

    def ratio(self, above: Mapping[str, float], below: Mapping[str, float]) -> statistics.Interval:
        """Ratio of two sums over the problems that have both values."""
        both = [p for p in above if p in below]
        return statistics.bootstrap_ratio(
            [above[p] for p in both], [below[p] for p in both], BOOTSTRAP_SEED, self.of(both)
        )

    def of_any(self, name: str, statistic: statistics.Statistic, problems: Sequence[str]) -> statistics.Interval:
        """Any other statistic, a function of the drawn problems' indices; `name` begins the method."""
        return statistics.bootstrap(name, statistic, len(problems), BOOTSTRAP_SEED, self.of(problems))


BY_PROBLEM = Resampling()


def resampling_of(trials: Sequence[Trial], config: PhaseConfig) -> Resampling:
    """By whole groups with split: group, else by problem. Trials name their problem's group, or the data do (E0)."""
    if config.split != "group":
        return BY_PROBLEM
    groups: dict[str, str] = {t.problem_id: t.details["group"] for t in trials if "group" in t.details}
    unknown = {t.problem_id for t in trials if t.error is None} - set(groups)
    if unknown:
        # A training is no problem, and has no group.
        known = universe(config).by_id()
        groups |= {p: known[p].group for p in sorted(unknown) if p in known}
    return Resampling(groups)
