"""Errors of the system - its disks, memory, limits - as one line with what is wrong and the command that mends it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from common.errors import LabError

# What Python, Arrow and DuckDB say without the system's text.
WORDS = {
    "can't start new thread": errno.EAGAIN,
    "Failed to launch worker thread": errno.EAGAIN,
    "fsync failed": errno.EIO,
    "can't allocate memory": errno.ENOMEM,  # torch, for the processor
    "out of memory": errno.ENOMEM,  # torch and MLX, for a card
}
LIBRARIES = ("duckdb", "_duckdb", "safetensors")
MEMORY = "OutOfMemoryException"  # DuckDB's


class _Text(NamedTuple):
    what: str  # {name} is the file, {folder} its folder, {disk} the disk of that
    mend: str


_FULL = _Text(
    "{disk} is full; nothing that was stored is lost", "free some space, for example with: lab clean --older-than 30d"
)
_REFUSED = _Text("this user may not read or write {name}", "to see whose it is: ls -ld {folder}")
_FILES = _Text("too many files are open", "allow more: ulimit -n 4096")
_TEXTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _Text("{name} would be larger than this disk or a limit allows", "see the limit: ulimit -f"),
    errno.EROFS: _Text("{disk} is read-only", "mount it for writing, or set LAB_HOME to another folder"),
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
    errno.EIO: _Text("{disk} has an input/output error", "see what the system says of it: dmesg | tail"),
    errno.ESTALE: _Text("{name} is on a mount that was lost (stale file handle)", "mount it again: df {folder}"),
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _Text("there is not enough memory", "end other programs, or lift the limit: ulimit -v unlimited"),
    errno.EAGAIN: _Text("no more threads or processes can be started", "allow more: ulimit -u unlimited"),
}


def system_error(error: BaseException | None) -> OSError | None:
    """Return the error of the system behind an exception, with its number; None if there is none.

    DuckDB and Arrow have errors of their own with the system's text in them; a lack of memory or threads has no number.
    """
    while error is not None and not isinstance(error, LabError):
        if found := _own(error):
            return found
        # DuckDB's rollback fails after a failed write, and only its context says why.
        error = error.__cause__ or (error.__context__ if _of_a_library(error) else None)
    return None


def explained(error: OSError, folder: Path | None = None) -> LabError:
    """Return a system's error as one line with what mends it.

    Args:
        folder: where it happened, if the error itself names no file.
    """
    name = str(error.filename) if error.filename is not None else None
    text = _TEXTS.get(error.errno or 0)
    if text is None:
        if name is None:
            return LabError(f"the system refuses it: {error.strerror}")
        return LabError(f"{name}: {error.strerror}", "Check LAB_HOME, or the path given")
    if name is not None:
        folder = Path(name).absolute().parent
    values = {"name": name or folder or "a file", "folder": folder or '"$LAB_HOME"'}
    disk = f"the disk of {folder}" if folder else "a disk"
    return LabError(text.what.format(**values, disk=disk), text.mend.format(**values))


def of_machine(error: BaseException) -> bool:
    """Return True for what a machine lacks, such as memory or room on a disk: it may pass, or be otherwise elsewhere."""
    found = system_error(error)
    return found is not None and found.errno in _TEXTS


def _own(error: BaseException) -> OSError | None:
    number: int | None = None
    if isinstance(error, OSError) and error.errno is not None:
        return error
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == MEMORY:
        number = errno.ENOMEM
    elif isinstance(error, RuntimeError) or _of_a_library(error):
        number = next((n for words, n in WORDS.items() if words in text), None)
        if number is None and _of_a_library(error):
            number = next((n for n in _TEXTS if os.strerror(n) in text), None)
    return None if number is None else OSError(number, os.strerror(number))


def _of_a_library(error: BaseException) -> bool:
    """Return True for errors that may hold the system's text; what DuckDB says of a value may hold any text."""
    if isinstance(error, OSError):
        return error.errno is None
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return type(error).__module__.partition(".")[0] in LIBRARIES and "DataError" not in kinds
