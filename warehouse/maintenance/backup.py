"""Write backups: one tar file of bundles and records, from which the whole warehouse is rebuilt and verified elsewhere.

Keys are not in it: they are secrets, and belong to machines.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, BinaryIO

from common.environment import host_name
from common.errors import LabError
from common.files import locked_file, plain_file
from warehouse.database import record_files
from warehouse.database.connection import LOCK_WAIT_S, locked, open_warehouse, schema_version
from warehouse.delivery.bundles import NAME
from warehouse.delivery.results_store import Store
from warehouse.maintenance.backup_folder import BackupFolder, LocalFolder, dated, folder_at, new_name
from warehouse.paths import Paths

LIST = "list.json"  # the first file in the tar
FORMAT = 1
MEMBER = re.compile(
    r"(bundles|spool)/[0-9a-f]{32}(\.[0-9a-f]{64}){1,2}\.parquet|records/index\.json|records/[A-Za-z0-9_-]{1,100}/[a-z0-9_]{1,64}"
    r"(-[0-9a-f])?\.parquet|quarantine/[A-Za-z0-9_-][A-Za-z0-9._-]{0,180}|hosts/capability_report_[a-z0-9-]{1,63}\.json|"
    r"files/[0-9a-f]{64}|notes/[A-Za-z0-9_-]{1,100}\.json|data/[A-Za-z0-9_-][A-Za-z0-9._@-]{0,180}"
)


@dataclass
class BackedUp:
    """Contents of a backup."""

    path: str  # the file's path or URL
    files: int
    bundles: int
    size_bytes: int
    damaged: list[str] = field(default_factory=list)  # bundles and records whose content is not what was stored
    removed: list[str] = field(default_factory=list)  # older backups


@dataclass(frozen=True)
class Entry:
    """One file of a backup."""

    name: str
    sha256: str
    size_bytes: int


def backup(paths: Paths, store: Store, target: Path) -> BackedUp:
    """Write all that is needed to rebuild this warehouse into one tar file, whole or not at all.

    Others may compute, deliver and collect meanwhile: what was there when the backup began is in it.

    Raises:
        LabError: there is no warehouse, it is held by another process, or `target` exists.
    """
    return _backup_as(paths, store, LocalFolder(target.parent, paths), target.name)


def backup_into(paths: Paths, store: Store, place: str, keep: int | None = None) -> BackedUp:
    """Write a backup, named by host, date and time, into a folder, and remove this host's oldest ones from it.

    Args:
        place: path or URL of the folder.
        keep: number of this host's backups that stay, the new one included; None: all. All stay if something is damaged,
            since an older one may be whole.

    Raises:
        LabError: see `backup`, and `folder_at` for `place`.
    """
    folder = folder_at(place, paths)
    there = folder.names()
    while (name := new_name()) in there:
        time.sleep(0.1)  # a name has the second in it
    done = _backup_as(paths, store, folder, name)
    if keep is not None and not done.damaged:
        older = [b.name for b in dated(folder.names(), host_name()) if b.name != name]
        for one in older[: max(0, len(older) + 1 - keep)]:
            folder.remove(one)
            done.removed.append(one)
    return done


def backed_up_within(paths: Paths, place: str, age: timedelta) -> bool:
    """Return True if a folder has a backup of this host that is younger than `age`."""
    newest = dated(folder_at(place, paths).names(), host_name())[-1:]
    return any(timedelta(0) <= datetime.now(UTC) - b.made_at < age for b in newest)


def _backup_as(paths: Paths, store: Store, folder: BackupFolder, name: str) -> BackedUp:
    with _only_one(paths), folder.writing(name) as temporary:
        with temporary.open("w+b") as file:
            writer = _write(paths, store, file)
        size_bytes = temporary.stat().st_size
    bundles = sum(e.name.startswith("bundles/") for e in writer.entries)
    return BackedUp(folder.path_of(name), len(writer.entries), bundles, size_bytes, writer.damaged)


@contextmanager
def _only_one(paths: Paths) -> Iterator[None]:
    """Keep other backups of this home away: they have the same temporary file."""
    paths.home.mkdir(parents=True, exist_ok=True)
    try:
        with locked_file(paths.home / "backup.lock", LOCK_WAIT_S):
            yield
    except TimeoutError:
        raise LabError(f"another backup of {paths.home} is being written", "wait for it") from None


def _write(paths: Paths, store: Store, file: IO[bytes]) -> _Writer:
    # Before the archive: a bundle that moves on meanwhile is seen in one folder or the other.
    waiting = _files_in({"spool": paths.spool}) | _files_in({"spool": store.inbox})
    with locked(paths):
        with open_warehouse(paths) as con:
            record_files.save(con, paths, schema_version(con))
        found = _files_in({**folders_of(paths), "files": store.root / "files"})
        there = {name.rpartition("/")[2] for name in found if name.startswith("bundles/")}
        found |= {name: path for name, path in waiting.items() if path.name not in there}
        writer = _Writer(file, list(found), record_files.read_index(paths))
        # Others change the records as soon as they have the lock; all else stays as it is, or moves on.
        for name, path in found.items():
            if name.startswith("records/"):
                writer.add(name, [path])
    for name, path in found.items():
        if name.startswith("spool/"):
            writer.add(name, [path, store.inbox / path.name, paths.bundles / path.name])
        elif not name.startswith("records/") and not writer.add(name, [path]) and name.startswith("bundles/"):
            raise LabError(f"{path} was removed while the backup was written", "lab backup again")
    writer.close()
    return writer


class _Writer:
    """Writes a backup in one pass: its list comes first, and is filled in last, when every digest is known."""

    def __init__(self, file: IO[bytes], names: Sequence[str], records: record_files.Index) -> None:
        self.entries: list[Entry] = []
        self.damaged: list[str] = []
        self._file, self._records = file, records
        self._head = {"format": FORMAT, "made_at": datetime.now(UTC).isoformat(), "host": host_name()}
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by close()
        longest = self._list([Entry(name, "0" * 64, 2**63) for name in names])
        self._room = -(-len(longest) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        self._add(LIST, self._room, io.BytesIO(bytes(self._room)))
        self._list_at = file.tell() - self._room

    def add(self, name: str, places: Sequence[Path]) -> bool:
        """Add the first file that is there, as it is when it is opened; return False if there is none."""
        found = next((f for p in places if (f := _opened(p)) is not None), None)
        if found is None:
            return False
        with found as content:
            reading, size = _Hashing(content), os.fstat(content.fileno()).st_size
            self._add(name, size, reading)
        sha256 = reading.sha256.hexdigest()
        self.entries.append(Entry(name, sha256, size))
        folder, _, inside = name.partition("/")
        if (named := NAME.fullmatch(inside)) and named[2] != sha256:
            self.damaged.append(name)
        if folder == "records" and (known := self._records.files.get(inside)) and known.sha256 != sha256:
            self.damaged.append(name)
        return True

    def close(self) -> None:
        self._tar.close()
        self._file.seek(self._list_at)
        self._file.write(self._list(self.entries).ljust(self._room))

    def _list(self, entries: Sequence[Entry]) -> bytes:
        return json.dumps(self._head | {"files": [vars(e) for e in entries]}).encode()

    def _add(self, name: str, size: int, content: IO[bytes] | _Hashing) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        self._tar.addfile(info, content)


class _Hashing:
    """A file whose SHA-256 is computed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.sha256.update(content)
        return content


def _opened(path: Path) -> BinaryIO | None:
    """Open a plain file for reading; None if it is gone, or something else is there now."""
    try:
        return plain_file(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EISDIR):
            return None
        raise


def folders_of(paths: Paths) -> dict[str, Path]:
    """Return the folders of a backup: name in the backup -> folder of this host. Attachments go through the store."""
    named = {name: getattr(paths, name) for name in ("bundles", "spool", "records", "quarantine", "notes")}
    return {**named, "hosts": paths.reports, "data": paths.home / "data"}


def _files_in(folders: dict[str, Path]) -> dict[str, Path]:
    """Return the files to back up: name in the backup -> path."""
    found: dict[str, Path] = {}
    for name, folder in folders.items():
        for at, _, files in os.walk(folder, onerror=_raise_unless_gone):
            for path in (Path(at, file) for file in sorted(files)):
                inside = f"{name}/{path.relative_to(folder).as_posix()}"
                if MEMBER.fullmatch(inside) and path.is_file() and not path.is_symlink():
                    found[inside] = path
    return found


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
