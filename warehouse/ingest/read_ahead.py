"""Read and check the entries of the inbox in a thread, ahead of the inserts and within bounded memory.

The name and the footer of an entry are checked first, then what they say against the plan and the host's key: only then is
a row read.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from common.errors import LabError
from warehouse.delivery.bundles import BadBundle, Bundle
from warehouse.delivery.reading import Head, read_bundle, read_head
from warehouse.delivery.signing import refusal
from warehouse.ingest.suspects import Suspects
from warehouse.paths import Paths

AHEAD_BYTES = 128 * 2**20  # in memory
LOOK_UP = 200  # entries whose plans are looked up together


class Reading(NamedTuple):
    """An entry of the inbox; `bundle` gives its content, or raises what `read` raises."""

    path: Path
    bundle: Future[Bundle]


class _Entry(NamedTuple):
    path: Path
    head: Head | Exception  # what is wrong with it
    check: Check

    @property
    def needed_bytes(self) -> int:
        return 0 if isinstance(self.head, Exception) else self.head.needed_bytes


Readings = Generator[Reading, None, None]
Check = Callable[[Bundle], None]  # raises BadBundle if the trials are not those of the planned unit
Planned = Callable[[Head], Check]  # raises BadBundle if no plan asks for the bundle
LookUp = Callable[[Sequence[Path]], Planned]


@dataclass(frozen=True)
class Inbox:
    """What reading needs beside the entries.

    Args:
        look_up: reads from the warehouse what its plans say of some entries; it is called in the caller's thread.
    """

    paths: Paths
    look_up: LookUp
    suspects: Suspects


def read_ahead(inbox: Inbox, entries: Iterable[Path]) -> Readings:
    """Yield a reading for each entry, in order, while the following entries are being read."""
    # Two threads would mostly wait for Python's lock, and take a core from DuckDB (measured on two cores).
    ahead, room = deque[tuple[Reading, int]](), AHEAD_BYTES
    todo = _entries(inbox, iter(entries))
    first = next(todo, None)
    with ThreadPoolExecutor(1) as reader:
        try:
            while first or ahead:
                # One entry may need more than all the room: it is read when nothing else is.
                while first and ((needed := first.needed_bytes) <= room or not ahead):
                    ahead.append((Reading(first.path, reader.submit(_read, first, inbox.suspects)), needed))
                    room -= needed
                    first = next(todo, None)
                reading, needed = ahead.popleft()
                yield reading
                room += needed
        finally:
            reader.shutdown(wait=True, cancel_futures=True)


def _entries(inbox: Inbox, paths: Iterator[Path]) -> Iterator[_Entry]:
    """Yield each entry with its head, or with what is wrong with it."""
    while some := list(islice(paths, LOOK_UP)):
        planned = inbox.look_up(some)
        for path in some:
            try:
                head = _head(inbox.paths, path)
                yield _Entry(path, head, planned(head))
            except (BadBundle, OSError, LabError, MemoryError) as error:
                yield _Entry(path, error, accept)


def accept(_: Bundle) -> None:
    """Check nothing of a bundle."""


def _head(paths: Paths, path: Path) -> Head:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise BadBundle("not a plain file")
    head = read_head(path)
    if refused := refusal(paths, head.manifest["host"], head.sha256, head.signature):
        raise BadBundle(refused)
    return head


def _read(entry: _Entry, suspects: Suspects) -> Bundle:
    """Read and check an entry, or raise BadBundle with the reason."""
    if isinstance(entry.head, Exception):
        raise entry.head
    with suspects.reading(entry.path):
        bundle = read_bundle(entry.path, entry.head)
    entry.check(bundle)
    return bundle
