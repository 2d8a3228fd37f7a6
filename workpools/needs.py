"""Engines and models that a phase needs of a host."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from common.environment import release
from experiments.backends import catalog
from experiments.backends.placement import QUANTISER
from experiments.contract import PhaseConfig
from experiments.precision import QUANTISED, Precision
from experiments.registry import get_phase
from workpools import nearby

LATEST = ":latest"  # the tag of a model of Ollama's that is named without one
# Engines, by their names in reports, that load a backend's models, and that train; all other backends use torch's.
LOADS = {"mlx": "mlx", "ollama": "ollama"}
TRAINS = {"mlx": ("mlx",), "peft": ("lora",)}  # Ollama cannot train, and its trials fail with that error
FETCH = {"ollama": "ollama pull {}", "gguf": "put {} into LAB_HOME/models"}


class Demand(NamedTuple):
    """What a phase asks of a machine."""

    profile: str  # prerequisites, e0_e1, e2 or e2_quantized
    needs: tuple[str, ...]  # engines, models, and packages with their release


def demand(phase: str, config: PhaseConfig) -> Demand:
    """Return what a machine must have to compute units of a phase in the numbers that this machine plans them with."""
    module = get_phase(phase)
    profile = module.PROFILE
    if profile == "e2" and config.precision in (*QUANTISED, Precision.STORED):
        profile = "e2_quantized"
    solves = "language_model" in module.NEEDS
    found = needs_of(module.NEEDS, config.model, config.trainer)
    if solves and config.precision in QUANTISED and needs_quantiser(config.model):
        found = (*found, QUANTISER)
    engines = catalog.engines_of([config.model if solves else next(iter(catalog.EMBEDDERS))], config)
    releases = {f"{package}=={number}" for own in engines.values() for package, number in own.items()}
    return Demand(profile, (*found, *sorted(releases)))


def needs_of(needs: Sequence[str], model: str, trainer: str = "peft") -> tuple[str, ...]:
    """Return a phase's needs with this model: names of engines, and of models (they have a slash).

    A model named by a path may be on any host, and no report lists it, so its engine is needed instead. A model that comes
    in a package needs nothing more.

    Args:
        needs: the phase's NEEDS.
        model, trainer: as in its configuration.

    Raises:
        LabError: no model has this name.
    """
    prefix = catalog.prefix_of(model)
    needs = [need for need in needs if need != "chat"]  # of the model, wherever it is: the plan asks for it
    if prefix == catalog.PACKAGED:
        return tuple(needs)
    by_path = catalog.is_path(model.partition("/")[2])
    own = {
        "language_model": (_loads(prefix) if by_path else model.removesuffix(LATEST),),
        "lora": TRAINS[trainer] if prefix != "ollama" else (),
    }
    return tuple(dict.fromkeys(found for need in needs for found in own.get(need, (need,))))


def needs_quantiser(model: str) -> bool:
    """Return True if torch computes the model, which quantises through a package of its own."""
    return catalog.prefix_of(model) not in LOADS


def _loads(prefix: str) -> str:
    return LOADS.get(prefix, "language_model")


def is_model(need: str) -> bool:
    """Return True for the name of a model, False for an engine."""
    return "/" in need


def needs_model(needs: Sequence[str]) -> bool:
    """Return True if the work is done by a language model."""
    return any(is_model(need) or need in ("language_model", *LOADS.values()) for need in needs)


def lacking(
    needs: Sequence[str],
    engines: Collection[str],
    models: Collection[str] | None,
    versions: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the needs (demand) that a host does not meet; with `models` unknown, an engine that loads them is enough.

    Args:
        versions: of its packages; one that is not there is the engines' affair.
    """

    def met(need: str) -> bool:
        package, equals, number = need.partition("==")
        if equals:
            return release((versions or {}).get(package, number)) == number
        if not is_model(need):
            return need in engines
        return _loads(need.partition("/")[0]) in engines if models is None else need in models

    return sorted({need for need in needs if not met(need)})


def fetch(model: str) -> str:
    """Return the command that downloads a model to a host."""
    prefix, _, name = model.partition("/")
    return FETCH.get(prefix, "hf download {}").format(name)


def local_models() -> list[str]:
    """Return the models that this host can load without a service; import nothing slow."""
    return catalog.local_models(without=("ollama",))


def of_ollama(listed: Sequence[str] | None) -> list[str]:
    """Return Ollama's models by the names that phases use."""
    return sorted(f"ollama/{name.removesuffix(LATEST)}" for name in listed or ())


def available_models() -> list[str]:
    """Return all models that this host can load now, including Ollama's."""
    return [*local_models(), *of_ollama(nearby.ollama_models(nearby.ollama_address()))]
