"""A results store of each kind, really there on this machine, with hosts that reach it and ways to take it away."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest
import ssh_server
from fsspec.implementations.memory import MemoryFileSystem
from ports import free_port
from programs import require

from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.remote_folder import RemoteFolder
from warehouse.paths import Paths

TOKEN = "t" * 32
# git-ssh too is made by scene(); what it adds to git has a test of its own.
KINDS = ("directory", "fsspec-file", "fsspec-memory", "sftp", "rsync", "git", "quack")


def nothing() -> None:
    return None


@dataclass
class Scene:
    """A store, and how it goes away and comes back."""

    kind: str
    folder: Path
    environment: dict[str, str]
    away: Callable[[], Any] = nothing
    back: Callable[[], Any] = nothing
    stop: Callable[[], Any] = nothing
    transport: Callable[[], RemoteFolder] | None = None
    coordinator_home: Path | None = None  # whose own results folder is the store
    stores: int = field(default=0)

    def host(self, name: str) -> Store:
        """The store as a host with a LAB_HOME of its own sees it."""
        self.stores += 1
        paths = Paths(self.folder / f"home-{name}-{self.stores}")
        paths.spool.mkdir(parents=True)
        if self.transport:
            return Store(paths.home / "results", paths.spool, paths.bundles, self.transport())
        with pytest.MonkeyPatch.context() as patch:
            for key, value in {**self.environment, "LAB_HOST": name}.items():
                patch.setenv(key, value)
            return Store.configured(paths)

    def coordinator(self) -> Store:
        """The store as the collector's host sees it."""
        if self.coordinator_home is None:
            return self.host("coordinator")
        paths = Paths(self.coordinator_home)
        return Store(paths.home / "results", paths.spool, paths.bundles)


class MemoryThatFails(MemoryFileSystem):
    """fsspec's memory, which can be made unreachable."""

    cachable = False
    fails = False

    def _check(self) -> None:
        if self.fails:
            raise ConnectionError("the bucket does not answer")

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        self._check()
        return super().ls(path, detail=detail, **more)

    def pipe_file(self, path: str, value: bytes, **more: Any) -> Any:
        self._check()
        return super().pipe_file(path, value, **more)


def bundle(store: Store, number: int, content: bytes) -> str:
    """Put something that is called like a bundle into the host's spool."""
    name = f"{number:032x}.{hashlib.sha256(content).hexdigest()}.parquet"
    (store.spool / name).write_bytes(content)
    return name


@contextmanager
def scene(kind: str, folder: Path) -> Iterator[Scene]:
    """A store of this kind; the test is skipped, with the reason, where a program for it is missing."""
    made = {
        "directory": _directory,
        "fsspec-file": _file,
        "fsspec-memory": _memory,
        "sftp": _sftp,
        "rsync": _rsync,
        "git": _git,
        "git-ssh": _git_ssh,
        "quack": _quack,
    }[kind](folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in made.environment.items():
                patch.setenv(key, value)
            yield made
    finally:
        made.stop()


def _renamed(path: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    other = path.with_name(f"{path.name}-away")
    return lambda: path.rename(other), lambda: other.rename(path)


def _directory(folder: Path) -> Scene:
    root = folder / "store"
    (root / "inbox").mkdir(parents=True)
    away, back = _renamed(root)
    return Scene("directory", folder, {"LAB_RESULTS_URL": str(root)}, away, back)


def _file(folder: Path) -> Scene:
    root = folder / "store"
    (root / "inbox").mkdir(parents=True)
    away, back = _renamed(root)

    def transport() -> RemoteFolder:
        return RemoteFolder("file", f"file://{root}", str(root), lambda: fsspec.filesystem("file"), objects=False)

    return Scene("fsspec-file", folder, {}, away, back, transport=transport)


def _memory(folder: Path) -> Scene:
    memory = MemoryThatFails()

    def transport() -> RemoteFolder:
        return RemoteFolder("memory", "memory://lab", f"/{folder.name}", lambda: memory, objects=True)

    def fail(value: bool) -> None:
        memory.fails = value

    return Scene("fsspec-memory", folder, {}, lambda: fail(True), lambda: fail(False), transport=transport)


def _ssh(folder: Path, *programs: str) -> ssh_server.Sshd:
    require(*ssh_server.PROGRAMS, *programs)
    server = ssh_server.make(folder / "ssh")
    server.start()
    return server


def _sftp(folder: Path) -> Scene:
    if find_spec("paramiko") is None:
        pytest.skip("paramiko is not installed")
    return _over_ssh(folder, "sftp", _ssh(folder))


def _rsync(folder: Path) -> Scene:
    return _over_ssh(folder, "rsync", _ssh(folder, "rsync"))


def _over_ssh(folder: Path, kind: str, server: ssh_server.Sshd) -> Scene:
    root = folder / "store"
    (root / "inbox").mkdir(parents=True)
    url = f"{'rsync+ssh' if kind == 'rsync' else kind}://lab-test{root}"
    environment = {"LAB_RESULTS_URL": url, "LAB_SSH_CONFIG": str(server.config)}
    return Scene(kind, folder, environment, server.stop, server.start, server.stop)


def _repository(folder: Path) -> Path:
    require("git")
    root = folder / "store.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(root)], check=True)
    return root


def _git(folder: Path) -> Scene:
    root = _repository(folder)
    away, back = _renamed(root)
    return Scene("git", folder, {"LAB_RESULTS_URL": f"git+file://{root}"}, away, back)


def _git_ssh(folder: Path) -> Scene:
    root = _repository(folder)
    server = _ssh(folder)
    environment = {"LAB_RESULTS_URL": f"git+ssh://lab-test{root}", "LAB_SSH_CONFIG": str(server.config)}
    return Scene("git-ssh", folder, environment, server.stop, server.start, server.stop)


class Serving:
    """An inbox server in a thread."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.start()

    def start(self) -> None:
        from warehouse.delivery.transports.quack_server import InboxServer

        self.server = InboxServer(Paths(self.home), "127.0.0.1", self.port, TOKEN)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.server.serve, args=(self.ended.is_set,))
        self.thread.start()

    def stop(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self.thread.join()
            self.server.close()


def quack_missing() -> str | None:
    names = ("duckdb_extensions", "duckdb_extension_quack", "duckdb_extension_httpfs")
    return next((f"{name} is not installed" for name in names if find_spec(name) is None), None)


def _quack(folder: Path) -> Scene:
    if reason := quack_missing():
        pytest.skip(reason)
    home = folder / "home-coordinator"
    serving = Serving(home, free_port())
    environment = {"LAB_RESULTS_URL": f"quack://127.0.0.1:{serving.port}", "LAB_INBOX_TOKEN": TOKEN}
    return Scene("quack", folder, environment, serving.stop, serving.start, serving.stop, coordinator_home=home)
