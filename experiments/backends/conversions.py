"""Unfinished conversions of weights, which processes leave that were stopped: half a gigabyte each.

No phase reaches this module, so that it is in no unit's identity.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from common.environment import lab_home

MAKING = re.compile(r".+\.making-([0-9]{1,10})")  # as weights.py names a folder: with the pid of its process


def unfinished() -> list[Path]:
    """Return the folders of conversions whose process has ended, by name."""
    return [path for path, pid in _making() if not _may_go_on(path, pid)]


def remove_unfinished() -> None:
    """Remove the folders of conversions whose process has ended."""
    for path in unfinished():
        shutil.rmtree(path, ignore_errors=True)


def remove_of(pid: int) -> None:
    """Remove the folders of a process that converts no more."""
    for path, maker in _making():
        if maker == pid:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def none_left() -> Iterator[None]:
    """Remove what ended processes left before the block, and what this one leaves after it."""
    remove_unfinished()
    try:
        yield
    finally:
        remove_of(os.getpid())


def _making() -> Iterator[tuple[Path, int]]:
    folder = lab_home() / "models"
    with suppress(OSError):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if named := MAKING.fullmatch(path.name):
                yield path, int(named[1])


def _may_go_on(path: Path, pid: int) -> bool:
    """Return True if the process that made the folder runs; one that began after the folder's last change is another."""
    try:
        return psutil.Process(pid).create_time() <= path.stat().st_mtime
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except (psutil.Error, OSError):
        return True
