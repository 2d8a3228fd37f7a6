"""The coordinator's inbox for machines that deliver over Quack: a database of its own, in memory, that takes little.

Whoever has the token may send what base64 and a strict pattern let through, and read answers by an id that only the asker
knows. The warehouse is not in this process. Bundles are put into inbox/ whole, after name, size and SHA-256 were checked,
and only then is the sender told; what the process holds when it dies is sent again.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import duckdb

from common.errors import LabError
from common.files import write_whole
from warehouse.delivery.bundles import MAX_FILE_BYTES, NAME
from warehouse.delivery.transports.directory import reports_in
from warehouse.delivery.transports.protocol import FILES, HOSTS, MAX_REPORT_BYTES, REPORT, SHA256, UNIT, report_name
from warehouse.delivery.transports.quack import PART_BYTES, reading, with_extensions
from warehouse.paths import Paths

MEMORY = "2GB"  # of all that is under way; more is refused, and sent again later
MAX_PARTS = MAX_FILE_BYTES // PART_BYTES + 1
KEEP_S = 600.0  # a sender that stopped half way is forgotten after that, and an answer nobody fetched
POLL_S = 0.05
KINDS = "bundle|file|report|has|get|reports"
# The only statements that clients may run.
SENDING = rf"INSERT INTO sent VALUES \('[0-9a-f]+', '({KINDS})', '[A-Za-z0-9._-]+', [0-9]+, [0-9]+, from_base64\('[A-Za-z0-9+/=]*'\)\)"  # noqa: S608
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
    """Serves results/ of this coordinator; `step` does what was asked since the last one.

    Args:
        host: address to listen on; anything but loopback is open to the network, and not encrypted.
        token: what clients have to show.

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
        self._con = with_extensions(duckdb.connect(":memory:", config={"memory_limit": MEMORY, "temp_directory": ""}))
        self._con.execute(TABLES)
        self._con.execute("SET GLOBAL quack_authorization_function = 'lab_allowed'")
        _check_free(host, port)
        try:
            self._con.execute(
                "CALL quack_serve(?, token := ?, allow_other_hostname := true, disable_ssl := true)", [self.uri, token]
            )
        except duckdb.Error as error:
            raise _taken(host, port, str(error).splitlines()[0]) from None
        # The first connection makes the server load what it draws session ids with, which it could not do once it is locked:
        # without this every request is answered by HTTP 500 (seen with 1.5.5).
        with_extensions(duckdb.connect()).execute(
            "FROM quack_query(?, ?, token := ?, disable_ssl := true)", [self.uri, reading("0" * 32), token]
        )
        self._con.execute("SET enable_external_access = false")
        self._con.execute("SET GLOBAL lock_configuration = true")

    def serve(self, until: Callable[[], bool]) -> None:
        """Answer until `until()`."""
        while not until():
            if not self.step():
                time.sleep(POLL_S)

    def step(self) -> int:
        """Answer what was sent completely; how much that was."""
        complete = self._con.execute(
            "SELECT id, min(kind), min(name), min(parts), count(*) = min(parts) FROM sent GROUP BY id"
        ).fetchall()
        now = time.monotonic()
        answered = 0
        for asked, kind, name, parts, whole in complete:
            if not whole:
                if now - self._begun.setdefault(asked, now) > KEEP_S:
                    self._forget(asked)
                continue
            rows = self._con.execute("SELECT content FROM sent WHERE id = ? ORDER BY part", [asked]).fetchall()
            if len(rows) == parts:
                self._answer(asked, self._done(kind, name, b"".join(row[0] for row in rows)))
                answered += 1
            self._forget(asked)
        self._con.execute("DELETE FROM answers WHERE answered_at < ?", [now - KEEP_S])
        return answered

    def close(self) -> None:
        """Stop listening."""
        self._con.execute("CALL quack_stop(?)", [self.uri])
        self._con.close()

    def _forget(self, asked: str) -> None:
        self._con.execute("DELETE FROM sent WHERE id = ?", [asked])
        self._begun.pop(asked, None)

    def _answer(self, asked: str, content: bytes) -> None:
        parts = [content[i : i + PART_BYTES] for i in range(0, len(content), PART_BYTES)] or [b""]
        rows = [[asked, i, len(parts), part, time.monotonic()] for i, part in enumerate(parts)]
        self._con.executemany(
            "INSERT INTO answers (id, part, parts, content, answered_at) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _done(self, kind: str, name: str, content: bytes) -> bytes:
        """The answer: for what was brought nothing, or why it is refused."""
        try:
            return {
                "bundle": self._bundle,
                "file": self._file,
                "report": self._report,
                "has": self._has,
                "get": self._get,
                "reports": self._reports,
            }[kind](name, content)
        except OSError as error:
            return f"the coordinator could not write it: {error.strerror or error}".encode()
        except KeyError:
            return b"it asks for what nobody serves"

    def _bundle(self, name: str, content: bytes) -> bytes:
        named = NAME.fullmatch(name)
        if not named:
            return b"the name is not that of a bundle"
        if len(content) > MAX_FILE_BYTES:
            return f"{len(content)} bytes, more than {MAX_FILE_BYTES}".encode()
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
            return b"it is no report"
        write_whole(self.root / HOSTS / name, content)
        return b""

    def _has(self, name: str, content: bytes) -> bytes:
        if not UNIT.fullmatch(name):
            return b"no"
        folders: tuple[Path, ...] = (self.inbox, self.archive)
        return b"yes" if any(next(f.glob(f"{name}.*.parquet"), None) is not None for f in folders) else b"no"

    def _get(self, name: str, content: bytes) -> bytes:
        path = self.root / FILES / name
        return b"+" + path.read_bytes() if SHA256.fullmatch(name) and path.is_file() else b"-"

    def _reports(self, name: str, content: bytes) -> bytes:
        found = reports_in(self.root / HOSTS)
        return json.dumps({report_name(host): b64encode(text).decode() for host, text in found.items()}).encode()


def _check_free(host: str, port: int) -> None:
    """Quack shares its port with whoever else asks for the same (SO_REUSEPORT), and each gets a part of the requests."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # Past connections may still fade away there; who listens is met all the same.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise _taken(host, port, error.strerror or str(error)) from None


def _taken(host: str, port: int, said: str) -> LabError:
    return LabError(f"the inbox cannot listen on {host}:{port}: {said[:200]}", f"lab inbox serve --port {port + 1}")
