"""The phases in their order. A new phase is one line here, its own file, and a test of its gate."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from pydantic import ValidationError

from common.errors import LabError
from experiments.contract import Phase, PhaseConfig
from experiments.domains import settled
from experiments.fitting import smaller_counts

PHASES = {
    "p1": "experiments.p1_embedding_validity",
    "p2": "experiments.p2_retrieval_utility",
    "p3": "experiments.p3_finetuning_preservation",
    "e0": "experiments.e0_retrieval_parameters",
    "e1": "experiments.e1_retrieval_strategies",
    "e2": "experiments.e2_finetuned_retrieval",
}
SCALES = ("smoke", "demo", "full")


def module_of(name: str) -> str:
    """The module of phase `name`; LabError when there is none."""
    if name not in PHASES:
        raise LabError(f"unknown phase {name!r}", f"choose one of: {', '.join(PHASES)}")
    return PHASES[name]


def get_phase(name: str) -> Phase:
    """The phase called `name`; LabError when there is none."""
    return cast(Phase, import_module(module_of(name)))


def configure(name: str, scale: str, given: Mapping[str, Any] | None = None) -> PhaseConfig:
    """The Config of a phase: its defaults, then the scale's counts, then what the user gave.

    Counts that nobody gave and the user's own data cannot serve are made smaller (experiments.fitting).

    Raises:
        LabError: unknown phase, scale or key, or a value out of its range, with the value seen.
    """
    phase = get_phase(name)
    if scale not in SCALES:
        raise LabError(f"unknown scale {scale!r}", f"choose one of: {', '.join(SCALES)}")
    values = {**phase.SCALES.get(scale, {}), **(given or {})}
    if isinstance(values.get("domain"), str):
        values["domain"] = settled(values["domain"])
    try:
        config = phase.Config(**values)
        return phase.Config(**{**values, **smaller_counts(config, given or ())})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(phase.Config.model_fields)
            raise LabError(f"unknown config key {key!r} of {name}", f"choose one of: {known}") from None
        raise LabError(f"{name}: {key} = {first['input']!r}: {first['msg']}", f"lab run {name} --help") from None
