"""Read a user's jsonl file: check it line by line with bounded memory, and save it under its SHA-256."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from common.environment import lab_home
from common.errors import LabError
from common.files import cached_sha256, write_whole
from experiments.domains.base import Problem
from experiments.domains.scripts import first_of, normal_text

FIELDS = ("id", "text", "label", "group")
MAX_CHARACTERS = 4000  # of a text: about 1,300 tokens of the 2,048 that fit in a prompt (three characters a token)
MAX_NAME = 200  # characters of an id or a group
MAX_LABEL = 100  # characters of a label
MAX_LABELS = 50  # each is scored for every problem
MAX_LINES = 200_000  # the protocol needs 1,650
MAX_LINE_BYTES = 2**20
MAX_FILE_BYTES = 2**28  # a run holds its problems in memory
LISTED = 20  # findings that are listed; the rest are counted
RESOLVED = re.compile(r"jsonl:([A-Za-z0-9._-]{1,40})@([0-9a-f]{64})")


class _Wrong(Exception):
    """An error in one line; args are its field and what is wrong."""


@dataclass(frozen=True)
class Finding:
    """An error or a leak in the file; line 0 is the file as a whole."""

    line: int
    field: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.what}" if self.line else self.what


@dataclass
class Report:
    """Contents, errors and leaks of a file."""

    lines: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    longest: int = 0  # characters
    errors: list[Finding] = field(default_factory=list)  # the first LISTED
    n_errors: int = 0
    leaks: list[Finding] = field(default_factory=list)  # the first LISTED
    n_leaks: int = 0

    def wrong(self, line: int, field: str, what: str) -> None:
        self.n_errors += 1
        if len(self.errors) < LISTED:
            self.errors.append(Finding(line, field, what))

    def leak(self, line: int, what: str) -> None:
        self.n_leaks += 1
        if len(self.leaks) < LISTED:
            self.leaks.append(Finding(line, "text", what))


def check(path: Path, too_long: Callable[[str], str] | None = None) -> Report:
    """Check a whole file line by line; memory grows by some hundred bytes a line, however long it is.

    Args:
        too_long: returns the error of a text that is too long for a model, "" if it is not.

    Raises:
        LabError: there is no such file.
    """
    report = Report()
    groups: set[bytes] = set()
    ids: dict[bytes, int] = {}
    forms: dict[bytes, int] = {}
    for number, raw in _lines(path):
        if number > MAX_LINES:
            report.wrong(number, "file", f"more than {MAX_LINES:,} lines")
            break
        try:
            problem = _parsed(raw)
            first = ids.setdefault(_short(problem.problem_id), number)
            if first != number:
                raise _Wrong("id", f"{problem.problem_id[:40]!r} is also in line {first}")
            if too_long and (what := too_long(problem.text)):
                raise _Wrong("text", what)
        except _Wrong as wrong:
            report.wrong(number, *wrong.args)
            continue
        report.lines += 1
        report.labels[problem.label] += 1
        report.longest = max(report.longest, len(problem.text))
        groups.add(_short(problem.group))
        twin = forms.setdefault(_short(normal_text(problem.text)), number)
        if twin != number:
            report.leak(number, f"equals that of line {twin}, so one could stand in memory and one in the test")
        if len(report.labels) > MAX_LABELS:
            report.wrong(number, "label", f"more than {MAX_LABELS} different ones; {problem.label[:40]!r} is the next")
            break
    report.groups = len(groups)
    if not report.lines and not report.n_errors:
        report.wrong(0, "file", "no line in the file")
    if len(report.labels) == 1:
        report.wrong(0, "label", f"only one label, {next(iter(report.labels))!r}; at least two are needed")
    if not report.n_errors:
        # A second reading, since only now all labels are known.
        labels = tuple(report.labels)
        for number, raw in _lines(path):
            if label := first_of(labels, _parsed(raw).text):
                report.leak(number, f"holds the label {label!r}")
    return report


def read_rows(path: Path) -> Iterator[Problem]:
    """Return the problems of a file that was checked."""
    return (_parsed(raw) for _, raw in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not empty; one longer than allowed is cut, and refused when parsed."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                rest = line
                while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE_BYTES + 1)
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put before UTF-8
                if line.strip():
                    yield number, line
    except (FileNotFoundError, IsADirectoryError):
        raise LabError(f"no file {path}", "give the path of a .jsonl file") from None


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, n in Counter(name for name, _ in pairs).items():
        if n > 1:
            raise _Wrong(name[:40], "given twice")
    return dict(pairs)


def _parsed(raw: bytes) -> Problem:
    """Return the problem of one line. Raises _Wrong."""
    if len(raw) > MAX_LINE_BYTES:
        raise _Wrong("line", f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        row = json.loads(raw.decode("utf-8"), object_pairs_hook=_pairs)
    except UnicodeDecodeError as error:
        raise _Wrong("line", f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise _Wrong("line", f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError):
        raise _Wrong("line", "not JSON: a number too long or brackets too deep") from None
    if not isinstance(row, dict):
        raise _Wrong("line", "not an object {...}")
    for name in row:
        if name not in FIELDS:
            raise _Wrong(name[:40], f"unknown field; known are {', '.join(FIELDS)}")
    problem_id, label = _string(row, "id", MAX_NAME), _string(row, "label", MAX_LABEL)
    group = _string(row, "group", MAX_NAME) if "group" in row else problem_id
    return Problem(problem_id, _string(row, "text", MAX_CHARACTERS), label, group)


def _string(row: dict[str, Any], name: str, most: int) -> str:
    value = row.get(name)
    if value is None:
        raise _Wrong(name, "missing")
    if isinstance(value, bool) or not isinstance(value, str if name == "text" else str | int):
        kind = "a string" if name == "text" else "a string or a whole number"
        raise _Wrong(name, f"not {kind} but {type(value).__name__}")
    text = str(value)
    if not text.strip():
        raise _Wrong(name, "empty")
    text = text if name == "text" else text.strip()
    if len(text) > most:
        raise _Wrong(name, f"{len(text):,} characters, more than {most:,}")
    if "\x00" in text or any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise _Wrong(name, "a character that no text has (NUL or half of a pair)")
    return text


class DataName(NamedTuple):
    """The parts of jsonl:<title>@<SHA-256>."""

    title: str
    sha256: str


def data_name(name: str) -> DataName:
    """Return the parts of a resolved domain's name. Raises LabError when it is not of that form."""
    found = RESOLVED.fullmatch(name)
    if not found:
        raise LabError(f"domain {name[:200]!r} names no file", "domain=jsonl:/absolute/path.jsonl")
    return DataName(found[1], found[2])


