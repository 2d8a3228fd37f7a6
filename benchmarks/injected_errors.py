"""An error-injecting layer, as databases are tested with: the n-th call of a process into the system fails.

It lies between the process and the C library (injected_errors.c), so that it reaches DuckDB and Arrow as well as Python:
every open, read, write, sync, rename, removal and look at files below one folder, every connect and every new thread. A process
has it from its start, with `environment`; one that was started so can aim it anew with `aim`, also after a fork.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from common.errors import LabError

SOURCE = Path(__file__).with_suffix(".c")
KINDS = {
    "open": "o",
    "read": "r",
    "write": "w",
    "sync": "s",
    "rename": "n",
    "remove": "u",
    "mkdir": "m",
    "look": "i",  # stat
    "connect": "c",
    "thread": "t",
}
FILES = tuple(name for name in KINDS if name not in ("connect", "thread"))
# What the system gives for each kind of call, where nothing is wrong with a file's content.
ERRORS = {
    "open": (errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM),
    "read": (errno.EIO, errno.ESTALE, errno.ENOMEM),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE),
    "sync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.EACCES, errno.ENOSPC),
    "remove": (errno.EIO, errno.EACCES),
    "mkdir": (errno.EIO, errno.ENOSPC),
    "look": (errno.EIO, errno.ESTALE, errno.EACCES),
    "connect": (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH),
    "thread": (errno.EAGAIN,),
}


@dataclass(frozen=True)
class Injection:
    """What is to fail: call number `at`, from 1, or each `every`-th, of these kinds; 0 for neither, which only counts."""

    under: Path  # files below this folder; connects and threads count wherever they go
    kinds: tuple[str, ...] = FILES
    at: int = 0
    every: int = 0
    number: int = errno.EIO
    log: Path | None = None  # gets a line for each failed call: its number, kind, errno, path

    @property
    def letters(self) -> str:
        return "".join(KINDS[kind] for kind in self.kinds)


def compiler() -> str | None:
    """Return the path of a C compiler, or None."""
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> Path:
    """Compile the layer into `folder` and return its path.

    Raises:
        LabError: there is no C compiler.
    """
    program = compiler()
    if program is None:
        raise LabError("the error-injecting layer needs a C compiler", "apt-get install gcc")
    library = folder / "injected_errors.so"
    command = [program, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)  # noqa: S603 - the compiler and a file of ours
    return library


def environment(library: Path, injection: Injection | None = None) -> dict[str, str]:
    """Return the variables that put the layer under a process and its children; without an injection nothing is counted."""
    found = {"LD_PRELOAD": str(library)}
    if injection:
        found |= {
            "INJECT_UNDER": str(injection.under),
            "INJECT_KINDS": injection.letters,
            "INJECT_AT": str(injection.at),
            "INJECT_EVERY": str(injection.every),
            "INJECT_ERRNO": str(injection.number),
            "INJECT_LOG": str(injection.log or ""),
        }
    return found


def aim(injection: Injection) -> None:
    """Begin to count anew in this process, which was started with the layer."""
    _loaded().inject(
        os.fsencode(injection.under),
        injection.letters.encode(),
        ctypes.c_long(injection.at),
        ctypes.c_long(injection.every),
        injection.number,
        os.fsencode(injection.log or ""),
    )


def rest() -> None:
    """Let all calls of this process through, and count none."""
    _loaded().inject(b"", b"", ctypes.c_long(0), ctypes.c_long(0), 0, b"")


def counted() -> int:
    """Return the number of calls since the last `aim`."""
    return int(_loaded().inject_calls())


def injected() -> int:
    """Return the number of calls that failed since the last `aim`."""
    return int(_loaded().inject_injected())


def _loaded() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.inject_calls.restype = library.inject_injected.restype = ctypes.c_long
    return library
