"""Read labelled texts row by row: JSON lines, and tables (CSV, TSV, Parquet) whose columns are named."""

from __future__ import annotations

import csv
import json
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from common.environment import in_utf8
from common.errors import LabError
from experiments.domains.base import Problem

FIELDS = ("id", "text", "label", "group")
MAX_CHARACTERS = 4000  # of a text: about 1,300 tokens of the 2,048 that fit in a prompt (three characters a token)
MAX_NAME = 200  # characters of an id or a group
MAX_LABEL = 100  # characters of a label
MAX_LINE_BYTES = 2**20
SEPARATORS = {".csv": ",;|\t", ".tsv": "\t"}  # of a table's columns: the one that its first line has most of
TABLES = (*SEPARATORS, ".parquet")
LONG = "long"
JOINERS = "\u200c\u200d"  # inside a word they spell it, in Persian and in emoji


class Wrong(Exception):
    """An error in one row; args are its field and what is wrong, and LONG where a shorter text would do."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold each field; without one for the id, rows are numbered."""

    text: str
    label: str
    id: str | None = None
    group: str | None = None


class Row(NamedTuple):
    """A row as it was read, and the line (of a table: the row) it stands in."""

    number: int
    content: bytes | dict[str, Any] | Wrong

    def fields(self) -> dict[str, Any]:
        """Return its fields, whose values are not checked. Raises Wrong."""
        if isinstance(self.content, Wrong):
            raise self.content
        return _fields(self.content) if isinstance(self.content, bytes) else self.content

    def problem(self) -> Problem:
        """Return its problem. Raises Wrong."""
        return _problem(self.fields())


def rows_of(path: Path, columns: Columns | None = None) -> Iterator[Row]:
    """Yield the rows of a file that are not empty.

    Raises:
        LabError: no such file, no regular one, or a table without the columns that are named.
    """
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFDIR
    if stat.S_ISDIR(kind):
        raise LabError(f"no file {path}", "give the path of a .jsonl file")
    in_utf8(path, "rename the file")
    if not stat.S_ISREG(kind):
        raise LabError(f"{path} is a pipe or a device, and it is read twice", "save it as a file, and give its path")
    if path.suffix.lower() not in TABLES:
        if columns is not None:
            raise LabError(f"{path} is no table ({', '.join(TABLES)})", f"lab data check {path}")
        return _lines(path)
    return _parquet(path, columns) if path.suffix.lower() == ".parquet" else _separated(path, columns)


def _lines(path: Path) -> Iterator[Row]:
    """Yield each line, whichever line ends it has; one longer than allowed is cut, and refused when parsed."""
    # Bytes that are no UTF-8 come through unchanged, so that the error names their place.
    with path.open(encoding="utf-8", errors="surrogateescape", newline=None) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            rest = line
            while len(rest) > MAX_LINE_BYTES and not rest.endswith("\n"):
                rest = file.readline(MAX_LINE_BYTES + 1)
            if number == 1:
                line = line.removeprefix("\ufeff")  # the mark that some editors put before UTF-8
            if line.strip():
                yield Row(number, line.encode("utf-8", "surrogateescape"))


def _separated(path: Path, columns: Columns | None) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(MAX_LINE_BYTES)
            file.seek(0)
            separator = max(SEPARATORS[path.suffix.lower()], key=first.count)
            reader = csv.DictReader(file, delimiter=separator, strict=True)
            named = _named(path, columns, reader.fieldnames or ())
            for number, row in enumerate(reader, 1):
                yield Row(number, _of_table(named, row, number))
    except UnicodeDecodeError as error:
        raise LabError(f"{path} is not UTF-8: {error.reason} at byte {error.start + 1}", "save it as UTF-8") from None
    except csv.Error as error:
        raise LabError(f"{path} is no table of columns: {error}", "save it as CSV with quoted texts") from None


