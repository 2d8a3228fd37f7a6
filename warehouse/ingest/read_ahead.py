"""Entries of the inbox, read and checked by a thread, ahead of what goes into the warehouse and within bounded memory."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from warehouse.delivery.bundles import BadBundle, Bundle, memory_needed, read_bundle
from warehouse.delivery.signing import refusal
from warehouse.paths import Paths

AHEAD_BYTES = 128 * 2**20  # in memory
Readings = Generator[tuple[Path, Future[Bundle]], None, None]


def read_ahead(paths: Paths, entries: Iterable[Path]) -> Readings:
    """Each entry in order, with its bundle or what `read` raises of it, while those after it are being read."""
    # Two threads would mostly wait for Python's lock, and take a core from DuckDB (measured on two).
    ahead, room = deque[tuple[Path, Future[Bundle], int]](), AHEAD_BYTES
    todo = ((path, memory_needed(path)) for path in entries)
    first = next(todo, None)
    with ThreadPoolExecutor(1) as reader:
        try:
            while first or ahead:
                # One alone may need more than there is: it is read when nothing else is.
                while first and (first[1] <= room or not ahead):
                    path, needed = first
                    ahead.append((path, reader.submit(read, paths, path), needed))
                    room -= needed
                    first = next(todo, None)
                path, reading, needed = ahead.popleft()
                yield path, reading
                room += needed
        finally:
            reader.shutdown(wait=True, cancel_futures=True)


def read(paths: Paths, path: Path) -> Bundle:
    """Read and check an entry, all but whether a plan asks for it.

    Raises:
        BadBundle: with the reason.
        FileNotFoundError: it is gone.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise BadBundle("not a plain file")
    bundle = read_bundle(path)
    if refused := refusal(paths, bundle.manifest["host"], bundle.sha256, bundle.signature):
        raise BadBundle(refused)
    return bundle
