"""The plan of a run: what the user set, turned into one config for each phase, and its identity."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.canonical_json import sha256_of
from experiments.contract import Json, LabRun, NextStep, PhaseConfig
from experiments.data import universe
from experiments.domains import display_name, get_domain
from experiments.protocol.code_version import code_version
from experiments.registry import PHASES, configure, get_phase, module_of


@dataclass(frozen=True)
class Run:
    """A plan being carried out. The same plan has the same run_id, so starting again goes on where it stopped."""

    run_id: str
    plan_id: str
    scale: str
    configs: Mapping[str, PhaseConfig]
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what the user set, by phase


@dataclass(frozen=True)
class Plan:
    """A run with the content of its plan, as it is stored before the first trial. A command makes it once."""

    run: Run
    content: Json


def plan(scale: str, given: Mapping[str, Mapping[str, Any]] | None = None) -> Plan:
    """Return the plan that `scale` and the user's values name.

    Args:
        scale: smoke, demo or full.
        given: values that differ from the scale's, by phase.

    Raises:
        LabError: unknown scale, phase or key, a value out of range, or a model that is not installed.
    """
    from experiments.backends.catalog import backend, digest_of

    for name in given or {}:
        module_of(name)
    configs = {name: configure(name, scale, (given or {}).get(name)) for name in PHASES}
    for model in {c.model for c in configs.values()}:
        backend(model).digest(model)
    used = {name: tuple(sorted({c.model, *getattr(c, "embedders", ())} - {"hybrid"})) for name, c in configs.items()}
    content: Json = {
        "scale": scale,
        "domain": display_name(configs["p1"].domain),
        "model": configs["p1"].model,
        "analyses": {name: list(get_phase(name).PLANNED) for name in PHASES},
        "configs": {name: c.model_dump(mode="json") for name, c in configs.items()},
        "code_versions": {
            name: code_version(name, c.domain, analysis=True, models=used[name]) for name, c in configs.items()
        },
        "data_version": sorted({universe(c).version for c in configs.values()}),
        "phases": {name: _texts(name, c.domain) for name, c in configs.items()},
        "digests": {name: digest_of(name) for name in sorted({m for models in used.values() for m in models})},
    }
    plan_id = sha256_of(content)[:16]
    return Plan(Run(f"{scale}-{plan_id[:8]}", plan_id, scale, configs, given or {}), content)


def _texts(phase: str, domain: str) -> Json:
    """Return what a reader of the results needs to know of a phase: names, whether it blocks, the answers to choose from."""
    module, problems = get_phase(phase), get_domain(domain)
    answers = list(problems.options) if problems.answers == "choice" else []
    return {"title": module.TITLE, "question": module.QUESTION, "blocking": module.BLOCKING, "answers": answers}


def options(scale: str, given: Mapping[str, Mapping[str, Any]]) -> str:
    """--scale smoke --set p2.n_test=8: what names the same plan on the command line, quoted for a shell."""
    # What all phases share is written once: domain=equations.
    shared = [
        (key, value)
        for key, value in next(iter(given.values()), {}).items()
        if all((key, value) in given.get(phase, {}).items() for phase in PHASES)
    ]
    values = [f"{key}={json.dumps(value)}" for key, value in shared]
    values += [
        f"{phase}.{key}={json.dumps(value)}"
        for phase, keys in given.items()
        for key, value in keys.items()
        if (key, value) not in shared
    ]
    return " ".join([f"--scale {scale}", *(f"--set {shlex.quote(v)}" for v in values)])


def _named(key: str, phase: str) -> tuple[str, str]:
    """(phase, field) that a --set of `lab run <phase>` names; "" for a field that all phases share."""
    other, dot, field_ = key.partition(".")
    return (other, field_) if dot else ("" if key in PhaseConfig.model_fields else phase, key)


def steps_of(run: Run, steps: Sequence[NextStep]) -> tuple[NextStep, ...]:
    """Return the next steps of a gate as commands for this run: with its scale, and its values where the step sets none."""
    return tuple(
        replace(step, command=_continued(run, step.command)) if isinstance(step.command, LabRun) else step
        for step in steps
    )


def _continued(run: Run, command: LabRun) -> str:
    changed = {_named(key, command.phase) for key in command.settings}
    kept = {p: {k: v for k, v in own.items() if not {(p, k), ("", k)} & changed} for p, own in run.given.items()}
    return f"{command} {options(run.scale, kept)}"


def defaulted(configs: Mapping[str, PhaseConfig], given: Mapping[str, Mapping[str, Any]]) -> Json:
    return {
        name: {k: v for k, v in c.model_dump(mode="json").items() if k not in given.get(name, {})}
        for name, c in configs.items()
    }
