"""Find the weights behind a model's name, read their size, and provide them as a folder of safetensors for every engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from common.environment import expanded, lab_home
from common.errors import LabError
from common.files import cached_sha256
from experiments.backends.catalog import (
    LANGUAGE_MODELS,
    folder_digest,
    language_model_file,
    model_folder,
    unavailable,
    unknown,
)
from experiments.backends.model_files import Fault, fault_of, gguf_fault, has_chat_template
from experiments.backends.protocols import NO_CHAT, Missing, Unavailable
from experiments.backends.quiet import quiet
from experiments.backends.sizing import Size, folder_size, gguf_size

INSTALL = "pip install torch==2.13.0 && pip install '.[weak]'"
# A GGUF file of 4 bits a parameter unpacks to eight times its size: up to here any machine of a tier has room for it.
SMALL_GGUF_BYTES = 250_000_000


def missing_packages(packages: Sequence[str]) -> Missing | None:
    """Return those of an engine's packages that are not installed, None if all are."""
    absent = [package for package in packages if find_spec(package) is None]
    return Missing(", ".join(absent), INSTALL) if absent else None


def gguf_folder() -> Path:
    """Return the folder of GGUF files that are named without a path."""
    return lab_home() / "models"


def source(name: str) -> Path:
    """Return the GGUF file of a packaged or a gguf/ model, the folder of safetensors of any other.

    mlx/ takes the names of hf/, and packaged models by their short names.

    Raises:
        LabError: the name is unknown, or this machine does not have the model.
    """
    path = _source(name)
    if fault := _fault(name, path):
        raise unavailable(name, fault.what, fault.mend)
    return path


def fault(name: str) -> Fault | None:
    """Return what is wrong with the files of a model that is on this machine, None if nothing can be seen from outside."""
    return _fault(name, _source(name))


def _fault(name: str, path: Path) -> Fault | None:
    # The parts of a file take seconds; one that was converted is whole.
    whole = not name.startswith("gguf/") or _converted(name, path).is_dir()
    return fault_of(path) or (None if whole else gguf_fault(path))


def _source(name: str) -> Path:
    prefix, slash, rest = name.partition("/")
    if not slash or (prefix == "mlx" and rest in LANGUAGE_MODELS):
        return language_model_file(rest or name)
    if prefix != "gguf":
        return model_folder(name, rest)
    path = gguf_folder() / expanded(rest)  # an absolute path stays itself
    if path.suffix != ".gguf":
        raise unknown(name)
    if not path.is_file():
        raise unavailable(name, f"no file {path}", f"put it into {gguf_folder()}, or name it by its absolute path")
    return path


def digest(name: str) -> str:
    """Return the SHA-256 of the weights, and in a folder of all other files that decide the answers."""
    path = source(name)
    return cached_sha256(path) if path.is_file() else folder_digest(path)


def check_chat(name: str) -> None:
    """Check that the model has a chat template; its files are looked at, and none is loaded.

    Raises:
        LabError: it has none, the name is unknown, or this machine does not have the model.
    """
    if not has_chat_template(source(name)):
        mend = (
            f"choose a model that was tuned for chats, for P3 alone with: --set p3.model={next(iter(LANGUAGE_MODELS))}"
        )
        raise LabError(NO_CHAT.format(name), mend)


def size(name: str) -> Size:
    """Return the parameters of the model, read from headers; a small GGUF file is converted, as loading would.

    Raises:
        Unavailable: gguf is missing.
        LabError: the name is unknown, or this machine does not have the model.
    """
    path = source(name)
    # The headers of a converted model are read in milliseconds, a GGUF file's in seconds.
    if path.is_file() and (_converted(name, path).is_dir() or path.stat().st_size <= SMALL_GGUF_BYTES):
        path = folder(name)
    with libraries():
        return gguf_size(path) if path.is_file() else folder_size(path)


@contextmanager
def libraries() -> Iterator[None]:
    """Raise Unavailable, with the command that installs it, where a library is missing."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(f"{str(error).strip().partition(chr(10))[0]}; install it: {INSTALL}") from error


def _converted(name: str, path: Path) -> Path:
    # A packaged model's folder has its own name whichever engine reads it.
    short = path.stem if name.startswith("gguf/") else name.removeprefix("mlx/")
    return gguf_folder() / f"{short}-{cached_sha256(path)[:16]}"


def folder(name: str) -> Path:
    """Return the folder with the model as safetensors; a GGUF file is converted once, also when two processes ask.

    Raises:
        Unavailable: transformers, torch or gguf is missing.
        LabError: the name is unknown, or this machine does not have the model.
    """
    path = source(name)
    if path.is_dir():
        return path
    target = _converted(name, path)
    if not target.is_dir():
        with libraries(), quiet():
            _convert(path, target)
    return target


def _convert(path: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    making = target.with_name(f"{target.name}.making-{os.getpid()}")
    try:
        model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype="float32")
        # The weights are plain numbers by now; with this left in, loading would ask for the GGUF file again.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(making)
        AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name).save_pretrained(making)
        making.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def tokenizer_of(name: str) -> object:
    """Return the model's tokenizer; the weights are neither loaded nor converted.

    Raises:
        Unavailable: transformers or gguf is missing.
        LabError: the name is unknown, or this machine does not have the model.
    """
    path = source(name)
    with libraries(), quiet():
        from transformers import AutoTokenizer

        if path.is_dir():
            return AutoTokenizer.from_pretrained(str(path))
        return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