def _path(sha256: str) -> Path:
    return lab_home() / "data" / f"{sha256}.jsonl"


def data_file(name: str) -> Path:
    """Return this host's file of the resolved domain `name`. Raises LabError: it is not here, or was changed."""
    title, sha256 = data_name(name)
    path = _path(sha256)
    if not path.is_file():
        raise LabError(f"the data {title!r} with SHA-256 {sha256} is not on this host", f"copy it here as {path}")
    if cached_sha256(path) != sha256:
        raise LabError(f"{path} was changed: its SHA-256 is not its name", f"copy {title!r} there again")
    return path


def resolve(path: Path) -> str:
    """Check a user's file, save it under its SHA-256 and return jsonl:<title>@<SHA-256>.

    Raises LabError: the path is not absolute, there is no such file, or it has errors (leaks aside).
    """
    if not path.is_absolute():
        raise LabError(f"domain jsonl:{path} is no absolute path", f"domain=jsonl:{path.absolute()}")
    if not path.is_file():
        raise LabError(f"no file {path}", "give the path of a .jsonl file")
    sha256 = cached_sha256(path)
    title = re.sub(r"[^A-Za-z0-9._-]", "-", path.name.removesuffix(".jsonl"))[:40] or "data"
    if not _path(sha256).is_file():
        if path.stat().st_size > MAX_FILE_BYTES:
            raise LabError(f"{path} has more than {MAX_FILE_BYTES:,} bytes", "give a part of it")
        report = check(path)
        if report.n_errors:
            raise LabError(f"{path}: {report.n_errors} errors, first {report.errors[0]}", f"lab data check {path}")
        save(path.read_bytes(), sha256)
    return f"jsonl:{title}@{sha256}"


def save(content: bytes, sha256: str) -> None:
    """Save a data file under its digest. Raises LabError: it has another (it was changed while it was read)."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise LabError("the data changed while it was read", "run the command again")
    write_whole(_path(sha256), content)


def fetch_file(name: str, fetch: Callable[[str], bytes]) -> None:
    """Fetch the file of the resolved domain `name` unless this host has it. Raises LabError: `fetch` has none."""
    title, sha256 = data_name(name)
    if (path := _path(sha256)).is_file():
        return
    try:
        content = fetch(sha256)
    except LabError as error:
        what = f"the data {title!r} with SHA-256 {sha256} is not on this host; {error.what}"
        raise LabError(what, f"copy it here as {path}") from None
    save(content, sha256)
