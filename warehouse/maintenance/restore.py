"""Restore a backup: fill an empty home from it, and rebuild the warehouse.

A backup is not trusted: each file's name must be one that a backup may have, and its content must match the list.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

from common.environment import upgrade_command
from common.errors import LabError
from common.files import write_whole
from common.limits import MAX_LIST_BYTES
from warehouse.delivery.results_store import Store
from warehouse.maintenance.backup import FORMAT, LIST, MEMBER, Entry, folders_of
from warehouse.maintenance.backup_folder import BackupFolder, LocalFolder, dated, folder_at
from warehouse.maintenance.rebuild import Rebuilt, rebuild
from warehouse.paths import Paths

MARK = "restoring.json"  # in a home while it is being filled
ANOTHER = "take another backup"


class Restored(NamedTuple):
    """The backup's path or URL, the number of files that were restored, and the rebuilt warehouse."""

    source: str
    files: int
    rebuilt: Rebuilt


def _backup_at(place: str, paths: Paths) -> tuple[BackupFolder, str]:
    """Return the folder and the name of a backup: of the file that a path or URL names, else of the newest in that folder.

    Raises:
        LabError: there is none, or the folder holds backups of several hosts.
    """
    if "://" in place and place.endswith(".tar"):
        parent, _, name = place.rpartition("/")
        return folder_at(parent, paths), name
    if "://" not in place and not Path(place).is_dir():
        return LocalFolder(Path(place).parent, paths), Path(place).name
    folder = folder_at(place, paths)
    found = dated(folder.names())
    if not found:
        raise LabError(f"there is no backup in {folder.where}", f"lab backup {place}")
    if len(hosts := {b.host for b in found}) > 1:
        newest = folder.path_of(found[-1].name)
        raise LabError(f"{folder.where} holds backups of {', '.join(sorted(hosts))}", f"lab restore {newest}")
    return folder, found[-1].name


def restore(paths: Paths, store: Store, place: str) -> Restored:
    """Fill an empty home from a backup and rebuild its warehouse. The same command restarts one that was interrupted.

    Args:
        place: path or URL of the backup, or of a folder whose newest is taken.

    Raises:
        LabError: the home is not empty, or the file is not a backup, or is damaged.
    """
    mark = paths.home / MARK
    there = [p for p in (paths.warehouse, paths.records, paths.bundles, paths.snapshot) if p.exists()]
    if there and not mark.exists():
        what = f"{there[0]} exists already; a backup is restored into an empty folder"
        raise LabError(what, f"LAB_HOME=/an/empty/folder lab restore {place}")
    folder, name = _backup_at(place, paths)
    source = folder.path_of(name)
    with folder.reading(name) as raw:
        try:
            with tarfile.open(fileobj=raw, mode="r:") as tar:
                entries = _read_list(tar, source)
                write_whole(mark, f"{source}\n".encode(errors="backslashreplace"))
                _fill(tar, entries, paths, store)
        except (tarfile.TarError, EOFError) as error:
            raise LabError(f"{source} is not a backup, or not whole: {error}", ANOTHER) from error
    done = rebuild(paths, store)
    mark.unlink()
    return Restored(source, len(entries), done)


def _read_list(tar: tarfile.TarFile, source: str) -> dict[str, Entry]:
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
    missing, folders = dict(entries), folders_of(paths)
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
