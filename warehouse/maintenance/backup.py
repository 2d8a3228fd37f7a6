"""Backups: one tar file of bundles and records, from which the whole warehouse is rebuilt and verified elsewhere.

A backup is not trusted: each file's name must be one that a backup may have, and its content must match the list.
Keys are not in it: they are secrets, and belong to machines.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from common.environment import host_name, upgrade_command
from common.errors import LabError
from common.files import file_sha256, whole_file, write_whole
from common.limits import MAX_LIST_BYTES
from warehouse.database import record_files
from warehouse.database.connection import locked, open_warehouse, schema_version
from warehouse.delivery.results_store import Store
from warehouse.maintenance.rebuild import Rebuilt, rebuild
from warehouse.paths import Paths

LIST = "list.json"  # the first file in the tar
FORMAT = 1
MARK = "restoring.json"  # in a home while it is being filled
ANOTHER = "take another backup"
MEMBER = re.compile(
    r"(bundles|spool)/[0-9a-f]{32}(\.[0-9a-f]{64}){1,2}\.parquet|records/index\.json|records/[A-Za-z0-9_-]{1,100}/[a-z0-9_]{1,64}"
    r"(-[0-9a-f])?\.parquet|quarantine/[A-Za-z0-9_-][A-Za-z0-9._-]{0,180}|hosts/capability_report_[a-z0-9-]{1,63}\.json|"
    r"files/[0-9a-f]{64}|data/[A-Za-z0-9_-][A-Za-z0-9._@-]{0,180}"
)


@dataclass(frozen=True)
class BackedUp:
    """Contents of a backup."""

    files: int
    bundles: int
    size_bytes: int


@dataclass(frozen=True)
class Entry:
    """One file of a backup."""

    name: str
    sha256: str
    size_bytes: int


class Restored(NamedTuple):
    """Number of files that were restored, and the rebuilt warehouse."""

    files: int
    rebuilt: Rebuilt


def backup(paths: Paths, store: Store, target: Path) -> BackedUp:
    """Write all that is needed to rebuild this warehouse into one tar file, whole or not at all.

    Raises:
        LabError: there is no warehouse, it is held by another process, or `target` exists.
    """
    if target.exists():
        raise LabError(f"{target} exists already", "name another file, for example with the date in it")
    with locked(paths):
        with open_warehouse(paths) as con:
            record_files.save(con, paths, schema_version(con))
        found = _found(paths, store)
        entries = []
        for name, path in found.items():
            # A file that leaves the spool meanwhile is on its way to the inbox, and in the next backup.
            with suppress(FileNotFoundError):
                entries.append(Entry(name, file_sha256(path), path.stat().st_size))
        with whole_file(target) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            listed = {"format": FORMAT, "made_at": datetime.now(UTC).isoformat(), "host": host_name()}
            content = json.dumps(listed | {"files": [vars(e) for e in entries]}).encode()
            _add(tar, LIST, len(content), io.BytesIO(content))
            for entry in entries:
                with found[entry.name].open("rb") as file:
                    _add(tar, entry.name, entry.size_bytes, file)
    return BackedUp(len(entries), sum(e.name.startswith("bundles/") for e in entries), target.stat().st_size)


def _folders(paths: Paths) -> dict[str, Path]:
    """Return the folders of a backup: name in the backup -> folder of this host. Attachments go through the store."""
    named = {name: getattr(paths, name) for name in ("bundles", "spool", "records", "quarantine")}
    return {**named, "hosts": paths.reports, "data": paths.home / "data"}


def _found(paths: Paths, store: Store) -> dict[str, Path]:
    """Return the files to back up: name in the backup -> path."""
    found: dict[str, Path] = {}
    # Bundles that are not ingested yet wait in the spool of whoever restores.
    for name, folder in (*_folders(paths).items(), ("files", store.root / "files"), ("spool", store.inbox)):
        for path in sorted(folder.rglob("*")):
            inside = f"{name}/{path.relative_to(folder).as_posix()}"
            if MEMBER.fullmatch(inside) and path.is_file() and not path.is_symlink():
                found.setdefault(inside, path)
    return found


def _add(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, content)


def restore(paths: Paths, store: Store, source: Path) -> Restored:
    """Fill an empty home from a backup and rebuild its warehouse. The same command restarts one that was interrupted.

    Raises:
        LabError: the home is not empty, or the file is not a backup, or is damaged.
    """
    mark = paths.home / MARK
    there = [p for p in (paths.warehouse, paths.records, paths.bundles, paths.snapshot) if p.exists()]
    if there and not mark.exists():
        what = f"{there[0]} exists already; a backup is restored into an empty folder"
        raise LabError(what, f"LAB_HOME=/an/empty/folder lab restore {source}")
    with source.open("rb") as raw:
        try:
            with tarfile.open(fileobj=raw, mode="r:") as tar:
                entries = _read_list(tar, source)
                write_whole(mark, f"{source}\n".encode())
                _fill(tar, entries, paths, store)
        except (tarfile.TarError, EOFError) as error:
            raise LabError(f"{source} is not a backup, or not whole: {error}", ANOTHER) from error
    done = rebuild(paths, store)
    mark.unlink()
    return Restored(len(entries), done)


def _read_list(tar: tarfile.TarFile, source: Path) -> dict[str, Entry]:
    first = tar.next()
    content = _content(tar, first, MAX_LIST_BYTES) if first is not None and first.name == LIST else b""
    try:
        listed = json.loads(content)
        if listed["format"] != FORMAT:
            what = f"the backup has format {listed['format']!r:.40}, this version knows {FORMAT}"
            raise LabError(what, upgrade_command())
        entries = [Entry(str(e["name"]), str(e["sha256"]), int(e["size_bytes"])) for e in listed["files"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LabError(f"{source} is not a backup: it does not begin with its list", "lab backup makes one") from error
    for entry in entries:
        if not MEMBER.fullmatch(entry.name):
            raise LabError(f"the backup holds {entry.name[:80]!r}, which no backup has", ANOTHER)
    return {e.name: e for e in entries}


def _fill(tar: tarfile.TarFile, entries: dict[str, Entry], paths: Paths, store: Store) -> None:
    """Write each member to its path, after a check of its name, its type and its content."""
    missing, folders = dict(entries), _folders(paths)
    while (member := tar.next()) is not None:
        entry = missing.pop(member.name, None)
        if entry is None or member.size != entry.size_bytes:
            raise LabError(f"the backup holds {member.name[:80]!r}, which is not in its list", ANOTHER)
        content = _content(tar, member, entry.size_bytes)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise LabError(f"{entry.name} in the backup is damaged: its SHA-256 is not the listed one", ANOTHER)
        folder, _, name = entry.name.partition("/")
        if folder != "files":
            write_whole(folders[folder] / name, content)
        elif store.put_file(content) != name:
            raise LabError(f"{entry.name} in the backup is damaged: its SHA-256 is not the one in its name", ANOTHER)
    if missing:
        raise LabError(f"{len(missing)} files are missing in the backup, first {next(iter(missing))}", ANOTHER)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    """Return the content of a plain file of at most `most` bytes; links, devices and sparse files are refused."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size > most:
        raise LabError(f"the backup holds {member.name[:80]!r}, which is not a plain file of its size", ANOTHER)
    file = tar.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise LabError(f"{member.name[:80]!r} in the backup is cut off", ANOTHER)
    return content
