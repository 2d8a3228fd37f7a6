"""Read a user's jsonl file: check it line by line with bounded memory, and save it under its SHA-256."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from common.environment import in_utf8, lab_home
from common.errors import LabError
from common.files import cached_sha256, write_whole
from experiments.domains.base import Problem
from experiments.domains.jsonl_rows import LONG, TABLES, Columns, Row, Wrong, rows_of
from experiments.domains.long_texts import LongTexts
from experiments.domains.scripts import composed, first_of, normal_text

MAX_LABELS = 50  # each is scored for every problem
MIN_LINES = 12  # the least n_problems of a phase
MIN_OF_LABEL = 5  # one for the test, one for tuning, three for the memory: a majority of P1's five neighbours
MAX_LINES = 200_000  # the protocol needs 1,880
MAX_FILE_BYTES = 2**28  # a run holds its problems in memory
LISTED = 20  # findings that are listed; the rest are counted
RESOLVED = re.compile(r"jsonl:([A-Za-z0-9._-]{1,40})@([0-9a-f]{64})")


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
    n_long: int = 0  # errors that are texts too long for a prompt
    leaks: list[Finding] = field(default_factory=list)  # the first LISTED
    n_leaks: int = 0
    notes: list[str] = field(default_factory=list)  # what the user should know, and no mistake

    def wrong(self, line: int, field: str, what: str, kind: str = "") -> None:
        self.n_errors += 1
        self.n_long += kind == LONG
        if len(self.errors) < LISTED:
            self.errors.append(Finding(line, field, what))

    def leak(self, line: int, what: str) -> None:
        self.n_leaks += 1
        if len(self.leaks) < LISTED:
            self.leaks.append(Finding(line, "text", what))


def check(
    path: Path,
    too_long: Callable[[str], str] | None = None,
    columns: Columns | None = None,
    long_texts: LongTexts | None = None,
) -> Report:
    """Check a whole file row by row; memory grows by some hundred bytes a row, however long it is.

    Args:
        too_long: returns the error of a text that is too long for a model, "" if it is not.
        columns: of a table.
        long_texts: what happens to texts that are too long; they are refused unless given.

    Raises:
        LabError: there is no such file, or no table with these columns.
    """
    report = Report()

    def rows() -> Iterator[Row]:
        changed = map(long_texts.apply, rows_of(path, columns)) if long_texts else rows_of(path, columns)
        return (row for row in changed if row is not None)

    groups: set[bytes] = set()
    ids: dict[bytes, int] = {}
    forms: dict[bytes, int] = {}
    for row in rows():
        number = row.number
        if number > MAX_LINES:
            report.wrong(number, "file", f"more than {MAX_LINES:,} lines")
            break
        try:
            problem = row.problem()
            first = ids.setdefault(_short(problem.problem_id), number)
            if first != number:
                raise Wrong("id", f"{problem.problem_id[:40]!r} is also in line {first}")
            if too_long and (what := too_long(problem.text)):
                raise Wrong("text", what, LONG)
        except Wrong as wrong:
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
    if not report.n_errors:
        _check_counts(report)
    if not report.n_errors:
        # A second reading, since only now all labels are known.
        labels = tuple(report.labels)
        for row in rows():
            if label := first_of(labels, row.problem().text):
                report.leak(row.number, f"holds the label {label!r}")
    return report


def _check_counts(report: Report) -> None:
    """Add what is wrong with the file as a whole, and labels that look alike."""
    if not report.lines:
        report.wrong(0, "file", "no line in the file")
    elif len(report.labels) == 1:
        report.wrong(0, "label", f"only one label, {next(iter(report.labels))!r}; at least two are needed")
    alike: dict[str, list[str]] = {}
    for label in sorted(report.labels):
        alike.setdefault("".join(composed(label).casefold().split()), []).append(label)
    for names in alike.values():
        if len(names) > 1:
            shown = ", ".join(map(repr, names))
            report.notes.append(f"the labels {shown} differ in case, width or spaces only, and count as different ones")


def check_enough(report: Report) -> None:
    """Add what a run would refuse: too few lines, or too few texts of a label."""
    if report.n_errors:
        return
    if report.lines < MIN_LINES:
        report.wrong(0, "file", f"{report.lines} lines, and {MIN_LINES} are needed at least")
    for label, n in sorted(report.labels.items(), key=lambda one: (one[1], one[0])):
        if n < MIN_OF_LABEL:
            report.wrong(0, "label", too_rare(label, n))


def too_rare(label: str, n: int) -> str:
    """Return that a label has too few texts for P1, and what to do."""
    texts = "1 text" if n == 1 else f"{n} texts"
    needs = f"P1 needs {MIN_OF_LABEL} of each label, and all phases draw equally many"
    return f"label {label[:40]!r} has {texts}; {needs}: merge it with another label, or leave its lines out"


def read_rows(path: Path) -> Iterator[Problem]:
    """Return the problems of a file that was checked."""
    return (row.problem() for row in rows_of(path))


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


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
    in_utf8(path, "rename the file")
    if path.suffix.lower() in TABLES:
        made = f"lab data make {shlex.quote(str(path))} --text COLUMN --label COLUMN --out data.jsonl"
        raise LabError(f"{path} is a table, and a run reads JSON lines", made)
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
