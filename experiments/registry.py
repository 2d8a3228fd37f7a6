"""The phases in their order. A new phase is one line here, its own file, and a test of its gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from pydantic import ValidationError

from common.errors import LabError
from experiments.backends.model_cache import Backends
from experiments.contract import Json, Metrics, PhaseConfig, Result, Sides, Trial, Unit, Verdict
from experiments.domains import get_domain, resolved
from experiments.domains.jsonl import JsonLines
from experiments.domains.jsonl_file import MIN_LINES, MIN_OF_LABEL, too_rare
from experiments.expected import Expected
from experiments.findings import Earlier, PhaseFindings
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
    """Return the module of phase `name`; LabError when there is none."""
    if name not in PHASES:
        raise LabError(f"unknown phase {name!r}", f"choose one of: {', '.join(PHASES)}")
    return PHASES[name]


def get_phase(name: str) -> Phase:
    """Return the phase called `name`; LabError when there is none."""
    return cast(Phase, import_module(module_of(name)))


def read_findings(phase: str, stored: Json) -> PhaseFindings | None:
    """Return the findings that were stored with a verdict of `phase`; None for {}, which is stored where it has none.

    Raises:
        LabError: they are not this phase's.
    """
    if not stored:
        return None
    try:
        return get_phase(phase).Findings.model_validate(stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LabError(
            f"the stored findings of {phase} cannot be read: {where}: {first['msg']}", f"lab run {phase}"
        ) from None


def expected_findings() -> Earlier:
    """Return what a forecast assumes of phases that have no verdict."""
    return Earlier(tuple(found for name in PHASES if (found := get_phase(name).EXPECTED)))


def configure(name: str, scale: str, given: Mapping[str, Any] | None = None) -> PhaseConfig:
    """Return the Config of a phase: its defaults, then the scale's counts, then what the user gave.

    Counts that nobody gave and the data cannot serve are made smaller (experiments.fitting).

    Raises:
        LabError: unknown phase, scale or key, or a value out of its range, with the value seen.
    """
    phase = get_phase(name)
    if scale not in SCALES:
        raise LabError(f"unknown scale {scale!r}", f"choose one of: {', '.join(SCALES)}")
    values = {**phase.SCALES.get(scale, {}), **(given or {})}
    if isinstance(values.get("domain"), str):
        values["domain"] = resolved(values["domain"])
        if why := _too_few(values):
            raise LabError(why, "lab data check FILE")
        if "n_problems" not in (given or {}):
            values |= _enough_for_labels(values)
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


class Phase(Protocol):
    """The names and functions of a phase module."""

    NAME: str  # p1 ... e2
    TITLE: str
    QUESTION: str
    BLOCKING: bool  # a FAIL or INCONCLUSIVE stops the pipeline
    PROFILE: str  # prerequisites | e0_e1 | e2 (docs/science.md, "Which machine may run what")
    NEEDS: tuple[str, ...]  # engines of the host: embedder, language_model, lora; of the model: chat, a chat template
    PLANNED: tuple[str, ...]  # metrics that the protocol asks for; others are marked exploratory
    SCALES: Mapping[str, Mapping[str, Any]]  # fields that differ from Config's defaults; full is {}
    Config: type[PhaseConfig]
    Findings: type[PhaseFindings]
    READS: tuple[type[PhaseFindings], ...]  # findings of earlier phases that it needs
    EXPECTED: (
        PhaseFindings | None
    )  # assumed in a forecast while the phase has no verdict; None where no phase reads its findings

    def units(self, config: Any, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]: ...

    def sides(self, config: Any, findings: Earlier) -> Sides: ...  # what the leakage gate compares

    def run(self, unit: Unit, backends: Backends) -> list[Trial]: ...

    def expected(self, unit: Unit) -> Expected: ...  # the trials of `run`, as far as its analysis rests on them

    def metrics(self, trials: Sequence[Trial], config: Any) -> Metrics: ...

    def gate(self, metrics: Metrics, config: Any) -> Verdict: ...


def _enough_for_labels(values: Mapping[str, Any]) -> dict[str, int]:
    """Return n_problems with the least problems of each label that a file may have, where it has many labels."""
    domain = get_domain(values["domain"])
    if not isinstance(domain, JsonLines):
        return {}
    usual = values.get("n_problems", PhaseConfig.model_fields["n_problems"].default)
    return {"n_problems": max(usual, MIN_OF_LABEL * len(domain.options))}


def _too_few(values: Mapping[str, Any]) -> str:
    """Return what a file has too few of, "" if it is another domain or has enough."""
    domain = get_domain(str(values.get("domain", PhaseConfig.model_fields["domain"].default)))
    if not isinstance(domain, JsonLines):
        return ""
    if len(domain.rows) < MIN_LINES:
        return f"{domain.title}: {len(domain.rows)} lines, and {MIN_LINES} are needed at least"
    label, n = min(Counter(p.label for p in domain.rows).items(), key=lambda one: one[1])
    return f"{domain.title}: {too_rare(label, n)}" if n < MIN_OF_LABEL else ""
