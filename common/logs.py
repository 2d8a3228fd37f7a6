"""The one place of a host's logs, LAB_HOME/logs: kept to a few files of bounded size."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 10 * 2**20  # of a log that is written to; the server writes about 1 MB an hour while a pipeline runs
KEPT = 3  # older parts of each log


def rotate(folder: Path) -> list[str]:
    """Cut every log that grew too large, its older parts moved on; the names of those that were cut.

    The processes that write keep their file open, so what they wrote is copied and the file emptied. They append, so
    nothing but a line written during the copy is lost.
    """
    cut = []
    for log in sorted(folder.glob("*.log")):
        with suppress(FileNotFoundError):
            if log.is_symlink() or log.stat().st_size <= MAX_BYTES:
                continue
            for i in range(KEPT - 1, 0, -1):
                with suppress(FileNotFoundError):
                    log.with_name(f"{log.name}.{i}").replace(log.with_name(f"{log.name}.{i + 1}"))
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            with log.open("r+b") as file:
                file.truncate(0)
            cut.append(log.name)
    return cut
