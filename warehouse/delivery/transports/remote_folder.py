"""A results store on any file system that fsspec knows: sftp on a machine of your own, or an object store such as S3."""

from __future__ import annotations

import importlib.util
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.errors import LabError
from common.files import STALE_S, TEMPORARY, finish, temporary_for
from warehouse.delivery.transports.protocol import (
    FILES,
    HOSTS,
    INBOX,
    MAX_REPORT_BYTES,
    NAME,
    REPORT,
    SWEEP_S,
    UnreachableError,
    report_name,
)

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}  # what fsspec needs for each object store


class RemoteFolder:
    """inbox/, files/ and hosts/ below one folder of an fsspec file system.

    Args:
        connect: gives the file system; called again after a failure, since a connection that broke stays broken.
        objects: an object is there whole or not at all, and there are no folders to be missing.
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
                if not path.is_file():
                    failed[path.name] = "not a plain file"
                    continue
                with path.open("rb") as file:
                    self._write(fs, f"{INBOX}/{path.name}", file.read())
        return failed

    def has(self, unit_id: str) -> bool:
        with self._store() as fs:
            return any(name.startswith(f"{unit_id}.") for name in self._names(fs, INBOX))

    def fetch(self, inbox: Path) -> list[str]:
        with self._store() as fs:
            for name in self._names(fs, INBOX):
                if not NAME.fullmatch(name):
                    continue
                target = inbox / name
                temporary = temporary_for(target)
                try:
                    fs.get_file(f"{self.root}/{INBOX}/{name}", str(temporary))
                    finish(temporary, target)
                finally:
                    temporary.unlink(missing_ok=True)
                fs.rm_file(f"{self.root}/{INBOX}/{name}")
            self._sweep(fs)
        return []

    def put_file(self, sha256: str, content: bytes) -> None:
        with self._store() as fs:
            self._write(fs, f"{FILES}/{sha256}", content)

    def get_file(self, sha256: str) -> bytes | None:
        with self._store() as fs:
            try:
                return bytes(fs.cat_file(f"{self.root}/{FILES}/{sha256}"))
            except FileNotFoundError:
                return None

    def put_report(self, host: str, content: bytes) -> None:
        with self._store() as fs:
            self._write(fs, f"{HOSTS}/{report_name(host)}", content)

    def reports(self) -> dict[str, bytes]:
        found = {}
        with self._store() as fs:
            for name in self._names(fs, HOSTS):
                if named := REPORT.fullmatch(name):
                    with fs.open(f"{self.root}/{HOSTS}/{name}", "rb") as file:
                        found[named[1]] = file.read(MAX_REPORT_BYTES + 1)
        return found

    @contextmanager
    def _store(self) -> Iterator[Any]:
        """The file system, after a look whether the store is there.

        Raises:
            UnreachableError: whatever went wrong, in one line.
        """
        try:
            if self._connected is None:
                self._connected = self._connect()
            # Each time: what is mounted there may have gone meanwhile, and its folders would be made anew below it.
            if not self.objects and not self._connected.isdir(f"{self.root}/{INBOX}"):
                raise UnreachableError(
                    f"{self.where} has no folder inbox, so it is no results store, or not mounted",
                    f"for a new one, on that machine: mkdir -p {self.root}/{INBOX}",
                )
            yield self._connected
        except UnreachableError:
            self._connected = None
            raise
        except Exception as error:
            # Each file system raises errors of its own library.
            self._connected = None
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise UnreachableError(f"{self.where}: {said}", "when it is back: lab sync") from error

    def _names(self, fs: Any, folder: str) -> list[str]:
        return sorted(self._entries(fs, folder))

    def _entries(self, fs: Any, folder: str) -> dict[str, Any]:
        try:
            fs.invalidate_cache()
            return {str(e["name"]).rpartition("/")[2]: e for e in fs.ls(f"{self.root}/{folder}", detail=True)}
        except FileNotFoundError:
            return {}

    def _sweep(self, fs: Any) -> None:
        """Remove what deliveries that were cut off a day ago left half written; an object store shows nothing half written."""
        if self.objects or time.monotonic() - self._swept_at < SWEEP_S:
            return
        self._swept_at = time.monotonic()
        for folder in (INBOX, FILES, HOSTS):
            for name, entry in self._entries(fs, folder).items():
                if name.startswith(TEMPORARY) and entry["type"] == "file" and _age_s(entry) > STALE_S:
                    with suppress(FileNotFoundError):
                        fs.rm_file(f"{self.root}/{folder}/{name}")

    def _write(self, fs: Any, name: str, content: bytes) -> None:
        """Whole or not at all: on a file system under a temporary name first, then renamed beside it."""
        target = f"{self.root}/{name}"
        if self.objects:
            fs.pipe_file(target, content)
            return
        folder = target.rpartition("/")[0]
        fs.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
        try:
            with fs.open(temporary, "wb") as file:
                file.write(content)
                _flush(file)
            fs.mv(temporary, target)
        except BaseException:
            with suppress(Exception):
                fs.rm_file(temporary)
            raise


def _age_s(entry: Any) -> float:
    """Seconds since a file was written to, by its own machine's clock, which the bound of a day allows for."""
    changed = entry["mtime"]  # a number, or a time
    return float(time.time() - getattr(changed, "timestamp", lambda: changed)())


def _flush(file: Any) -> None:
    """Have an sftp server write the file to its disk, where it can (OpenSSH does), before the name says that it is whole."""
    client = getattr(file, "sftp", None)
    if client is not None:
        file.flush()
        try:
            client._request(200, "fsync@openssh.com", file.handle)  # SSH_FXP_EXTENDED, OpenSSH's PROTOCOL, 4.6
        except OSError as error:
            if "unsupported" not in str(error).lower():
                raise


def sftp(host: str, port: int | None, user: str | None, path: str, url: str) -> RemoteFolder:
    """A folder on a machine that lets this one in over ssh.

    Raises:
        LabError: paramiko is not installed.
    """
    if importlib.util.find_spec("paramiko") is None:
        raise LabError("sftp:// needs the package paramiko", "pip install '.[sftp]'")
    from warehouse.delivery.transports.sftp import connect

    return RemoteFolder("sftp", url, path, lambda: connect(host, port, user), objects=False)


def object_store(url: str, scheme: str) -> RemoteFolder:
    """A bucket; its credentials come from where its own tools look for them (~/.aws, variables of the environment).

    Raises:
        LabError: the package for it is not installed.
    """
    package = PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        raise LabError(f"{scheme}:// needs the package {package}", f"pip install {package}")

    def connected() -> Any:
        import fsspec

        return fsspec.filesystem(scheme)

    return RemoteFolder(scheme, url, url.partition("://")[2].rstrip("/"), connected, objects=True)
