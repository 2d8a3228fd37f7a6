"""What a phase can see, before its first trial."""

from __future__ import annotations

from experiments import power
from experiments.contract import PhaseConfig
from experiments.registry import get_phase


def foretold(phase: str, config: PhaseConfig) -> str:
    """Return the smallest effect that a phase of this config can see, as a sentence; "" where it compares nothing."""
    level_of, n = getattr(get_phase(phase), "level_of", None), getattr(config, "n_test", None)
    if level_of is None or n is None:
        return ""
    if every := getattr(config, "look_every", 0):
        return f"{n} problems at most, with a look after every {every}, each of which may decide"
    level: power.Level = level_of(config)
    more = getattr(get_phase(phase), "foretold", None)
    rules = more(config) if more else ""
    end = f"; {rules}" if rules else ""
    dz = power.smallest_effect(n, level)
    if dz is None:
        return f"{n} problems cannot show any effect: even the most extreme outcome stays above the level, {level}{end}"
    return (
        f"{n} problems show an effect of {dz:.2f} standard deviations of the paired difference, or more, at 80 % power "
        f"({level}){end}; problems of a group that are alike show less"
    )
