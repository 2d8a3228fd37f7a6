"""Bundles that may have ended a collector: what was being read when it died is read alone first.

A process that dies leaves the name of what it was reading in a file. Most of them were killed and their bundles are sound, so
that bundle is read by a process of its own; only if that dies too is the bundle refused.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from common.environment import python
from warehouse.delivery.bundles import BadBundle
from warehouse.delivery.reading import read_bundle
from warehouse.paths import Paths

NAME_BYTES = 200  # of a signed bundle's name there are 170
ALONE_S = 600.0  # for one bundle, whose size is bounded


class Suspects:
    """The name of the bundle that is being read, in a file that is removed at the end."""

    def __init__(self, paths: Paths) -> None:
        self.path = paths.reading
        try:
            self._suspect = self.path.read_bytes().rstrip(b"\0").decode(errors="replace")
        except FileNotFoundError:
            self._suspect = ""
        self._file = self.path.open("wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Note during the block that `path` is being read.

        Raises:
            BadBundle: the last collector died while it read it, and so does a process that reads nothing else.
        """
        self._note(path.name)
        if path.name == self._suspect and (died := _died_alone(path)):
            raise BadBundle(f"the process that read it died, and so did one that read it alone ({died})")
        yield
        self._note("")

    def _note(self, name: str) -> None:
        # One write, without a sync: it has to outlive the process, not the machine. Reading goes on where it fails.
        with suppress(OSError):
            self._file.seek(0)
            self._file.write(name.encode().ljust(NAME_BYTES, b"\0"))


def _died_alone(path: Path) -> str:
    """Read a bundle in another process, and return how that died; "" if it did not."""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and this module
            [*python(), __name__, str(path)], stdin=subprocess.DEVNULL, capture_output=True, timeout=ALONE_S
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {ALONE_S:.0f} s"
    # 1 is an exception of Python's, such as for want of memory, which is no fault of the bundle.
    return f"exit status {done.returncode}" if done.returncode not in (0, 1) else ""


if __name__ == "__main__":
    # What is wrong with the bundle is found again by the process that asked.
    with suppress(BadBundle, OSError, MemoryError):
        read_bundle(Path(sys.argv[1]))
