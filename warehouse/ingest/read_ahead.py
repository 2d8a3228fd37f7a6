"""Read and check the entries of the inbox in a thread, ahead of the inserts and within bounded memory."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from warehouse.delivery.bundles import BadBundle, Bundle, memory_needed, read_bundle
from warehouse.delivery.signing import refusal
from warehouse.paths import Paths

AHEAD_BYTES = 128 * 2**20  # in memory


class Reading(NamedTuple):
    """An entry of the inbox; `bundle` gives its content, or raises what `read` raises."""

    path: Path
    bundle: Future[Bundle]


Readings = Generator[Reading, None, None]


def read_ahead(paths: Paths, entries: Iterable[Path]) -> Readings:
    """Yield a reading for each entry, in order, while the following entries are being read."""
    # Two threads would mostly wait for Python's lock, and take a core from DuckDB (measured on two cores).
    ahead, room = deque[tuple[Reading, int]](), AHEAD_BYTES
    todo = ((path, memory_needed(path)) for path in entries)
    first = next(todo, None)
    with ThreadPoolExecutor(1) as reader:
        try:
            while first or ahead:
                # One entry may need more than all the room: it is read when nothing else is.
                while first and (first[1] <= room or not ahead):
                    path, needed = first
                    ahead.append((Reading(path, reader.submit(read, paths, path)), needed))
                    room -= needed
                    first = next(todo, None)
                reading, needed = ahead.popleft()
                yield reading
                room += needed
        finally:
            reader.shutdown(wait=True, cancel_futures=True)


def read(paths: Paths, path: Path) -> Bundle:
    """Read and check an entry, or raise BadBundle with the reason; whether a plan asks for it is not checked."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise BadBundle("not a plain file")
    bundle = read_bundle(path)
    if refused := refusal(paths, bundle.manifest["host"], bundle.sha256, bundle.signature):
        raise BadBundle(refused)
    return bundle
