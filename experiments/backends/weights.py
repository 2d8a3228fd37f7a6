"""The weights behind a name: where they lie, how large they are, and as a folder of safetensors that every engine reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from common.environment import lab_home
from experiments.backends.catalog import (
    LANGUAGE_MODELS,
    file_digest,
    folder_digest,
    language_model_file,
    missing,
    model_folder,
    unknown,
)
from experiments.backends.protocols import Unavailable
from experiments.backends.quiet import quiet
from experiments.backends.sizing import Size, folder_size, gguf_size

INSTALL = "install it: pip install torch==2.13.0 && pip install '.[weak]'"


# A GGUF file of 4 bits a parameter unpacks to eight times its size: up to here any machine of a tier has room for it.
SMALL_GGUF_BYTES = 250_000_000


def lacks(packages: Sequence[str]) -> tuple[str, str]:
    """(those of an engine's packages that are not installed, the command that installs them); both empty without any."""
    absent = [package for package in packages if find_spec(package) is None]
    return (", ".join(absent), INSTALL.removeprefix("install it: ")) if absent else ("", "")


def gguf_folder() -> Path:
    """Where a GGUF file named without its folder is looked for."""
    return lab_home() / "models"


def source(name: str) -> Path:
    """The GGUF file of a packaged or a gguf/ model, the folder of safetensors of any other.

    mlx/ takes what hf/ takes, and packaged models by their short names.

    Raises:
        LabError: the name means none, or it is not here.
    """
    prefix, slash, place = name.partition("/")
    if not slash or (prefix == "mlx" and place in LANGUAGE_MODELS):
        return language_model_file(place or name)
    if prefix != "gguf":
        return model_folder(name, place)
    path = gguf_folder() / Path(place).expanduser()  # an absolute path stays itself
    if path.suffix != ".gguf":
        raise unknown(name)
    if not path.is_file():
        raise missing(name, f"no file {path}", f"put it into {gguf_folder()}, or name it by its absolute path")
    return path


def digest(name: str) -> str:
    """SHA-256 of the weights, and of all else that decides the answers where they lie in a folder."""
    path = source(name)
    return file_digest(path) if path.is_file() else folder_digest(path)


def size(name: str) -> Size:
    """Parameters of the model, read from headers; a small GGUF file is converted for it, as loading would.

    Raises:
        Unavailable: gguf is missing.
        LabError: the model is not here.
    """
    path = source(name)
    # The headers of a converted model are read in milliseconds, a GGUF file's in seconds.
    if path.is_file() and (_converted(name, path).is_dir() or path.stat().st_size <= SMALL_GGUF_BYTES):
        path = folder_quietly(name)
    try:
        return gguf_size(path) if path.is_file() else folder_size(path)
    except ImportError as error:
        raise Unavailable(f"{error}; {INSTALL}") from error


def _converted(name: str, path: Path) -> Path:
    # A packaged model's folder has its own name whichever engine reads it.
    short = path.stem if name.startswith("gguf/") else name.removeprefix("mlx/")
    return gguf_folder() / f"{short}-{file_digest(path)[:16]}"


def folder(name: str) -> Path:
    """The folder with the model as safetensors, made once where it is a GGUF file; safe when two processes make it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = source(name)
    if path.is_dir():
        return path
    target = _converted(name, path)
    if target.is_dir():
        return target
    making = target.with_name(f"{target.name}.making-{os.getpid()}")
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype="float32")
    # The weights are plain numbers by now; with this left in, loading would ask for the GGUF file again.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(making)
    AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name).save_pretrained(making)
    try:
        making.rename(target)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def folder_quietly(name: str) -> Path:
    """folder() without a word from the libraries.

    Raises:
        Unavailable: transformers, torch or gguf is missing.
        LabError: the model is not here.
    """
    try:
        with quiet():
            return folder(name)
    except ImportError as error:
        raise Unavailable(f"{str(error).strip().partition(chr(10))[0]}; {INSTALL}") from error


def tokenizer_of(name: str) -> object:
    """The model's tokenizer; the weights are neither loaded nor converted.

    Raises:
        Unavailable: transformers or gguf is missing.
        LabError: the model is not here.
    """
    path = source(name)
    try:
        with quiet():
            from transformers import AutoTokenizer

            if path.is_dir():
                return AutoTokenizer.from_pretrained(str(path))
            return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except ImportError as error:
        raise Unavailable(f"{str(error).strip().partition(chr(10))[0]}; {INSTALL}") from error
