"""The coordinator's inbox for machines that deliver over Quack: a separate database in memory.

Clients with the token may run two kinds of statements, matched by strict patterns: send a part of a request, and read the
answer by an id that only they know. The warehouse is not in this process. Bundles are put into inbox/ whole, after a check of
name, size and SHA-256, and only then is the request answered; requests that are lost when the process dies are sent again.

Memory does not grow with what is sent: parts go to a temporary file as they come, files are given in pieces, and while
MAX_ANSWERS_BYTES wait to be fetched, nobody gets another piece.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import time
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from common.errors import LabError
from common.files import file_sha256, finish, temporary_for, write_whole
from common.limits import MAX_BUNDLE_BYTES, MAX_REPORT_BYTES
from common.text import printable
from warehouse.delivery.bundles import NAME
from warehouse.delivery.transports.directory import reports_in
from warehouse.delivery.transports.protocol import FILES, HOSTS, REPORT, SHA256, UNIT, has_bundle_of, report_name
from warehouse.delivery.transports.quack import ANSWER_S, PART_BYTES, PIECE_BYTES, reading, with_extensions
from warehouse.paths import Paths
from workpools.report import CapabilityReport, validated

MEMORY = "512MB"  # for parts that were not taken yet, and answers; more parts are refused, and sent again later
MAX_PARTS = MAX_BUNDLE_BYTES // PART_BYTES + 1
TAKEN_AT_ONCE, ROUNDS = 16, 16  # parts; so often in one step, however many are sent
MAX_ANSWERS_BYTES = 16 * PIECE_BYTES  # that wait to be fetched
MAX_WAITING = 256  # requests for pieces that wait, and deliveries that are under way
MAX_INCOMING_BYTES = 4 * MAX_BUNDLE_BYTES  # of all deliveries under way, on the disk
MAX_REPORTS_BYTES = 8 * 2**20  # of all hosts: a report is 3 kB
FORGET_S = 600.0  # after the last part of a delivery that stays incomplete
ANSWERED_S = ANSWER_S + 30.0  # after which nobody asks for an answer any more
REMEMBERED = 10_000  # ids of deliveries that were refused before their last part
POLL_S = 0.05
AGAIN_S = 1.0  # after an error of the database
KINDS = "bundle file report has piece got reports".split()
# The only statements that clients may run.
NAMES = rf"'[0-9a-f]+', '({'|'.join(KINDS)})', '[A-Za-z0-9._-]+'"
SENDING = rf"INSERT INTO sent VALUES \({NAMES}, [0-9]+, [0-9]+, from_base64\('[A-Za-z0-9+/=]*'\)\)"  # noqa: S608
READING = r"SELECT part, parts, content FROM answers WHERE id = '[0-9a-f]+' ORDER BY part"
TABLES = f"""
CREATE TABLE sent (
    id VARCHAR NOT NULL CHECK (length(id) = 32), kind VARCHAR NOT NULL CHECK (length(kind) <= 16),
    name VARCHAR NOT NULL CHECK (length(name) <= 200), part INTEGER NOT NULL CHECK (part >= 0),
    parts INTEGER NOT NULL CHECK (parts BETWEEN 1 AND {MAX_PARTS}),
    content BLOB NOT NULL CHECK (octet_length(content) <= {PART_BYTES})
);
CREATE TABLE answers (
    id VARCHAR NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL, content BLOB NOT NULL, answered_at DOUBLE NOT NULL
);
CREATE MACRO lab_allowed(sid, query) AS regexp_full_match(query, $pattern${SENDING}|{READING}$pattern$);
"""


log = logging.getLogger(__name__)


class RefusedRequest(Exception):
    """A request that is answered with the reason why it is not carried out."""


class Part(NamedTuple):
    """A part of a request, as it was sent."""

    asked: str  # id of the request
    kind: str
    name: str
    number: int
    parts: int
    content: bytes


@dataclass
class Incoming:
    """A delivery of several parts that is under way, in a temporary file."""

    kind: str
    name: str
    parts: int
    path: Path
    seen: set[int] = field(default_factory=set)
    size_bytes: int = 0
    last_at: float = 0.0  # monotonic


class InboxServer:
    """Server for results/ of this coordinator; `step` answers the requests since the last step.

    Args:
        host: address to listen on; all but loopback are open to the network, and not encrypted.
        token: the secret that clients must have.

    Raises:
        LabError: the extension is missing, or the port is taken.
    """

    def __init__(self, paths: Paths, host: str, port: int, token: str) -> None:
        self.root, self.archive = paths.home / "results", paths.bundles
        self.inbox = self.root / "inbox"
        self.inbox.mkdir(parents=True, exist_ok=True)
        self._incoming: dict[str, Incoming] = {}
        self._waiting: deque[tuple[Part, float]] = deque()  # requests for pieces, with their time
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._dirty = False  # deleted rows hold memory until a checkpoint
        at = f"[{host}]" if ":" in host else host
        self.uri = f"quack:{at}:{port}"
        bounded = {"memory_limit": MEMORY, "temp_directory": ""}
        self.connection = with_extensions(duckdb.connect(":memory:", config=bounded))
        self.connection.execute(TABLES)
        self.connection.execute("SET GLOBAL quack_authorization_function = 'lab_allowed'")
        _check_free(host, port)
        try:
            served = "CALL quack_serve(?, token := ?, allow_other_hostname := true, disable_ssl := true)"
            self.connection.execute(served, [self.uri, token])
        except duckdb.Error as error:
            raise _taken(host, port, str(error).splitlines()[0]) from None
        # The first connection makes the server load its generator of session ids, which fails once it is locked: every request
        # would get HTTP 500 (seen with 1.5.5).
        with_extensions(duckdb.connect()).execute(
            "FROM quack_query(?, ?, token := ?, disable_ssl := true)", [self.uri, reading("0" * 32), token]
        )
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET GLOBAL lock_configuration = true")

    def serve(self, until: Callable[[], bool]) -> None:
        """Answer requests until `until()` is true."""
        while not until():
            try:
                if not self.step():
                    time.sleep(POLL_S)
            except (duckdb.OutOfMemoryException, duckdb.TransactionException) as error:
                log.warning("the inbox goes on after an error: %s", str(error).splitlines()[0][:200])
                time.sleep(AGAIN_S)

    def step(self) -> int:
        """Take the parts that were sent since the last step, and answer all complete requests; return their number."""
        answered = 0
        for _ in range(ROUNDS):
            if not (rows := self._rows()):
                break
            self.connection.execute("DELETE FROM sent WHERE rowid IN (SELECT unnest(?))", [[row[0] for row in rows]])
            self._dirty = True
            for row in rows:
                answered += self._take(Part(*row[1:]))
        answered += self._give_pieces()
        self._forget()
        return answered

    def _rows(self) -> list[tuple[Any, ...]]:
        columns = "rowid, id, kind, name, part, parts, content"
        return self.connection.execute(f"SELECT {columns} FROM sent LIMIT {TAKEN_AT_ONCE}").fetchall()  # noqa: S608

    def _take(self, part: Part) -> bool:
        """Take a part; return True if it ended its request."""
        if part.asked in self._refused:
            return False
        try:
            if part.kind == "piece":
                if len(self._waiting) >= MAX_WAITING:
                    raise RefusedRequest("!the inbox is busy")
                self._waiting.append((part, time.monotonic()))
                return False
            answer = self._carried_out(part) if part.parts == 1 else self._added(part)
        except RefusedRequest as error:
            self._drop(part.asked)
            self._refused[part.asked] = None
            answer = str(error).encode()
        except OSError as error:
            self._drop(part.asked)
            self._refused[part.asked] = None
            answer = f"the coordinator could not write it: {error.strerror or error}".encode()
        if answer is not None:
            self._answer(part.asked, answer)
        return answer is not None

    def _carried_out(self, part: Part) -> bytes | None:
        """Carry out a request of one part; return its answer, None for none."""
        if part.kind == "got":
            self.connection.execute("DELETE FROM answers WHERE id = ?", [part.name])
            return None
        if part.kind == "has":
            return self._has(part.name)
        if part.kind == "reports":
            return self._reports()
        target = self._target(part.kind, part.name)
        if part.kind == "report":
            self._check_report(part)
        _check_size(len(part.content))
        _check_digest(part.kind, part.name, hashlib.sha256(part.content).hexdigest())
        write_whole(target, part.content)
        return b""

    def _target(self, kind: str, name: str) -> Path:
        """Return where a delivery belongs; refuse one with a name that its kind does not have."""
        if kind == "bundle" and NAME.fullmatch(name):
            return self.inbox / name
        if kind == "file" and SHA256.fullmatch(name):
            return self.root / FILES / name
        if kind == "report" and REPORT.fullmatch(name):
            return self.root / HOSTS / name
        wrong = {"bundle": "the name is not that of a bundle", "file": "the content does not match its SHA-256"}
        raise RefusedRequest(wrong.get(kind, "not a report"))

    def _added(self, part: Part) -> bytes | None:
        """Add a part to its delivery; return the answer once all are there."""
        if part.kind not in ("bundle", "file"):
            raise RefusedRequest(f"a request {part.kind!r} has one part")
        target = self._target(part.kind, part.name)
        found = self._incoming.get(part.asked)
        if found is None:
            if len(self._incoming) >= MAX_WAITING:
                raise RefusedRequest("the inbox is busy")
            target.parent.mkdir(parents=True, exist_ok=True)
            found = self._incoming[part.asked] = Incoming(part.kind, part.name, part.parts, temporary_for(target))
        last = part.number == part.parts - 1
        if (part.kind, part.name, part.parts) != (found.kind, found.name, found.parts) or part.number in found.seen:
            raise RefusedRequest("its parts do not belong together")
        if part.number >= part.parts or (not last and len(part.content) != PART_BYTES):
            raise RefusedRequest("a part has a wrong size or number")
        if sum(each.size_bytes for each in self._incoming.values()) + len(part.content) > MAX_INCOMING_BYTES:
            raise RefusedRequest("the inbox is busy")
        _check_size(found.size_bytes + len(part.content))
        with found.path.open("r+b" if found.seen else "xb") as file:
            file.seek(part.number * PART_BYTES)
            file.write(part.content)
        found.seen.add(part.number)
        found.size_bytes += len(part.content)
        found.last_at = time.monotonic()
        if len(found.seen) < found.parts:
            return None
        _check_digest(found.kind, found.name, file_sha256(found.path))
        finish(found.path, target)
        del self._incoming[part.asked]
        return b""

    def _drop(self, asked: str) -> None:
        if found := self._incoming.pop(asked, None):
            found.path.unlink(missing_ok=True)

    def _check_report(self, part: Part) -> None:
        if len(part.content) > MAX_REPORT_BYTES:
            raise RefusedRequest("not a report")
        try:
            report = validated(CapabilityReport, part.content)
        except LabError as error:
            raise RefusedRequest(f"not a report: {printable(error.what)}") from None
        path = self.root / HOSTS / part.name
        if report_name(report.host) != part.name:
            raise RefusedRequest("not a report: it names another host than its file")
        others = sum(p.stat().st_size for p in path.parent.glob("*.json") if p != path)
        if others + len(part.content) > MAX_REPORTS_BYTES:
            raise RefusedRequest(f"the reports of all hosts would be over {MAX_REPORTS_BYTES} bytes")

    def _give_pieces(self) -> int:
        """Answer requests for pieces, the oldest first, while few answers wait to be fetched; return their number."""
        answered = 0
        while self._waiting:
            part, asked_at = self._waiting[0]
            if time.monotonic() - asked_at > ANSWERED_S:
                self._waiting.popleft()
                continue
            waiting = self.connection.execute("SELECT coalesce(sum(octet_length(content)), 0) FROM answers").fetchone()
            if waiting is None or waiting[0] + PIECE_BYTES > MAX_ANSWERS_BYTES:
                break
            self._waiting.popleft()
            try:
                self._answer(part.asked, self._piece(part.name, part.content))
            except OSError as error:
                self._answer(part.asked, f"!the coordinator could not read it: {error.strerror or error}".encode())
            answered += 1
        return answered

    def _piece(self, name: str, content: bytes) -> bytes:
        """Return "+", the size of a file in 8 bytes, and PIECE_BYTES of it from an offset; "-" if there is no such file."""
        path = self.root / FILES / name
        if not SHA256.fullmatch(name) or not path.is_file():
            return b"-"
        if not content.isdigit() or len(content) > 12:
            return b"!the offset is not a number"
        size = path.stat().st_size
        if size > MAX_BUNDLE_BYTES:
            return f"!{size} bytes, more than {MAX_BUNDLE_BYTES}".encode()
        with path.open("rb") as file:
            file.seek(int(content))
            return b"+" + size.to_bytes(8) + file.read(PIECE_BYTES)

    def _forget(self) -> None:
        """Delete what nobody asks for any more, and give its memory back."""
        now = time.monotonic()
        for asked in [i for i, each in self._incoming.items() if now - each.last_at > FORGET_S]:
            self._drop(asked)
        while len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)
        old = self.connection.execute("DELETE FROM answers WHERE answered_at < ?", [now - ANSWERED_S]).fetchone()
        self._dirty |= bool(old and old[0])
        if self._dirty:
            try:
                self.connection.execute("CHECKPOINT")  # without it the rows' memory is never free again (measured)
                self._dirty = False
            except duckdb.TransactionException:
                return  # a client is sending; the next step tries again

    def close(self) -> None:
        """Stop listening."""
        self.connection.execute("CALL quack_stop(?)", [self.uri])
        self.connection.close()

    def _answer(self, asked: str, content: bytes) -> None:
        parts = [content[i : i + PART_BYTES] for i in range(0, len(content), PART_BYTES)] or [b""]
        rows = [[asked, i, len(parts), part, time.monotonic()] for i, part in enumerate(parts)]
        columns = "id, part, parts, content, answered_at"
        self.connection.executemany(f"INSERT INTO answers ({columns}) VALUES (?, ?, ?, ?, ?)", rows)  # noqa: S608

    def _has(self, name: str) -> bytes:
        found = UNIT.fullmatch(name) and any(has_bundle_of(name, f) for f in (self.inbox, self.archive))
        return b"yes" if found else b"no"

    def _reports(self) -> bytes:
        found = reports_in(self.root / HOSTS)
        return json.dumps({report_name(host): b64encode(text).decode() for host, text in found.items()}).encode()


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_BUNDLE_BYTES:
        raise RefusedRequest(f"{size_bytes} bytes, more than {MAX_BUNDLE_BYTES}")


def _check_digest(kind: str, name: str, digest: str) -> None:
    named = NAME.fullmatch(name) if kind == "bundle" else None
    if named and digest != named[2]:
        raise RefusedRequest("the content does not match the SHA-256 in the name")
    if kind == "file" and digest != name:
        raise RefusedRequest("the content does not match its SHA-256")


def _check_free(host: str, port: int) -> None:
    """Check that no other process listens on the port: Quack would share it (SO_REUSEPORT), and each get part of the requests."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # Closed connections may linger on the port; a listener is noticed all the same.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise _taken(host, port, error.strerror or str(error)) from None


def _taken(host: str, port: int, reason: str) -> LabError:
    return LabError(f"the inbox cannot listen on {host}:{port}: {reason[:200]}", f"lab inbox serve --port {port + 1}")
