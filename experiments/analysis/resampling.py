"""The independent observations: problems, or whole groups where problems share them (docs/science.md, Statistics)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments import mean_tests, statistics
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

    def share(self, values: Mapping[str, float]) -> statistics.Interval:
        """Mean of one share a problem, with Wilson's interval."""
        return statistics.share(list(values.values()), self.of(values))

    def under(self, values: Mapping[str, float], bound: float) -> mean_tests.MeanTest:
        """Test that the mean of one value a problem lies under a bound."""
        return mean_tests.under(list(values.values()), bound, self.of(values))

    def positive(self, name: str, statistic: statistics.Statistic, problems: Sequence[str]) -> statistics.Interval:
        """A positive statistic, a function of the problems' indices; `name` begins the method."""
        return statistics.jackknife(name, statistic, len(problems), self.of(problems))


BY_PROBLEM = Resampling()


def resampling_of(trials: Sequence[Trial], config: PhaseConfig) -> Resampling:
    """By whole groups where problems share them, else by problem. Trials name their problem's group.

    Problems of one family may be alike whatever the split, and then are less than as many observations. With
    split: group the data give what trials do not name (E0).
    """
    groups: dict[str, str] = {t.problem_id: t.details["group"] for t in trials if "group" in t.details}
    unknown = {t.problem_id for t in trials if t.error is None} - set(groups)
    if unknown and config.split == "group":
        # A training is no problem, and has no group.
        known = universe(config).by_id()
        groups |= {p: known[p].group for p in sorted(unknown) if p in known}
    elif any(t.attempts is not None for t in trials if t.problem_id in unknown):
        return BY_PROBLEM
    return Resampling(groups) if len(set(groups.values())) < len(groups) else BY_PROBLEM
