"""What the system refuses becomes one line with what mends it; what a content says of itself does not."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from common.errors import LabError
from common.files import copy_whole, plain_file, whole_file
from common.system_errors import explained, system_error

NUMBERS = "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EIO ESTALE EMFILE ENFILE ENOMEM EAGAIN".split()


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("file", [None, "/data/x.parquet"])
def test_each_number_has_a_sentence_with_what_mends_it(name: str, file: str | None) -> None:
    """Whether or not the error names a file, the sentence is whole: no place in it is left open."""
    number = getattr(errno, name)
    error = system_error(OSError(number, os.strerror(number), file))
    assert error
    shown = explained(error)
    assert shown.what and shown.mend and not set("{}") & set(str(shown))
    assert "None" not in str(shown)
    assert file is None or name in ("EMFILE", "ENFILE", "ENOMEM", "EAGAIN") or "/data" in str(shown)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (duckdb.IOException('IO Error: Could not write file "/x": No space left on device'), errno.ENOSPC),
        (duckdb.IOException('IO Error: Cannot open file "/x": Too many open files'), errno.EMFILE),
        (duckdb.IOException('IO Error: Could not read from file "/x": Input/output error'), errno.EIO),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate"), errno.ENOMEM),
        (MemoryError(), errno.ENOMEM),
        (pa.ArrowMemoryError("malloc of size 1 failed"), errno.ENOMEM),
        (RuntimeError("can't start new thread"), errno.EAGAIN),
    ],
)
def test_errors_of_libraries_are_those_of_the_system_behind_them(error: Exception, number: int) -> None:
    """DuckDB and Arrow raise errors of their own; the user sees the same sentence."""
    found = system_error(error)
    assert found and found.errno == number


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        RuntimeError("No space left on device"),  # any text may be in an error of ours
        duckdb.ConversionException("Could not convert string 'No space left on device' to INT32"),
        pa.ArrowInvalid("Input/output error"),
        sqlite3.OperationalError("no such table"),
        LabError("the disk is full"),
        OSError("no number"),
    ],
)
def test_defects_and_what_a_value_says_are_no_errors_of_the_system(error: Exception) -> None:
    """A bundle whose text is "No space left on device" is not held to be unreadable, and a defect shows where it is."""
    assert system_error(error) is None


def test_a_failed_rollback_does_not_hide_the_full_disk() -> None:
    """DuckDB's second error says nothing; the first, in its context, says it all."""
    try:
        try:
            raise duckdb.IOException("IO Error: No space left on device")
        except duckdb.Error:
            raise duckdb.TransactionException("no transaction is active")  # noqa: B904 - as a failing rollback does
    except duckdb.Error as error:
        found = system_error(error)
    assert found and found.errno == errno.ENOSPC


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    """The user knows the target, not our temporary name; of what is copied, the source is named."""
    target = tmp_path / "folder" / "x.parquet"

    def write(error: Exception) -> None:
        with whole_file(target) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(OSError, match="Input/output error") as refused:
        write(OSError(errno.EIO, "Input/output error"))
    assert refused.value.filename == str(target)
    with pytest.raises(OSError, match="No space left") as full:
        write(duckdb.IOException('Could not write file "/x": No space left on device'))
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(target))
    with pytest.raises(FileNotFoundError) as missing:
        copy_whole(tmp_path / "source", target)
    assert missing.value.filename == str(tmp_path / "source")
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """Opening a pipe without a writer would hold a collector for ever; a link could lead anywhere."""
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=r"."), plain_file(tmp_path / name):
            pass
    with plain_file(tmp_path / "file") as file:
        assert file.read() == b"x"
