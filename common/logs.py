"""Rotate the logs in LAB_HOME/logs, so that they stay a few files of bounded size."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 10 * 2**20  # of a log that is written to; the server writes about 1 MB an hour while a pipeline runs
OLDER_PARTS = 3  # older parts of each log


def rotate(folder: Path) -> list[str]:
    """Rotate every log that grew too large, and return their names.

    Processes hold their log open and append to it, so the log is copied and emptied instead of renamed; only a line that is
    written during the copy is lost.
    """
    cut = []
    for log in sorted(folder.glob("*.log")):
        with suppress(FileNotFoundError):
            if log.is_symlink() or log.stat().st_size <= MAX_BYTES:
                continue
            for i in range(OLDER_PARTS - 1, 0, -1):
                with suppress(FileNotFoundError):
                    log.with_name(f"{log.name}.{i}").replace(log.with_name(f"{log.name}.{i + 1}"))
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            with log.open("r+b") as file:
                file.truncate(0)
            cut.append(log.name)
    return cut
