"""Find what is wrong with a model's files before anything is loaded: placeholders, missing parts, models of another kind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

POINTER = b"version https://git-lfs"  # begins the file that stands for another in a git repository
GGUF = b"GGUF"
# Architectures that keep no keys and values of a prompt, or not in a form in which options can share them (tried: Bloom, Mamba).
WITHOUT_CACHE = ("Bloom", "FalconMamba", "Mamba", "RecurrentGemma", "Rwkv", "xLSTM")
HEADER_BYTES = 8  # before the header of a safetensors file: its length, little-endian


GGUF_CHAT = b"tokenizer.chat_template"  # its key among a GGUF file's metadata
GGUF_HEAD_BYTES = 2**26  # that hold the metadata: the tokens and merges of 256,000 take a fifth of it


AGAIN = "get {} again; it is damaged or was not copied to its end"


class Fault(NamedTuple):
    """What is wrong with a model's files, and what mends it."""

    what: str
    mend: str


def fault_of(path: Path) -> Fault | None:
    """Return what is wrong with a GGUF file or a folder of safetensors, None if nothing can be seen from outside."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    for file in files:
        if found := _fault_of_weights(file):
            return found
    return None if path.is_file() else _fault_of_folder(path)


def _fault_of_weights(file: Path) -> Fault | None:
    with file.open("rb") as opened:
        start = opened.read(len(POINTER))
    if start == POINTER:
        return Fault(f"{file} is a Git LFS pointer, not the weights", f"git -C {file.parent} lfs pull")
    again = AGAIN.format(file.name)
    if file.suffix == ".gguf":
        return None if start.startswith(GGUF) else Fault(f"{file} is no GGUF file", again)
    length = int.from_bytes(start[:HEADER_BYTES], "little")
    if length == 0 or HEADER_BYTES + length > file.stat().st_size:
        return Fault(f"{file} is no safetensors file", again)
    return None


def _fault_of_folder(folder: Path) -> Fault | None:
    try:
        config = _json(folder / "config.json")
        index = folder / "model.safetensors.index.json"
        parts: Iterable[str] = sorted(set(_json(index)["weight_map"].values())) if index.is_file() else ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return Fault(f"the JSON files of {folder} cannot be read: {why}", "get them again")
    if absent := [part for part in parts if not (folder / part).is_file()]:
        return Fault(f"{folder} lacks {len(absent)} of its files, first {absent[0]}", "hf download the model again")
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    if config.get("auto_map") and any("AutoModel" in key for key in config["auto_map"]):
        return Fault(f"{folder} wants to run code of its own, which is never done", "choose a model without auto_map")
    if kinds and not any(kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for kind in kinds):
        return Fault(f"{folder} holds a {kinds[0]}, no causal language model", "choose a model for text generation")
    if kinds and kinds[0].startswith(WITHOUT_CACHE):
        what = f"{folder} holds a {kinds[0]}, which cannot score several options after one prompt"
        return Fault(what, "choose a transformer such as Llama, Qwen, Gemma, Phi or GPT-2")
    return None


def gguf_fault(path: Path) -> Fault | None:
    """Return what is wrong with the parts of a GGUF file, or that transformers cannot convert it; None if nothing is.

    None also where transformers, torch or gguf is missing.

    It takes seconds; what was asked before is known.
    """
    status = path.stat()
    return _parts_fault(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _parts_fault(path: Path, size: int, mtime_ns: int) -> Fault | None:
    try:
        import torch  # noqa: F401 - what follows needs it, and says so at another place
        from gguf import GGUFReader
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
    except ImportError:
        return None
    try:
        GGUFReader(str(path))
    except Exception as error:  # whatever it meets where it expects something else
        return Fault(f"{path} is damaged or cut off: {_why(error)}", AGAIN.format(path.name))
    try:
        load_gguf_checkpoint(str(path), return_tensors=False)
    except Exception as error:
        return Fault(
            f"{path} cannot be converted: {_why(error)}", "choose another model, or run it by Ollama: ollama/NAME"
        )
    return None


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"


def has_chat_template(path: Path) -> bool:
    """Return True if a GGUF file or a folder of safetensors has a chat template, where transformers looks for it."""
    if path.is_file():
        with path.open("rb") as file:
            return GGUF_CHAT in file.read(GGUF_HEAD_BYTES)
    if (path / "chat_template.jinja").is_file():
        return True
    try:
        return bool(_json(path / "tokenizer_config.json").get("chat_template"))
    except (OSError, ValueError):
        return False


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no object")
    return found
