"""A backup: one tar file of bundles and records, from which the whole warehouse is built anew, and proved, elsewhere.

Nothing in a backup is believed: each file's name must be one that a backup has, and its content must be what the list says.
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

from common.environment import host_name, upgrade_command
from common.errors import LabError
from common.files import file_sha256, finish, temporary_for, write_whole
from warehouse.database import record_files
from warehouse.database.connection import locked, open_warehouse, schema_version
from warehouse.delivery.results_store import Store
from warehouse.maintenance.rebuild import Rebuilt, rebuild
from warehouse.paths import Paths

LIST = "list.json"  # the first file in the tar
FORMAT = 1
MARK = "restoring.json"  # in a home while it is being filled
MAX_LIST_BYTES = 2**30
MEMBER = re.compile(
    r"(bundles|spool)/[0-9a-f]{32}(\.[0-9a-f]{64}){1,2}\.parquet|records/index\.json|records/[A-Za-z0-9_-]{1,100}/[a-z0-9_]{1,64}"
    r"(-[0-9a-f])?\.parquet|quarantine/[A-Za-z0-9_-][A-Za-z0-9._-]{0,180}|hosts/capability_report_[a-z0-9-]{1,63}\.json|"
    r"files/[0-9a-f]{64}|data/[A-Za-z0-9_-][A-Za-z0-9._@-]{0,180}"
)


@dataclass(frozen=True)
class BackedUp:
    """What a backup holds."""

    files: int
    bundles: int
    size_bytes: int


@dataclass(frozen=True)
class Entry:
    """One file of a backup."""

    name: str
    sha256: str
    size_bytes: int


def backup(paths: Paths, store: Store, target: Path) -> BackedUp:
    """Write everything that it takes to build this warehouse anew into one tar file, whole or not at all.

    Raises:
        LabError: there is no warehouse, it is held by another process, or `target` is there already.
    """
    if target.exists():
        raise LabError(f"{target} is there already", "name another file, for example with the date in it")
    with locked(paths):
        with open_warehouse(paths) as con:
            record_files.keep(con, paths, schema_version(con))
        found = _found(paths, store)
        entries = []
        for name, path in found.items():
            # What leaves the spool meanwhile is on its way to the inbox, and in the next backup.
            with suppress(FileNotFoundError):
                entries.append(Entry(name, file_sha256(path), path.stat().st_size))
        temporary = temporary_for(target)
        try:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, LIST, json.dumps(_listed(entries)).encode())
                for entry in entries:
                    with found[entry.name].open("rb") as file:
                        info = tarfile.TarInfo(entry.name)
                        info.size = entry.size_bytes
                        tar.addfile(info, file)
            finish(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return BackedUp(len(entries), sum(e.name.startswith("bundles/") for e in entries), target.stat().st_size)


def _found(paths: Paths, store: Store) -> dict[str, Path]:
    """Name in the backup -> file, of plain files whose names a backup may have."""
    folders = {
        "bundles": paths.bundles,
        "spool": paths.spool,
        "records": paths.records,
        "quarantine": paths.quarantine,
        "hosts": paths.reports,
        "files": store.root / "files",
        "data": paths.home / "data",
    }
    found = {}
    for name, folder in folders.items():
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            inside = f"{name}/{path.relative_to(folder).as_posix()}"
            if MEMBER.fullmatch(inside) and path.is_file() and not path.is_symlink():
                found[inside] = path
    for path in sorted(store.inbox.glob("*.parquet")) if store.inbox.is_dir() else []:
        # What is not taken in yet waits in the spool of whoever restores.
        if MEMBER.fullmatch(f"spool/{path.name}") and path.is_file() and not path.is_symlink():
            found.setdefault(f"spool/{path.name}", path)
    return found


def _listed(entries: list[Entry]) -> dict[str, object]:
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(),
        "host": host_name(),
        "files": [vars(e) for e in entries],
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def restore(paths: Paths, store: Store, source: Path) -> tuple[int, Rebuilt]:
    """Fill an empty home from a backup and build its warehouse; (files restored, what the rebuild made).

    One that was interrupted is begun anew by the same command.

    Raises:
        LabError: the home is not empty, or the file is no backup, or not as it was written.
    """
    mark = paths.home / MARK
    there = [p for p in (paths.warehouse, paths.records, paths.bundles, paths.snapshot) if p.exists()]
    if there and not mark.exists():
        raise LabError(
            f"{there[0]} is there already; a backup is restored into an empty folder",
            f"LAB_HOME=/an/empty/folder lab restore {source}",
        )
    with source.open("rb") as raw:
        try:
            with tarfile.open(fileobj=raw, mode="r:") as tar:
                entries = _read_list(tar, source)
                write_whole(mark, f"{source}\n".encode())
                _fill(tar, entries, paths, store)
        except (tarfile.TarError, EOFError) as error:
            raise LabError(f"{source} is no backup, or not whole: {error}", "take another backup") from error
    done = rebuild(paths, store)
    mark.unlink()
    return len(entries), done


def _read_list(tar: tarfile.TarFile, source: Path) -> dict[str, Entry]:
    first = tar.next()
    content = _content(tar, first, MAX_LIST_BYTES) if first is not None and first.name == LIST else b""
    try:
        listed = json.loads(content)
        if listed["format"] != FORMAT:
            raise LabError(
                f"the backup has format {listed['format']!r:.40}, this version knows {FORMAT}", upgrade_command()
            )
        entries = [Entry(str(e["name"]), str(e["sha256"]), int(e["size_bytes"])) for e in listed["files"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LabError(f"{source} is no backup: it does not begin with its list", "lab backup makes one") from error
    for entry in entries:
        if not MEMBER.fullmatch(entry.name):
            raise LabError(f"the backup holds {entry.name[:80]!r}, which no backup has", "take another backup")
    return {e.name: e for e in entries}


def _fill(tar: tarfile.TarFile, entries: dict[str, Entry], paths: Paths, store: Store) -> None:
    """Each member into its place, after a look at its name, its kind and its content."""
    missing = dict(entries)
    while (member := tar.next()) is not None:
        entry = missing.pop(member.name, None)
        if entry is None or member.size != entry.size_bytes:
            raise LabError(f"the backup holds {member.name[:80]!r}, which is not in its list", "take another backup")
        content = _content(tar, member, entry.size_bytes)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise LabError(f"{entry.name} in the backup is not what was written", "take another backup")
        folder, _, name = entry.name.partition("/")
        if folder == "files":
            if store.put_file(content) != name:
                raise LabError(f"{entry.name} in the backup is not what its name says", "take another backup")
        else:
            write_whole(_place(paths, folder) / name, content)
    if missing:
        raise LabError(
            f"{len(missing)} files are missing in the backup, first {next(iter(missing))}", "take another backup"
        )


def _place(paths: Paths, folder: str) -> Path:
    return {
        "bundles": paths.bundles,
        "spool": paths.spool,
        "records": paths.records,
        "quarantine": paths.quarantine,
        "hosts": paths.reports,
        "data": paths.home / "data",
    }[folder]


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    """Content of a plain file; a link, a device or a file with holes is none.

    Raises:
        LabError: it is not plain, or larger than `most`.
    """
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size > most:
        raise LabError(
            f"the backup holds {member.name[:80]!r}, which is not a plain file of its size", "take another backup"
        )
    file = tar.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise LabError(f"{member.name[:80]!r} in the backup is cut off", "take another backup")
    return content
