"""Choose the transport to the results store by the scheme of LAB_RESULTS_URL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname

from common import proxies
from common.environment import host_name
from common.errors import LabError
from common.urls import without_secrets
from warehouse.delivery.transports.directory import Directory
from warehouse.delivery.transports.git import Git
from warehouse.delivery.transports.protocol import Transport
from warehouse.delivery.transports.remote_folder import RemoteFolder
from warehouse.delivery.transports.rsync import Rsync
from warehouse.paths import Paths

SETTING = "LAB_RESULTS_URL"
KNOWN = (
    "use a path or file:///path, sftp://host/path, rsync+ssh://host/path, git+ssh://host/path.git, "
    "s3://bucket/path or quack://host:port"
)
FOLDERS = "use a path or file:///path, sftp://host/path, s3://bucket/path, gs://bucket/path or abfs://container/path"
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[?[0-9A-Fa-f:]{2,45}\]?")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
PATH = re.compile(r"/[A-Za-z0-9._~+/ -]*")
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}  # what fsspec needs for each object store


class FileSystem(NamedTuple):
    """A folder on a file system of fsspec."""

    root: str
    connect: Callable[[], Any]  # returns the file system; called again after a failure
    objects: bool  # True for an object store: files are written whole, and folders do not exist


def configured_transport(paths: Paths) -> Transport:
    """Return the transport that LAB_RESULTS_URL names, else this machine's own results folder.

    Raises:
        LabError: unknown scheme, relative path, invalid host or folder, or a missing package.
    """
    url = os.environ.get(SETTING)
    if not url:
        return Directory(paths.home / "results", own=True)
    proxies.bypass(url)
    parts = _split(url, SETTING, KNOWN)
    if Path(url).is_absolute():
        parts = parts._replace(scheme="")  # on Windows a path may begin with a drive, which looks like a scheme
    make = TRANSPORTS.get(parts.scheme)
    if make is None or any(not c.isprintable() for c in url):
        raise LabError(f"{SETTING} = {without_secrets(url)[:200]!r}: {parts.scheme}:// is not supported", KNOWN)
    return make(url, parts, paths)


def file_system(url: str, setting: str) -> FileSystem:
    """Return the folder that an sftp URL or one of an object store names.

    Args:
        setting: what the URL is given as, for messages.

    Raises:
        LabError: it is invalid, holds a password, is of another kind, or needs a package that is not installed.
    """
    parts = _split(url, setting, FOLDERS)
    make = FILE_SYSTEMS.get(parts.scheme)
    if make is None or any(not c.isprintable() for c in url):
        raise LabError(f"{setting} = {without_secrets(url)[:200]!r}: {parts.scheme}:// is not supported", FOLDERS)
    return make(url, parts, setting)


def _split(url: str, setting: str, known: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise LabError(f"{setting} = {without_secrets(url)[:200]!r} is not a URL", known) from None
    return parts


def _directory(url: str, parts: SplitResult, paths: Paths) -> Transport:
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise LabError(f"{SETTING} = {without_secrets(url)[:200]!r}: file:// is not supported for another host", KNOWN)
    path = Path(url2pathname(parts.path) if parts.scheme else url)
    if not path.is_absolute():
        raise LabError(
            f"{SETTING} is not an absolute path: {without_secrets(url)[:200]!r}", f"export {SETTING}={path.absolute()}"
        )
    # This machine's own results folder is made when missing, even if the URL names it.
    return Directory(path, own=path == paths.home / "results")


def _over_ssh(url: str, parts: SplitResult, setting: str = SETTING) -> str:
    """Return the path; refuse hosts, users and paths that ssh or its program could take for an option or a command."""
    path = unquote(parts.path)
    if parts.password is not None:
        raise LabError(f"{setting} contains a password", "use a key: ssh-keygen, then ssh-copy-id, and leave it out")
    if not HOST.fullmatch(parts.hostname or "") or (parts.username and not USER.fullmatch(parts.username)):
        raise LabError(f"{setting} = {without_secrets(url)[:200]!r} names no host", f"{parts.scheme}://user@host/path")
    if not PATH.fullmatch(path) or path == "/" or ".." in path.split("/") or parts.query or parts.fragment:
        wrong = "the path has to be absolute, of letters, digits and ._~+-"
        raise LabError(f"{setting} = {without_secrets(url)[:200]!r}: {wrong}", f"{parts.scheme}://user@host/path")
    return path.rstrip("/")


def _check_installed(scheme: str, package: str, install: str) -> None:
    if find_spec(package) is None:
        raise LabError(f"{scheme}:// needs the package {package}", f"pip install {install}")


def _sftp(url: str, parts: SplitResult, setting: str) -> FileSystem:
    path, host = _over_ssh(url, parts, setting), parts.hostname or ""
    _check_installed("sftp", "paramiko", "'.[sftp]'")
    from warehouse.delivery.transports.sftp import connect

    return FileSystem(path, lambda: connect(host, parts.port, parts.username), objects=False)


def _objects(url: str, parts: SplitResult, setting: str) -> FileSystem:
    # Credentials come from where the store's own tools look for them (~/.aws, environment).
    _check_installed(parts.scheme, PACKAGES[parts.scheme], PACKAGES[parts.scheme])
    import fsspec

    root = url.partition("://")[2].rstrip("/")
    return FileSystem(root, lambda: fsspec.filesystem(parts.scheme), objects=True)


def _remote(url: str, parts: SplitResult, paths: Paths) -> Transport:
    found = file_system(url, SETTING)
    return RemoteFolder(parts.scheme, without_secrets(url), found.root, found.connect, objects=found.objects)


def _rsync(url: str, parts: SplitResult, paths: Paths) -> Transport:
    path = _over_ssh(url, parts)
    return Rsync(parts.hostname or "", parts.port, parts.username, path, paths.transports, without_secrets(url))


def _git(url: str, parts: SplitResult, paths: Paths) -> Transport:
    if parts.scheme == "git+ssh":
        _over_ssh(url, parts)
    elif parts.scheme == "git+https" and (parts.password is not None or not HOST.fullmatch(parts.hostname or "")):
        # It would be visible in the list of processes.
        raise LabError(f"{SETTING} holds a password, or no host", "leave it out, and use: git config credential.helper")
    elif parts.scheme == "git+file" and (parts.netloc or not parts.path.startswith("/")):
        raise LabError(f"{SETTING} = {without_secrets(url)[:200]!r} is not an absolute path", "git+file:///path.git")
    return Git(url.removeprefix("git+"), host_name(), paths.transports)


def _quack(url: str, parts: SplitResult, paths: Paths) -> Transport:
    from warehouse.delivery.transports.quack import Quack

    if not HOST.fullmatch(parts.hostname or "") or parts.path not in ("", "/") or parts.username or parts.query:
        raise LabError(f"{SETTING} = {without_secrets(url)[:200]!r} is not a host and port", "quack://host:port")
    return Quack(parts.hostname or "", parts.port, encrypted=parts.scheme == "quacks")


FILE_SYSTEMS: dict[str, Callable[[str, SplitResult, str], FileSystem]] = {
    "sftp": _sftp,
    **dict.fromkeys(PACKAGES, _objects),
}
TRANSPORTS: dict[str, Callable[[str, SplitResult, Paths], Transport]] = {
    **dict.fromkeys(("", "file"), _directory),
    **dict.fromkeys(FILE_SYSTEMS, _remote),
    "rsync+ssh": _rsync,
    **dict.fromkeys(("git+ssh", "git+https", "git+file"), _git),
    **dict.fromkeys(("quack", "quacks"), _quack),
}
