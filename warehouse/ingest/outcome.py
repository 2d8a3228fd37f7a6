"""The outcome of one collection, and what is done with bundles that cannot be taken in."""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from common.errors import LabError
from common.files import move, write_whole
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths


@dataclass
class Collected:
    """What one call took in."""

    ingested: int = 0
    replicates: int = 0  # second bundles of a unit, kept and never counted
    known: int = 0  # bundles that were here already
    quarantined: list[tuple[str, str]] = field(default_factory=list)  # (name, reason)
    left: list[tuple[str, str]] = field(default_factory=list)  # (name, reason) of what stays for the next call


@contextmanager
def reporting_what_stays(path: Path, taken: Collected) -> Iterator[None]:
    """A file of the inbox that cannot be read or moved now stays for the next call and stops nothing."""
    try:
        yield
    except FileNotFoundError:
        return  # somebody took it away meanwhile
    except (OSError, LabError) as error:
        taken.left.append((path.name, str(error)[:200]))


def quarantine(
    con: duckdb.DuckDBPyConnection, paths: Paths, store: Store, path: Path, reason: str, taken: Collected
) -> None:
    """Move a bad entry out of the way, with its reason beside it and in the warehouse.

    A link becomes a file that names its goal, so that whoever opens the quarantine does not follow it either.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[:150]
    paths.quarantine.mkdir(parents=True, exist_ok=True)
    status = path.lstat()
    target, number = paths.quarantine / name, 0
    while target.exists() or target.is_symlink():
        number += 1
        target = paths.quarantine / f"{name}.{number}"
    write_whole(target.with_name(f"{target.name}.reason.txt"), f"{reason}\n".encode())
    # The row goes first and only once under that name, so that a crash before the move doubles nothing.
    con.execute(
        "INSERT INTO quarantine (name, reason, size_bytes, received_at) SELECT ?, ?, ?, ? "
        "WHERE NOT EXISTS (FROM quarantine WHERE name = ? AND reason = ?)",
        [target.name, reason, status.st_size, datetime.now(UTC), target.name, reason],
    )
    if stat.S_ISREG(status.st_mode):
        move(path, target)
    elif stat.S_ISDIR(status.st_mode):
        _move_folder(path, target, store.root / "refused" / target.name)
    else:
        write_whole(target, str(path.readlink()).encode(errors="backslashreplace") if path.is_symlink() else b"")
        path.unlink()
    taken.quarantined.append((path.name.encode(errors="backslashreplace").decode(), reason))


def _move_folder(path: Path, target: Path, beside: Path) -> None:
    """Rename a folder into quarantine, or beside the inbox when that is another device: nothing in it is read."""
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside.parent.mkdir(exist_ok=True)
        path.replace(beside)
