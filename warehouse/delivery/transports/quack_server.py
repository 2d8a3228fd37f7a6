"""The coordinator's inbox for machines that deliver over Quack: a separate database in memory.

Clients with the token may run two kinds of statements, matched by strict patterns: send a part of a request, and read the
answer by an id that only they know. The warehouse is not in this process. Bundles are put into inbox/ whole, after a check of
name, size and SHA-256, and only then is the request answered; requests that are lost when the process dies are sent again.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from base64 import b64encode
from collections.abc import Callable

import duckdb

from common.errors import LabError
from common.files import write_whole
from common.limits import MAX_BUNDLE_BYTES, MAX_REPORT_BYTES
from warehouse.delivery.bundles import NAME
from warehouse.delivery.transports.directory import reports_in
from warehouse.delivery.transports.protocol import FILES, HOSTS, REPORT, SHA256, UNIT, has_bundle_of, report_name
from warehouse.delivery.transports.quack import PART_BYTES, reading, with_extensions
from warehouse.paths import Paths

MEMORY = "2GB"  # for all pending requests; more are refused, and sent again later
MAX_PARTS = MAX_BUNDLE_BYTES // PART_BYTES + 1
FORGET_S = 600.0  # after which incomplete requests and answers that nobody fetched are deleted
POLL_S = 0.05
KINDS = "bundle file report has get reports".split()
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
        self._begun: dict[str, float] = {}
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
            if not self.step():
                time.sleep(POLL_S)

    def step(self) -> int:
        """Answer all complete requests and return their number."""
        complete = self.connection.execute(
            "SELECT id, min(kind), min(name), min(parts), count(*) = min(parts) FROM sent GROUP BY id"
        ).fetchall()
        now = time.monotonic()
        answered = 0
        for asked, kind, name, parts, whole in complete:
            if not whole:
                if now - self._begun.setdefault(asked, now) > FORGET_S:
                    self._forget(asked)
                continue
            rows = self.connection.execute("SELECT content FROM sent WHERE id = ? ORDER BY part", [asked]).fetchall()
            if len(rows) == parts:
                self._answer(asked, self._done(kind, name, b"".join(row[0] for row in rows)))
                answered += 1
            self._forget(asked)
        self.connection.execute("DELETE FROM answers WHERE answered_at < ?", [now - FORGET_S])
        return answered

    def close(self) -> None:
        """Stop listening."""
        self.connection.execute("CALL quack_stop(?)", [self.uri])
        self.connection.close()

    def _forget(self, asked: str) -> None:
        self.connection.execute("DELETE FROM sent WHERE id = ?", [asked])
        self._begun.pop(asked, None)

    def _answer(self, asked: str, content: bytes) -> None:
        parts = [content[i : i + PART_BYTES] for i in range(0, len(content), PART_BYTES)] or [b""]
        rows = [[asked, i, len(parts), part, time.monotonic()] for i, part in enumerate(parts)]
        columns = "id, part, parts, content, answered_at"
        self.connection.executemany(f"INSERT INTO answers ({columns}) VALUES (?, ?, ?, ?, ?)", rows)  # noqa: S608

    def _done(self, kind: str, name: str, content: bytes) -> bytes:
        """Carry out a request and return the answer; for a delivery it is empty, or says why it is refused."""
        if kind not in KINDS:
            return f"unknown request kind {kind!r}".encode()
        try:
            answer: bytes = getattr(self, f"_{kind}")(name, content)
            return answer
        except OSError as error:
            return f"the coordinator could not write it: {error.strerror or error}".encode()

    def _bundle(self, name: str, content: bytes) -> bytes:
        named = NAME.fullmatch(name)
        if not named:
            return b"the name is not that of a bundle"
        if len(content) > MAX_BUNDLE_BYTES:
            return f"{len(content)} bytes, more than {MAX_BUNDLE_BYTES}".encode()
        if hashlib.sha256(content).hexdigest() != named[2]:
            return b"the content does not match the SHA-256 in the name"
        write_whole(self.inbox / name, content)
        return b""

    def _file(self, name: str, content: bytes) -> bytes:
        if not SHA256.fullmatch(name) or hashlib.sha256(content).hexdigest() != name:
            return b"the content does not match its SHA-256"
        write_whole(self.root / FILES / name, content)
        return b""

    def _report(self, name: str, content: bytes) -> bytes:
        if not REPORT.fullmatch(name) or len(content) > MAX_REPORT_BYTES:
            return b"not a report"
        write_whole(self.root / HOSTS / name, content)
        return b""

    def _has(self, name: str, content: bytes) -> bytes:
        found = UNIT.fullmatch(name) and any(has_bundle_of(name, f) for f in (self.inbox, self.archive))
        return b"yes" if found else b"no"

    def _get(self, name: str, content: bytes) -> bytes:
        path = self.root / FILES / name
        return b"+" + path.read_bytes() if SHA256.fullmatch(name) and path.is_file() else b"-"

    def _reports(self, name: str, content: bytes) -> bytes:
        found = reports_in(self.root / HOSTS)
        return json.dumps({report_name(host): b64encode(text).decode() for host, text in found.items()}).encode()


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
