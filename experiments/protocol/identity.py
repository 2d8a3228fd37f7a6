"""The identity of units: a hash of all that decides a result, so that no host computes the same unit twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.canonical_json import sha256_of
from common.errors import LabError
from experiments.contract import Json, PhaseConfig, Unit
from experiments.protocol.code_version import code_version


def identify(phase: str, config: PhaseConfig, models: Sequence[str]) -> Json:
    """Return {"code", "data", "models", "engines"}: the versions on this host of all that decides a unit's trials.

    The precision and the trainer are in the unit's config. "engines" has the releases of the packages whose change is known to
    move numbers, by engine and package (docs/design.md, "Precision").
    """
    from experiments.backends.catalog import digest_of, engines_of
    from experiments.data import universe

    named = tuple(sorted(set(models)))
    return {
        "code": code_version(phase, config.domain, models=named),
        "data": universe(config).version,
        "models": {name: digest_of(name) for name in named},
        "engines": engines_of(named, config),
    }


def make_unit(
    phase: str,
    config: PhaseConfig,
    spec: Mapping[str, Any],
    *,
    models: Sequence[str],
    round: int = 1,
    depends_on: Sequence[str] = (),
    files: Sequence[str] = (),
    n_trials: int = 1,
    cost: float = 1.0,
) -> Unit:
    """Return a Unit with its id: 32 hex digits of the hash of phase, config, spec, files and identity."""
    plain, identity = config.model_dump(mode="json"), identify(phase, config, models)
    unit_id = _unit_id(phase, plain, spec, files, identity)
    return Unit(unit_id, phase, round, plain, dict(spec), identity, tuple(depends_on), tuple(files), n_trials, cost)


def _unit_id(phase: str, config: Json, spec: Mapping[str, Any], files: Sequence[str], identity: Json) -> str:
    return sha256_of({"phase": phase, "config": config, "spec": spec, "files": list(files), "identity": identity})[:32]


def check_unit(unit: Unit, config: PhaseConfig) -> None:
    """Refuse a unit that was planned with other code, data or models than this host has, or whose id is not its hash.

    Raises:
        LabError: naming what differs; the host needs the coordinator's version of it.
    """
    if unit.unit_id != _unit_id(unit.phase, unit.config, unit.spec, unit.files, unit.identity):
        raise LabError(f"unit {unit.unit_id} was changed after it was planned", "plan the run again: lab pipeline")
    local = identify(unit.phase, config, tuple(unit.identity["models"]))
    for what, mend in (
        ("code", "bring this host to the coordinator's commit: git pull"),
        ("data", "bring this host to the coordinator's commit: git pull"),
        ("models", "install the same model version as on the coordinator"),
    ):
        if local[what] != unit.identity[what]:
            raise LabError(f"{what} differ on this host: {local[what]}, planned with {unit.identity[what]}", mend)
    if why := other_releases(unit, config):
        raise LabError(why, "install the coordinator's versions, or plan the run again: lab pipeline")


def other_releases(unit: Unit, config: PhaseConfig) -> str:
    """Return where a package of an engine is another release here than the unit was planned with, "" if none is."""
    from experiments.backends.catalog import engines_of

    local = engines_of(tuple(unit.identity["models"]), config)
    for engine, packages in unit.identity.get("engines", {}).items():
        for package, release in packages.items():
            if (found := local.get(engine, {}).get(package)) != release:
                return f"{engine} computes with {package} {found or 'not installed'} here, planned with {release}"
    return ""


def unable(unit: Unit, config: PhaseConfig) -> str:
    """Return why this host cannot compute in the unit's numbers now, "" if it can; else the unit belongs on another host."""
    from experiments.backends.catalog import STATES, backend, language_models
    from experiments.backends.protocols import Unavailable

    if why := other_releases(unit, config):
        return why
    models = language_models(unit.identity["models"])
    asked = [(name, config.precision if name in unit.identity["models"] else STATES) for name in models]
    try:
        return next(filter(None, (backend(name).refusal(name, precision) for name, precision in asked)), "")
    except (Unavailable, LabError):
        return ""  # its trials fail with the reason
