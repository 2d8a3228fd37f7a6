"""The outcome of one collection, and the quarantine of bundles that are refused."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from duckdb import DuckDBPyConnection as Connection

from common.errors import LabError
from common.files import move, write_whole
from common.system_errors import explained, system_error
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths

MAX_REASON = 300  # characters


class Refused(NamedTuple):
    """An entry of the inbox that was not ingested, and why."""

    name: str
    reason: str


@dataclass
class Collected:
    """Outcome of one collection."""

    ingested: int = 0
    replicates: int = 0  # of these, second bundles of a unit, which are stored and do not count
    known: int = 0  # bundles that were ingested before
    recovered: int = 0  # bundles of the archive whose rows were lost
    quarantined: list[Refused] = field(default_factory=list)
    left: list[Refused] = field(default_factory=list)  # entries that stay in the inbox for the next call


class Collection(NamedTuple):
    """A collection that is under way."""

    con: Connection
    paths: Paths
    store: Store
    taken: Collected


@contextmanager
def noting_what_stays(path: Path, taken: Collected) -> Iterator[None]:
    """Note an entry that cannot be read or moved now, instead of failing: it stays in the inbox for the next call."""
    try:
        yield
    except FileNotFoundError:
        return  # removed meanwhile
    except Exception as error:
        if (reason := why_it_stays(error, path)) is None:
            raise
        taken.left.append(Refused(path.name, reason))


def why_it_stays(error: Exception, path: Path) -> str | None:
    """Return why an entry cannot be taken in now, which says nothing about its content; None for any other error."""
    if isinstance(error, LabError):
        return str(error)[:MAX_REASON]
    refused = system_error(error)
    return str(explained(refused, path.parent))[:MAX_REASON] if refused else None


def quarantine(now: Collection, path: Path, reason: str) -> None:
    """Move a bad entry into quarantine; its reason goes into a file beside it and into the warehouse.

    A link becomes a file that names its target, so that nobody follows it by opening the quarantine.
    """
    status, target = path.lstat(), now.paths.refused(path.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target.with_name(f"{target.name}.reason.txt"), f"{reason}\n".encode())
    # The row goes first, and once for each name, so that a crash before the move doubles nothing.
    now.con.execute(
        "INSERT INTO quarantine (name, reason, size_bytes, received_at) SELECT ?, ?, ?, ? "
        "WHERE NOT EXISTS (FROM quarantine WHERE name = ? AND reason = ?)",
        [target.name, reason, status.st_size, datetime.now(UTC), target.name, reason],
    )
    if stat.S_ISREG(status.st_mode):
        move(path, target)
    elif stat.S_ISDIR(status.st_mode):
        _move_folder(path, target, now.store.root / "refused" / target.name)
    else:
        write_whole(target, str(path.readlink()).encode(errors="backslashreplace") if path.is_symlink() else b"")
        path.unlink()
    now.taken.quarantined.append(Refused(path.name.encode(errors="backslashreplace").decode(), reason))


def _move_folder(path: Path, target: Path, beside: Path) -> None:
    """Rename a folder into quarantine without reading it, or beside the inbox if the quarantine is on another device."""
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside.parent.mkdir(exist_ok=True)
        path.replace(beside)
