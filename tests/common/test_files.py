"""File systems that lack something: a sync of folders, locks."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from filelock import FileLock

from common.errors import LabError
from common.files import locked_file, move, sync_folder, write_whole

UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def failing(number: int) -> object:
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", UNSUPPORTED)
def test_a_file_is_written_where_folders_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On 9p, SMB and others a whole run failed with its first record, after all its work."""
    real = os.fsync
    refuse = failing(number)
    monkeypatch.setattr(os, "fsync", lambda fd: refuse() if stat.S_ISDIR(os.fstat(fd).st_mode) else real(fd))  # type: ignore[operator]
    write_whole(tmp_path / "a", b"whole")
    move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"whole"


def test_a_disk_that_fails_is_still_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not written must not be taken for written."""
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "a", b"lost")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [*UNSUPPORTED, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Two writers would damage the warehouse, so nothing goes on without; "the system refuses it" named no folder."""
    monkeypatch.setattr(FileLock, "_acquire", failing(number))
    with pytest.raises(LabError, match="cannot be locked") as refused, locked_file(tmp_path / "lock", 0):
        pass
    assert str(tmp_path) in refused.value.what and "LAB_HOME" in refused.value.mend
    monkeypatch.setattr(FileLock, "_acquire", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"), locked_file(tmp_path / "lock", 0):
        pass


def test_a_lock_is_let_go(tmp_path: Path) -> None:
    """A second holder is refused meanwhile, and not afterwards."""
    for _ in range(2):
        with locked_file(tmp_path / "lock", 0), pytest.raises(TimeoutError), locked_file(tmp_path / "lock", 0):
            pass
