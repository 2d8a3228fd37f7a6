"""A results store on a file system of fsspec: sftp on a machine of your own, or an object store such as S3."""

from __future__ import annotations

import io
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from common.files import STALE_S, TEMPORARY, plain_file, whole_file
from common.limits import MAX_REPORT_BYTES
from common.urls import without_secrets
from warehouse.delivery.transports.protocol import FILES, HOSTS, INBOX, NAME, REPORT, SWEEP_S, UnreachableError

COPY_BYTES = 2**20  # read and sent at once


class RemoteFolder:
    """inbox/, files/ and hosts/ below one folder of an fsspec file system.

    Args:
        connect: returns the file system; called again after a failure.
        objects: True for an object store: files are written whole, and folders do not exist.
    """

    def __init__(self, kind: str, where: str, root: str, connect: Callable[[], Any], *, objects: bool) -> None:
        self.kind, self.where, self.root, self.objects = kind, where, root, objects
        self._connect = connect
        self._connected: Any = None
        self._swept_at = -SWEEP_S

    def send(self, bundles: Sequence[Path]) -> dict[str, str]:
        failed = {}
        with self._store() as fs:
            for path in bundles:
                try:
                    with plain_file(path) as file:
                        content = file.read()
                except OSError as error:
                    # One that cannot be read here does not stop those behind it.
                    failed[path.name] = error.strerror or str(error)
                    continue
                self._write(fs, f"{INBOX}/{path.name}", content)
        return failed

    def has(self, unit_id: str) -> bool:
        with self._store() as fs:
            return any(name.startswith(f"{unit_id}.") for name in self._entries(fs, INBOX))

    def fetch(self, inbox: Path) -> list[str]:
        notes = []
        with self._store() as fs:
            for name in sorted(self._entries(fs, INBOX)):
                if not NAME.fullmatch(name):
                    continue
                try:
                    with whole_file(inbox / name) as temporary:
                        fs.get_file(f"{self.root}/{INBOX}/{name}", str(temporary))
                except (PermissionError, FileNotFoundError) as error:
                    # One that cannot be read there does not stop those behind it.
                    notes.append(f"{name}: {error.strerror or error}")
                    continue
                fs.rm_file(f"{self.root}/{INBOX}/{name}")
            self._sweep(fs)
        return notes

    def put(self, folder: str, name: str, content: bytes) -> None:
        with self._store() as fs:
            self._write(fs, f"{folder}/{name}", content)

    def get(self, folder: str, name: str) -> bytes | None:
        with self._store() as fs:
            try:
                return bytes(fs.cat_file(f"{self.root}/{folder}/{name}"))
            except FileNotFoundError:
                return None

    def reports(self) -> dict[str, bytes]:
        found = {}
        with self._store() as fs:
            for name in sorted(self._entries(fs, HOSTS)):
                if named := REPORT.fullmatch(name):
                    with fs.open(f"{self.root}/{HOSTS}/{name}", "rb") as file:
                        found[named[1]] = file.read(MAX_REPORT_BYTES + 1)
        return found

    @contextmanager
    def _store(self) -> Iterator[Any]:
        """Yield the file system, after a check that the store exists.

        Raises:
            UnreachableError: for any error, in one line.
        """
        try:
            if self._connected is None:
                self._connected = self._connect()
            # Each time: if a mount there is lost, its folders would be made again below the mount point.
            if not self.objects and not self._connected.isdir(f"{self.root}/{INBOX}"):
                raise UnreachableError(
                    f"{self.where} has no folder inbox, so it is not a results store, or not mounted",
                    f"for a new one, on that machine: mkdir -p {self.root}/{INBOX}",
                )
            yield self._connected
        except UnreachableError:
            self._connected = None
            raise
        except Exception as error:
            # Each file system raises errors of its own library.
            self._connected = None
            reason = " ".join(without_secrets(str(error)).split())[:300] or type(error).__name__
            raise UnreachableError(f"{self.where}: {reason}", "when it answers again: lab sync") from error

    def _entries(self, fs: Any, folder: str) -> dict[str, Any]:
        try:
            fs.invalidate_cache()
            return {str(e["name"]).rpartition("/")[2]: e for e in fs.ls(f"{self.root}/{folder}", detail=True)}
        except FileNotFoundError:
            return {}

    def _sweep(self, fs: Any) -> None:
        """Remove half-written files of deliveries that were interrupted a day ago; an object store has none."""
        if self.objects or time.monotonic() - self._swept_at < SWEEP_S:
            return
        self._swept_at = time.monotonic()
        for folder in (INBOX, FILES, HOSTS):
            for name, entry in self._entries(fs, folder).items():
                if name.startswith(TEMPORARY) and entry["type"] == "file" and _age_s(entry) > STALE_S:
                    with suppress(FileNotFoundError):
                        fs.rm_file(f"{self.root}/{folder}/{name}")

    def _write(self, fs: Any, name: str, content: bytes) -> None:
        """Write a file whole or not at all: on a file system under a temporary name, then renamed."""
        target = f"{self.root}/{name}"
        if self.objects:
            fs.pipe_file(target, content)
            return
        folder = target.rpartition("/")[0]
        fs.makedirs(folder, exist_ok=True)
        write_file(fs, target, io.BytesIO(content), f"{folder}/{TEMPORARY}{uuid.uuid4().hex}")


def write_file(fs: Any, target: str, content: IO[bytes], temporary: str) -> None:
    """Write a file of a file system whole or not at all: under a temporary name in its folder, then renamed."""
    try:
        with fs.open(temporary, "wb") as file:
            shutil.copyfileobj(content, file, COPY_BYTES)
            _flush(file)
        fs.mv(temporary, target)
    except BaseException:
        with suppress(Exception):
            fs.rm_file(temporary)
        raise


def _age_s(entry: Any) -> float:
    """Return the seconds since a file was changed, by its own machine's clock."""
    changed = entry["mtime"]  # a number, or a time
    return float(time.time() - getattr(changed, "timestamp", lambda: changed)())


def _flush(file: Any) -> None:
    """Sync the file to the disk of an sftp server that can do it (OpenSSH), before it is renamed."""
    client = getattr(file, "sftp", None)
    if client is not None:
        file.flush()
        try:
            client._request(200, "fsync@openssh.com", file.handle)  # SSH_FXP_EXTENDED, OpenSSH's PROTOCOL, 4.6
        except OSError as error:
            if "unsupported" not in str(error).lower():
                raise
