"""Reading the user's jsonl: checked line by line with bounded memory, and kept under its SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.environment import lab_home
from common.errors import LabError
from experiments.domains.base import Problem
from experiments.domains.leakage import first_of

FIELDS = ("id", "text", "label", "group")
MAX_CHARACTERS = 4000  # of a text: about 1,300 tokens of the 2,048 that fit in a prompt (three characters a token)
MAX_NAME = 200  # characters of an id or a group
MAX_LABEL = 100  # characters of a label
MAX_LABELS = 50  # each is scored for every problem
MAX_LINES = 200_000  # the protocol needs 1,650
MAX_LINE_BYTES = 2**20
MAX_FILE_BYTES = 2**28  # a run holds its problems in memory
LISTED = 20  # findings that are listed; the rest are counted
SETTLED = re.compile(r"jsonl:([A-Za-z0-9._-]{1,40})@([0-9a-f]{64})")


class _Wrong(Exception):
    """What is wrong with one line, and in which field."""

    def __init__(self, where: str, what: str) -> None:
        self.where, self.what = where, what
        super().__init__(what)


@dataclass(frozen=True)
class Finding:
    """Something wrong in the file; line 0 is the file as a whole."""

    line: int
    field: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.what}" if self.line else self.what


@dataclass
class Report:
    """What a file holds and what is wrong with it."""

    lines: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    longest: int = 0  # characters
    errors: list[Finding] = field(default_factory=list)  # the first LISTED
    n_errors: int = 0
    leaks: list[Finding] = field(default_factory=list)  # the first LISTED
    n_leaks: int = 0

    def wrong(self, line: int, where: str, what: str) -> None:
        self.n_errors += 1
        if len(self.errors) < LISTED:
            self.errors.append(Finding(line, where, what))

    def leak(self, line: int, what: str) -> None:
        self.n_leaks += 1
        if len(self.leaks) < LISTED:
            self.leaks.append(Finding(line, "text", what))


def normal_text(text: str) -> str:
    """The text whatever its case, layout and the marks around it; marks inside stay, since in code they matter."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return re.sub(r"^\W+|\W+$", "", folded) or folded


def check(path: Path, too_long: Callable[[str], str] | None = None) -> Report:
    """Read the whole file once, a line at a time; memory grows by some hundred bytes a line, whatever a line holds.

    Args:
        too_long: says what is wrong with a text that is too long for a model, "" if it is not.

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
            report.wrong(number, wrong.where, wrong.what)
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
        for number, raw in _lines(path):
            if said := first_of(report.labels, _parsed(raw).text):
                report.leak(number, f"holds the label {said!r}")
    return report


def read_rows(path: Path) -> Iterator[Problem]:
    """The problems of a file that was checked."""
    return (_parsed(raw) for _, raw in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of each line that is not empty; a longer line than allowed comes cut, and is refused when parsed."""
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
    """The problem of one line; _Wrong when there is something wrong with it."""
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
    problem_id, label = _name(row, "id", MAX_NAME), _name(row, "label", MAX_LABEL)
    group = _name(row, "group", MAX_NAME) if "group" in row else problem_id
    return Problem(problem_id, _text(row), label, group)


def _name(row: dict[str, Any], name: str, most: int) -> str:
    value = row.get(name)
    if value is None:
        raise _Wrong(name, "missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Wrong(name, f"not a string or a whole number but {type(value).__name__}")
    text = str(value).strip()
    if not text:
        raise _Wrong(name, "empty")
    if len(text) > most:
        raise _Wrong(name, f"{len(text)} characters, more than {most}")
    return _plain(name, text)


def _text(row: dict[str, Any]) -> str:
    value = row.get("text")
    if value is None:
        raise _Wrong("text", "missing")
    if not isinstance(value, str):
        raise _Wrong("text", f"not a string but {type(value).__name__}")
    if not value.strip():
        raise _Wrong("text", "empty")
    if len(value) > MAX_CHARACTERS:
        raise _Wrong("text", f"{len(value):,} characters, more than {MAX_CHARACTERS:,}")
    return _plain("text", value)


def _plain(name: str, text: str) -> str:
    if "\x00" in text or any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise _Wrong(name, "a character that no text has (NUL or half of a pair)")
    return text


def settled_parts(name: str) -> tuple[str, str]:
    """(title, SHA-256) of jsonl:<title>@<SHA-256>.

    Raises:
        LabError: `name` is not of that form.
    """
    found = SETTLED.fullmatch(name)
    if not found:
        raise LabError(f"domain {name[:200]!r} names no file", "domain=jsonl:/absolute/path.jsonl")
    return found[1], found[2]


def _data_folder() -> Path:
    return lab_home() / "data"


def kept_file(name: str) -> Path:
    """Where this host keeps the file of the settled domain `name`.

    Raises:
        LabError: it is not here, or was changed.
    """
    title, sha256 = settled_parts(name)
    path = _data_folder() / f"{sha256}.jsonl"
    if not path.is_file():
        raise LabError(f"the data {title!r} with SHA-256 {sha256} is not on this host", f"copy it here as {path}")
    if _sha256(path, *_state(path)) != sha256:
        raise LabError(f"{path} was changed: its SHA-256 is no longer its name", f"copy {title!r} there again")
    return path


def settle(path: Path) -> str:
    """jsonl:<name>@<SHA-256> for a file of the user's, which is checked and kept under that digest.

    Raises:
        LabError: the path is not absolute, there is no such file, or something is wrong in it (leaks aside).
    """
    if not path.is_absolute():
        raise LabError(f"domain jsonl:{path} is no absolute path", f"domain=jsonl:{path.absolute()}")
    if not path.is_file():
        raise LabError(f"no file {path}", "give the path of a .jsonl file")
    sha256 = _sha256(path, *_state(path))
    title = re.sub(r"[^A-Za-z0-9._-]", "-", path.name.removesuffix(".jsonl"))[:40] or "data"
    if not (_data_folder() / f"{sha256}.jsonl").is_file():
        if path.stat().st_size > MAX_FILE_BYTES:
            raise LabError(f"{path} has more than {MAX_FILE_BYTES:,} bytes", "give a part of it")
        report = check(path)
        if report.n_errors:
            raise LabError(f"{path}: {report.n_errors} errors, first {report.errors[0]}", f"lab data check {path}")
        keep(path.read_bytes(), sha256)
    return f"jsonl:{title}@{sha256}"


def keep(content: bytes, sha256: str) -> Path:
    """Write a data file under its digest, whole or not at all.

    Raises:
        LabError: the content has another digest (it was changed while it was read).
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise LabError("the data changed while it was read", "run the command again")
    target = _data_folder() / f"{sha256}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".part-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def bring(name: str, fetch: Callable[[str], bytes]) -> None:
    """Take the file of the settled domain `name` from where `fetch` finds it by its SHA-256, unless it is here.

    Raises:
        LabError: it is not there either.
    """
    title, sha256 = settled_parts(name)
    if (path := _data_folder() / f"{sha256}.jsonl").is_file():
        return
    try:
        content = fetch(sha256)
    except LabError as error:
        what = f"the data {title!r} with SHA-256 {sha256} is not on this host; {error.what}"
        raise LabError(what, f"copy it here as {path}") from None
    keep(content, sha256)


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Digest of a file, once for each state of it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
