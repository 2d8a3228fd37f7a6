"""Engines and models that a phase needs of a host."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from experiments.backends import catalog
from workpools import nearby

LATEST = ":latest"  # the tag of a model of Ollama's that is named without one
# Engines, by their names in reports, that load and train a backend's models; all other backends use torch's.
LOADS = {"mlx": "mlx", "ollama": "ollama"}
TRAINS = {"mlx": ("mlx",), "ollama": ()}  # Ollama cannot train, and its trials fail with that error
FETCH = {"ollama": "ollama pull {}", "gguf": "put {} into LAB_HOME/models"}


def needs_of(needs: Sequence[str], model: str) -> tuple[str, ...]:
    """Return a phase's needs with this model: names of engines, and of models (they have a slash).

    A model named by a path may be on any host, and no report lists it, so its engine is needed instead. A model that comes
    in a package needs nothing more.

    Args:
        needs: the phase's NEEDS.
        model: as in its configuration.

    Raises:
        LabError: no model has this name.
    """
    prefix = catalog.prefix_of(model)
    if prefix == catalog.PACKAGED:
        return tuple(needs)
    by_path = model.partition("/")[2].startswith(("/", "~"))
    own = {
        "language_model": (_loads(prefix) if by_path else model.removesuffix(LATEST),),
        "lora": TRAINS.get(prefix, ("lora",)),
    }
    return tuple(dict.fromkeys(found for need in needs for found in own.get(need, (need,))))


def _loads(prefix: str) -> str:
    return LOADS.get(prefix, "language_model")


def is_model(need: str) -> bool:
    """Return True for the name of a model, False for an engine."""
    return "/" in need


def needs_model(needs: Sequence[str]) -> bool:
    """Return True if the work is done by a language model."""
    return any(is_model(need) or need in ("language_model", *LOADS.values()) for need in needs)


def lacking(needs: Sequence[str], engines: Collection[str], models: Collection[str] | None) -> list[str]:
    """Return the needs (needs_of) that a host does not meet; with `models` unknown, an engine that loads them is enough."""

    def met(need: str) -> bool:
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
