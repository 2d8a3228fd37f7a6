"""What a phase with a given model asks of a host: engines, and the model itself unless it comes in a package."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from experiments.backends import catalog
from workpools import nearby

LATEST = ":latest"  # the tag of a model of Ollama's that is named without one
# Engines, as reports name them, that load and train a backend's models; those of all others are torch's.
LOADS = {"mlx": "mlx", "ollama": "ollama"}
TRAINS = {"mlx": ("mlx",), "ollama": ()}  # Ollama trains nothing, which the trials say
FETCH = {"ollama": "ollama pull {}", "gguf": "put {} into LAB_HOME/models"}


def needs_of(needs: Sequence[str], model: str) -> tuple[str, ...]:
    """A phase's needs with this model: engines by their names, models by theirs (they have a slash).

    A model that a path names may lie on any host, and no report lists it, so its engine is asked for.

    Raises:
        LabError: the name means no model.
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
    """Whether a need is a model, not an engine."""
    return "/" in need


def asks_a_model(needs: Sequence[str]) -> bool:
    """Whether a language model does the work."""
    return any(is_model(need) or need in ("language_model", *LOADS.values()) for need in needs)


def lacking(needs: Sequence[str], engines: Collection[str], models: Collection[str] | None) -> list[str]:
    """The needs that a host with these engines and models does not meet; models None where they are not known."""

    def met(need: str) -> bool:
        if not is_model(need):
            return need in engines
        return _loads(need.partition("/")[0]) in engines if models is None else need in models

    return sorted({need for need in needs if not met(need)})


def fetch(model: str) -> str:
    """The command that brings a model to a host."""
    prefix, _, name = model.partition("/")
    return FETCH.get(prefix, "hf download {}").format(name)


def local_models() -> list[str]:
    """Models that this host can load without a service; nothing heavy is imported."""
    return catalog.local_models(without=("ollama",))


def of_ollama(listed: Sequence[str] | None) -> list[str]:
    """Ollama's models by the names that a phase takes."""
    return sorted(f"ollama/{name.removesuffix(LATEST)}" for name in listed or ())


def models_here() -> list[str]:
    """All models that this host can load now, Ollama's among them."""
    return [*local_models(), *of_ollama(nearby.ollama_models(nearby.ollama_address()))]