def _parquet(path: Path, columns: Columns | None) -> Iterator[Row]:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    try:
        with parquet.ParquetFile(path) as file:
            named = _named(path, columns, file.schema_arrow.names)
            wanted = [c for c in (named.text, named.label, named.id, named.group) if c is not None]
            number = 0
            for batch in file.iter_batches(1024, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield Row(number, _of_table(named, row, number))
    except (ArrowException, OSError, ValueError) as error:
        raise LabError(f"{path} is no Parquet file: {str(error).splitlines()[0][:200]}", "save it as Parquet") from None


def _named(path: Path, columns: Columns | None, present: Any) -> Columns:
    known = ", ".join(str(name)[:40] for name in list(present)[:30]) or "none"
    if columns is None:
        raise LabError(f"{path} is a table with the columns {known}", "name two: --text COLUMN --label COLUMN")
    for name in (columns.text, columns.label, columns.id, columns.group):
        if name is not None and name not in present:
            raise LabError(f"{path} has no column {name[:80]!r}; it has {known}", "name columns that it has")
    return columns


def _of_table(columns: Columns, row: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a row's fields; an empty group is none, and a whole number stays one whatever its type."""

    def value(name: str) -> Any:
        found = row.get(name)
        return int(found) if isinstance(found, float) and found.is_integer() else found

    fields = {
        "id": value(columns.id) if columns.id else number,
        "text": value(columns.text),
        "label": value(columns.label),
    }
    group = value(columns.group) if columns.group else None
    return fields if group in (None, "") else {**fields, "group": group}


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, n in Counter(name for name, _ in pairs).items():
        if n > 1:
            raise Wrong(name[:40], "given twice")
    return dict(pairs)


def _fields(raw: bytes) -> dict[str, Any]:
    """Return the fields of one line. Raises Wrong."""
    if len(raw) > MAX_LINE_BYTES:
        raise Wrong("line", f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        row = json.loads(raw.decode("utf-8"), object_pairs_hook=_pairs)
    except UnicodeDecodeError as error:
        raise Wrong("line", f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise Wrong("line", f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError):
        raise Wrong("line", "not JSON: a number too long or brackets too deep") from None
    if not isinstance(row, dict):
        raise Wrong("line", "not an object {...}")
    for name in row:
        if name not in FIELDS:
            raise Wrong(name[:40], f"unknown field; known are {', '.join(FIELDS)}")
    return row


def _problem(row: dict[str, Any]) -> Problem:
    problem_id = _string(row, "id", MAX_NAME)
    label = _visible(_string(row, "label", MAX_LABEL))
    if not label:
        raise Wrong("label", "empty")
    # pandas writes a group that is missing as null.
    group = problem_id if row.get("group") is None else _string(row, "group", MAX_NAME)
    return Problem(problem_id, _string(row, "text", MAX_CHARACTERS), label, group)


def _visible(label: str) -> str:
    """Return a label composed (NFC) and without characters that nobody sees, so that equal labels are equal."""
    plain = "".join(
        c for c in unicodedata.normalize("NFC", label) if c in JOINERS or unicodedata.category(c) not in ("Cf", "Cc")
    )
    return plain.strip(f" {JOINERS}").strip()


def _string(row: dict[str, Any], name: str, most: int) -> str:
    value = row.get(name)
    if value is None:
        raise Wrong(name, "missing")
    if isinstance(value, bool) or not isinstance(value, str if name == "text" else str | int):
        kind = "a string" if name == "text" else "a string or a whole number"
        raise Wrong(name, f"not {kind} but {type(value).__name__}")
    text = str(value)
    if not text.strip():
        raise Wrong(name, "empty")
    text = text if name == "text" else text.strip()
    if len(text) > most:
        raise Wrong(name, f"{len(text):,} characters, more than {most:,}", *([LONG] if name == "text" else []))
    if "\x00" in text or any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise Wrong(name, "a character that no text has (NUL or half of a pair)")
    return text
