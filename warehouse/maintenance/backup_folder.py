"""Folders that backups are written to: on this machine or a mount, over sftp, or in an object store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from common.environment import host_name
from common.errors import LabError
from common.files import TEMPORARY, finish, reporting_full_disk
from common.urls import without_secrets
from warehouse.delivery.transports.choice import FileSystem, file_system
from warehouse.delivery.transports.protocol import UnreachableError
from warehouse.delivery.transports.remote_folder import write_file
from warehouse.paths import Paths

NAME = re.compile(r"lab-backup-([a-z0-9-]{1,63})-([0-9]{8}-[0-9]{6})\.tar")
MADE = "%Y%m%d-%H%M%S"


class BackupFolder(Protocol):
    """A folder of backups; every method may raise OSError (UnreachableError says what to do)."""

    where: str  # its address for people

    def path_of(self, name: str) -> str:
        """Return the address of a file in the folder, as `lab restore` takes it."""

    def names(self) -> list[str]:
        """Return the names of the files that are named like a backup, in no order."""

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Yield a temporary path whose content becomes the file when the block succeeds, and is removed when it fails."""

    def reading(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield a file, open for reading."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no error."""


class Dated(NamedTuple):
    """A backup in a folder."""

    made_at: datetime
    host: str
    name: str


def new_name() -> str:
    """Return the name for a backup of this host that is made now."""
    return f"lab-backup-{host_name()}-{datetime.now(UTC):{MADE}}.tar"


def dated(names: list[str], host: str | None = None) -> list[Dated]:
    """Return the backups among these file names, the oldest first; only those of `host` if one is given."""
    found = []
    for name in names:
        if (named := NAME.fullmatch(name)) and host in (None, named[1]):
            with suppress(ValueError):
                found.append(Dated(datetime.strptime(named[2], MADE).replace(tzinfo=UTC), named[1], name))
    return sorted(found)


def folder_at(place: str, paths: Paths) -> BackupFolder:
    """Return the folder that a path or URL names: file:, sftp:, or an object store such as s3:.

    Raises:
        LabError: there is no such folder on this machine, or the URL is invalid or of a kind that holds no folders.
    """
    if "://" in place and not place.startswith("file://"):
        if without_secrets(place) != place:
            # The address of scheduled backups is stored and shown.
            raise LabError(
                "the backup's URL contains a password", "leave it out: the tools of such a store have a place for it"
            )
        return RemoteFolder(place.rstrip("/"), file_system(place, "the backup's URL"), paths)
    folder = Path(place.removeprefix("file://"))
    if not folder.is_dir():
        # Not made here: below the path of a lost mount the backups would be on the wrong disk.
        raise LabError(f"there is no folder {folder}", f"mount it; for a new one: mkdir -p {folder}")
    return LocalFolder(folder, paths)


def _temporary(paths: Paths) -> str:
    """Return the one temporary name of this home's backups, so that the next one replaces what a killed one left."""
    return f"{TEMPORARY}{hashlib.sha256(f'{host_name()} {paths.home}'.encode()).hexdigest()[:32]}"


class LocalFolder:
    """A folder on this machine or on a mount."""

    def __init__(self, folder: Path, paths: Paths) -> None:
        self.folder, self.where, self._temporary = folder, str(folder), _temporary(paths)

    def path_of(self, name: str) -> str:
        return str(self.folder / name)

    def names(self) -> list[str]:
        return [p.name for p in self.folder.iterdir() if NAME.fullmatch(p.name)]

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        target, temporary = self.folder / name, self.folder / self._temporary
        if target.exists():
            raise LabError(f"{target} exists already", "name another file, for example with the date in it")
        with reporting_full_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
                finish(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        with (self.folder / name).open("rb") as file:
            yield file

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


class RemoteFolder:
    """A folder on a file system of fsspec. A backup is written in LAB_HOME and then sent, or fetched there and then read."""

    def __init__(self, where: str, file_system: FileSystem, paths: Paths) -> None:
        self.where, self._of, self._staging = where, file_system, paths.backups
        self._temporary = _temporary(paths)

    def path_of(self, name: str) -> str:
        return f"{self.where}/{name}"

    def names(self) -> list[str]:
        with self._connected() as fs:
            try:
                found = [str(e).rpartition("/")[2] for e in fs.ls(self._of.root, detail=False)]
            except FileNotFoundError:
                found = []  # an object store has no empty folders
        return [name for name in found if NAME.fullmatch(name)]

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        if name in self.names():
            raise LabError(f"{self.path_of(name)} exists already", "lab backup again")
        with self._staged() as temporary:
            yield temporary
            with self._connected() as fs:
                target = f"{self._of.root}/{name}"
                if self._of.objects:
                    fs.put_file(str(temporary), target)
                else:
                    with temporary.open("rb") as file:
                        write_file(fs, target, file, f"{self._of.root}/{self._temporary}")

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        with self._staged() as temporary:
            with self._connected() as fs:
                fs.get_file(f"{self._of.root}/{name}", str(temporary))
            with temporary.open("rb") as file:
                yield file

    def remove(self, name: str) -> None:
        with self._connected() as fs, suppress(FileNotFoundError):
            fs.rm_file(f"{self._of.root}/{name}")

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        temporary = self._staging / self._temporary
        with reporting_full_disk(self._staging):
            self._staging.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Yield the file system, with the folder there; any error of its library becomes an UnreachableError."""
        try:
            fs = self._of.connect()
            fs.invalidate_cache()
            if not self._of.objects and not fs.isdir(self._of.root):
                raise UnreachableError(
                    f"{self.where} is no folder, or not mounted",
                    f"for a new one, on that machine: mkdir -p {self._of.root}",
                )
            yield fs
        except LabError:
            raise
        except Exception as error:
            # Each file system raises errors of its own library.
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UnreachableError(f"{self.where}: {reason}", "when it answers again: lab backup") from error
