"""Files that are whole or not there: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

TEMPORARY = ".part-"


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_for(target: Path) -> Path:
    """A name beside `target` that no reader takes for a finished file."""
    return target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")


def finish(temporary: Path, target: Path) -> None:
    """fsync `temporary` and put it at `target` in one step."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    sync_folder(target.parent)


def write_whole(target: Path, content: bytes) -> None:
    """Write a file that other processes see whole or not at all; its folder is made when missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(target)
    try:
        temporary.write_bytes(content)
        finish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
