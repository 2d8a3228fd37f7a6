"""Write, move and lock files: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from common.errors import LabError
from common.system_errors import explained, system_error

TEMPORARY = ".part-"
# Of a file system that does not offer something: 9p, SMB, FUSE and NFS each have their own.
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # on the disk, in this user's quota
OPEN_S, OPEN_AGAIN_S = 2.0, 0.05  # how long another program may have a file open on Windows; a scanner is done sooner
STALE_S = 24 * 3600.0  # the process that wrote a temporary file of this age has died


@contextmanager
def reporting_full_disk(folder: Path) -> Iterator[None]:
    """Turn any error of a full disk in the block into one that says what to do.

    Raises:
        LabError: there is no room on the disk of `folder`, or in this user's quota.
    """
    try:
        yield
    except Exception as error:
        found = system_error(error)
        if found and found.errno in NO_ROOM:
            raise explained(found, folder) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the file system can: some of networks and of guests cannot."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there; NTFS writes a rename to its own log
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def temporary_for(target: Path) -> Path:
    """Return a name beside `target` that no reader takes for a finished file."""
    return target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")


def finish(temporary: Path, target: Path) -> None:
    """Sync `temporary` to the disk and rename it to `target`."""
    with temporary.open("r+b") as file:  # Windows syncs no file that was opened for reading
        os.fsync(file.fileno())
    replace(temporary, target)
    sync_folder(target.parent)


def replace(source: Path, target: Path) -> None:
    """Rename a file, also over another one; on Windows wait for those who have it open, such as a virus scanner."""
    deadline = time.monotonic() + OPEN_S
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > deadline:
                raise
        time.sleep(OPEN_AGAIN_S)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `target` when the block succeeds, and is removed when it fails.

    Other processes see the whole file or none. The folder of `target` is made when missing.

    Raises:
        OSError: the system refuses it, by whatever library; it names `target`.
    """
    temporary = temporary_for(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        finish(temporary, target)
    except Exception as error:
        found = system_error(error)
        # What is copied may be at fault as well, but not for want of room.
        if found is None or (found.filename not in (None, str(temporary)) and found.errno not in NO_ROOM):
            raise
        raise OSError(found.errno, found.strerror, str(target)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(target: Path, content: bytes) -> None:
    """Write a file that other processes see whole or not at all; its folder is made when missing."""
    with whole_file(target) as temporary:
        temporary.write_bytes(content)


def plain_file(path: Path) -> BinaryIO:
    """Open a plain file for reading; links are not followed, and a pipe that took its place is not waited for.

    Raises:
        OSError: it cannot be read now, or is no plain file (EINVAL, ELOOP).
    """
    careful = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)  # neither is on Windows
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | careful))  # noqa: SIM115 - the caller's
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a plain file", str(path))


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes; the file is read again only when its size or time has changed."""
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=512)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    return file_sha256(path)


@contextmanager
def locked_file(path: Path, wait_s: float = -1) -> Iterator[None]:
    """Hold a lock between processes, which the system releases when its holder dies, however it dies.

    Args:
        wait_s: seconds to wait for another holder; 0: not at all, below 0: for ever.

    Raises:
        TimeoutError: another process still holds it.
        LabError: the file system has no such locks.
    """
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(wait_s, blocking=wait_s != 0)
    except OSError as error:
        if error.errno not in (*UNSUPPORTED, errno.ENOLCK):
            raise
        what = f"files in {path.parent} cannot be locked ({error.strerror})"
        raise LabError(what, "set LAB_HOME to a folder on a disk of this machine") from error
    try:
        yield
    finally:
        lock.release()


def move(source: Path, target: Path, *, sync: bool = True) -> None:
    """Move a file, also to another device.

    Args:
        sync: False: a power cut may undo it until the caller has called `sync_folder` for the folder of `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_whole(source, target)
        source.unlink()
    else:
        if sync:
            sync_folder(target.parent)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that other processes see the copy whole or not at all."""
    with whole_file(target) as temporary:
        shutil.copyfile(source, temporary)


def sweep(folder: Path, older_than_s: float = STALE_S) -> None:
    """Remove files that killed processes left half written in `folder`."""
    # rsync stores the part of a file that it has in a folder with such a name.
    with suppress(OSError):  # they do no harm; the next call may remove them
        for path in (*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"{TEMPORARY}*/*")):
            # Its writer may be alive and give it its final name at this moment.
            with suppress(OSError):
                if path.is_file() and time.time() - path.lstat().st_mtime > older_than_s:
                    path.unlink()
