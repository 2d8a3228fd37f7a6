"""The plan of a run: one configuration for each phase from the user's values, and their identity."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.canonical_json import sha256_of
from common.environment import release_of
from common.errors import LabError
from common.settings import set_options
from experiments.backends.placement import INSTALL_QUANTISER, QUANTISER
from experiments.contract import OF_PREFIX, Json, LabRun, NextStep, PhaseConfig
from experiments.data import universe
from experiments.domains import display_name, get_domain
from experiments.precision import AUTO, QUANTISED
from experiments.protocol.code_version import code_version
from experiments.registry import PHASES, configure, get_phase, module_of
from experiments.solving.candidates import models_in
from flows.reports import registered
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.needs import needs_quantiser
from workpools.plan import auto_precision


@dataclass(frozen=True)
class Run:
    """One execution of a plan. The same plan has the same run_id, so a second start resumes the first."""

    run_id: str
    plan_id: str
    scale: str
    configs: Mapping[str, PhaseConfig]
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # values set by the user, by phase


@dataclass(frozen=True)
class Plan:
    """A run with the content of its plan, as it is stored before the first trial. A command makes it once."""

    run: Run
    content: Json
    specification_of: str | None = None  # the run whose study it varies (experiments.protocol.specifications)


def plan(
    scale: str, given: Mapping[str, Mapping[str, Any]] | None = None, phases: Collection[str] = tuple(PHASES)
) -> Plan:
    """Return the plan that `scale` and the user's values name.

    Args:
        scale: smoke, demo or full.
        given: values that differ from the scale's, by phase.
        phases: those that are to run; what a phase asks of its model is checked for these alone.

    Raises:
        LabError: unknown scale, phase or key, a value out of range, or a model that is not installed or not fit.
    """
    from experiments.backends.catalog import backend, digest_of, engines_of

    for name in given or {}:
        module_of(name)
    given = _decided(given or {})
    configs = {name: configure(name, scale, given.get(name)) for name in PHASES}
    for name, config in configs.items():
        _check_engine(config)
        if name in phases and "chat" in get_phase(name).NEEDS:  # else it would be found out after the training
            backend(config.model).check_chat(config.model)
    used = {name: models_in(c) for name, c in configs.items()}
    content: Json = {
        "scale": scale,
        "domain": display_name(configs["p1"].domain),
        "model": configs["p1"].model,
        "analyses": {name: list(get_phase(name).PLANNED) for name in PHASES},
        "configs": {name: c.model_dump(mode="json") for name, c in configs.items()},
        "code_versions": {
            name: code_version(name, c.domain, analysis=True, models=used[name]) for name, c in configs.items()
        },
        "engines": {name: engines_of(used[name], c) for name, c in configs.items()},
        "data_version": sorted({universe(c).version for c in configs.values()}),
        "phases": {name: _texts(name, c.domain) for name, c in configs.items()},
        "digests": {name: digest_of(name) for name in sorted({m for models in used.values() for m in models})},
    }
    plan_id = sha256_of(content)[:16]
    return Plan(Run(f"{scale}-{plan_id[:8]}", plan_id, scale, configs, given), content)


def up_to(until: str | None) -> Sequence[str]:
    """Return the phases of a pipeline that ends with `until`; all for None.

    Raises:
        LabError: there is no such phase.
    """
    names = list(PHASES)
    if until is None:
        return names
    module_of(until)
    return names[: names.index(until) + 1]


def _decided(given: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return the values with `auto` replaced by the precision that the registered machines suggest."""
    if not any(own.get("precision") == AUTO for own in given.values()):
        return given
    reports = registered(Store.configured(Paths.local())).reports
    if not reports:
        raise LabError("precision auto asks the reports of machines, and none is registered", "lab assess")
    chosen = auto_precision(reports).value

    def of(own: Mapping[str, Any]) -> Mapping[str, Any]:
        if own.get("precision") != AUTO:
            return own
        # Only torch was measured; models of other engines have their own default.
        other = str(own.get("model")).partition("/")[0] in OF_PREFIX
        return {k: chosen if k == "precision" else v for k, v in own.items() if not (other and k == "precision")}

    return {phase: of(own) for phase, own in given.items()}


def _check_engine(config: PhaseConfig) -> None:
    """Raise LabError unless this machine has the model and its engine, and they can compute as the config says."""
    from experiments.backends.catalog import backend, check_engine

    module = backend(config.model)
    module.digest(config.model)
    check_engine(config.model)
    offered = module.precisions(config.model)
    if config.precision not in offered:
        what = f"{config.model} cannot be computed in {config.precision}, only in {', '.join(offered)}"
        raise LabError(what, f"--set precision={offered[0]}")
    if config.precision in QUANTISED and needs_quantiser(config.model) and release_of(QUANTISER) is None:
        raise LabError(f"{config.precision} needs {QUANTISER}, which is not installed", INSTALL_QUANTISER)


def _texts(phase: str, domain: str) -> Json:
    """Return what a reader of the results needs to know of a phase: names, whether it blocks, the answers to choose from."""
    module, problems = get_phase(phase), get_domain(domain)
    answers = list(problems.options) if problems.answers == "choice" else []
    return {"title": module.TITLE, "question": module.QUESTION, "blocking": module.BLOCKING, "answers": answers}


def options(scale: str, given: Mapping[str, Mapping[str, Any]]) -> str:
    """Return "--scale smoke --set p2.n_test=8", which names the same plan on the command line, quoted for a shell."""
    return " ".join([f"--scale {scale}", shlex.join(set_options(given, list(PHASES)))]).strip()


def pipeline_command(run: Run, override: str | None = None, mode: str = "split") -> str:
    """Return the command line that starts the same pipeline again, quoted for a shell."""
    words = [f"lab pipeline {options(run.scale, run.given)}", *([] if mode == "split" else [f"--mode {mode}"])]
    return " ".join([*words, *([] if override is None else [f"--override {shlex.quote(override)}"])])


def checked_why(why: str | None, option: str = "--override") -> str | None:
    """Return the reason to go on; LabError for an empty one."""
    if why is not None and not why.strip():
        raise LabError(f"{option} {why!r} gives no reason", f'{option} "why"')
    return why


def steps_of(run: Run, steps: Sequence[NextStep]) -> tuple[NextStep, ...]:
    """Return the next steps of a gate as commands for this run: with its scale, and its values where the step sets none."""
    return tuple(replace(s, command=_continued(run, s.command)) if isinstance(s.command, LabRun) else s for s in steps)


def _continued(run: Run, command: LabRun) -> str:
    # Fields that the step's --set name, after their phase; "" for a field of all phases.
    keys = (
        key if "." in key else f"{'' if key in PhaseConfig.model_fields else command.phase}.{key}"
        for key in command.settings
    )
    changed = {tuple(key.split(".", 1)) for key in keys}
    left = {p: {k: v for k, v in own.items() if not {(p, k), ("", k)} & changed} for p, own in run.given.items()}
    return f"{command} {options(run.scale, left)}"


def defaulted(configs: Mapping[str, PhaseConfig], given: Mapping[str, Mapping[str, Any]]) -> Json:
    """Return the values that the user did not set, by phase."""
    return {
        name: {k: v for k, v in c.model_dump(mode="json").items() if k not in given.get(name, {})}
        for name, c in configs.items()
    }
