"""A results store behind DuckDB's Quack protocol: a worker needs only the coordinator's address and a token.

This is the client; quack_server.py is the server. Both load DuckDB's extensions from Python packages (extra `quack`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from common.errors import LabError
from common.limits import MAX_BUNDLE_BYTES, MAX_REPORT_BYTES
from common.text import printable
from warehouse.delivery.transports.protocol import FILES, REPORT, Transport, UnreachableError, last_line

PORT = 9494  # Quack's own
TOKEN, TOKEN_FILE = "LAB_INBOX_TOKEN", "LAB_INBOX_TOKEN_FILE"
TOKEN_FORM = re.compile(r"[A-Za-z0-9_-]{16,128}")
PLAIN = re.compile(r"[A-Za-z0-9._-]+")
PART_BYTES = 2**20  # of a file in one INSERT
PIECE_BYTES = 2**20  # of a file in one answer, which takes several times as much in the server while it is sent
LARGE_BYTES = 2**16  # of an answer; the server is told that it may delete one
ANSWER_S = 60.0  # the server answers within a second or two
ASK_S = 0.05
MEND = "on the coordinator: lab inbox serve"


class Quack(Transport):
    """Client of the inbox server, which allows two kinds of statements only."""

    kind = "quack"

    def __init__(self, host: str, port: int | None, *, encrypted: bool) -> None:
        at = f"[{host}]" if ":" in host else host
        self._uri = f"quack:{at}:{port or PORT}"
        self._encrypted, self._token = encrypted, ""
        self.where = f"quack{'s' if encrypted else ''}://{at}:{port or PORT}"
        self._con: duckdb.DuckDBPyConnection | None = None

    def send(self, bundles: Sequence[Path]) -> dict[str, str]:
        failed = {}
        for path in bundles:
            try:
                content = path.read_bytes()
            except OSError as error:
                failed[path.name] = error.strerror or str(error)
                continue
            if refused := self.ask("bundle", path.name, content):
                failed[path.name] = refused.decode(errors="replace")
        return failed

    def has(self, unit_id: str) -> bool:
        return self.ask("has", unit_id) == b"yes"

    def fetch(self, inbox: Path) -> list[str]:
        return []  # the server puts bundles into the coordinator's inbox itself

    def put(self, folder: str, name: str, content: bytes) -> None:
        if refused := self.ask("file" if folder == FILES else "report", name, content):
            raise UnreachableError(f"{self.where}: {refused.decode(errors='replace')}", MEND)

    def get(self, folder: str, name: str) -> bytes | None:
        content = bytearray()
        while True:
            found = self.ask("piece", name, b"%d" % len(content))
            mark, size, piece = found[:1], int.from_bytes(found[1:9]), found[9:]
            if mark == b"-" and not content:
                return None
            if mark != b"+":
                why = found[1:].decode(errors="replace") or "the file is gone"
                raise UnreachableError(f"{self.where}: {name[:40]}: {printable(why)[:200]}", MEND)
            content += piece
            if len(content) == size:
                return bytes(content)
            if not piece or not len(content) < size <= MAX_BUNDLE_BYTES:
                raise UnreachableError(f"{self.where}: {name[:40]} changed while it was read, or is too large", MEND)

    def reports(self) -> dict[str, bytes]:
        found: dict[str, str] = json.loads(self.ask("reports", "all"))
        named = {REPORT.fullmatch(name): b64decode(text) for name, text in found.items()}
        return {m[1]: content[: MAX_REPORT_BYTES + 1] for m, content in named.items() if m}

    def ask(self, what: str, name: str, content: bytes = b"") -> bytes:
        """Send a request in parts and return the answer.

        Raises:
            UnreachableError: there is no answer within ANSWER_S.
        """
        asked = secrets.token_hex(16)
        parts = [content[i : i + PART_BYTES] for i in range(0, len(content), PART_BYTES)] or [b""]
        for i, part in enumerate(parts):
            self.query(sending(asked, what, name, i, len(parts), part))
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            rows = self.query(reading(asked))
            if rows and len(rows) == rows[0][1]:
                answer = b"".join(row[2] for row in rows)
                if len(answer) > LARGE_BYTES:
                    self.query(sending(secrets.token_hex(16), "got", asked, 0, 1, b""))
                return answer
            time.sleep(ASK_S)
        request = f"{what} {name[:40]}"
        raise UnreachableError(f"{self.where} accepted {request} and did not answer for {ANSWER_S:.0f} s", MEND)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement on the server."""
        try:
            if self._con is None:
                self._token = token()
                self._con = with_extensions(duckdb.connect())
            values = [self._uri, sql, self._token, not self._encrypted]
            return self._con.execute("FROM quack_query(?, ?, token := ?, disable_ssl := ?)", values).fetchall()
        except duckdb.Error as error:
            raise UnreachableError(f"{self.where}: {_plain(str(error))}", MEND) from None
        except LabError as error:
            raise UnreachableError(f"{self.where}: {error.what}", error.mend) from None


def sending(asked: str, what: str, name: str, part: int, parts: int, content: bytes) -> str:
    """Return the statement that sends a part. Quack has no parameters: values are hex, base64 and plain names.

    Raises:
        ValueError: a name is not plain.
    """
    if not PLAIN.fullmatch(f"{asked}{what}{name}"):
        raise ValueError(f"not a plain name: {name[:80]!r}")
    text = b64encode(content).decode()
    return f"INSERT INTO sent VALUES ('{asked}', '{what}', '{name}', {part:d}, {parts:d}, from_base64('{text}'))"  # noqa: S608


def reading(asked: str) -> str:
    """Return the statement that reads an answer by its id, which only the sender knows."""
    if not PLAIN.fullmatch(asked):
        raise ValueError(f"not a plain id: {asked[:80]!r}")
    return f"SELECT part, parts, content FROM answers WHERE id = '{asked}' ORDER BY part"  # noqa: S608


def _plain(message: str) -> str:
    """Return the first line of DuckDB's message, without the SQL that it quotes."""
    first = last_line(message.splitlines()[0] if message else "")
    if "Authentication failed" in first:
        return f"it refuses this token ({TOKEN} or {TOKEN_FILE})"
    return re.sub(r"^(\w+ Error: )+", "", first)


def with_extensions(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Load the extensions quack, and httpfs, which it needs, into a connection and return it.

    Raises:
        LabError: their packages are not installed, or not for this DuckDB.
    """
    try:
        import duckdb_extensions

        for name in ("httpfs", "quack"):
            duckdb_extensions.import_extension(name, con=con)
    except (ImportError, FileNotFoundError, duckdb.Error) as error:
        missing = f"DuckDB {duckdb.__version__} has no quack extension ({last_line(str(error))})"
        raise LabError(missing, "pip install '.[quack]'") from None
    return con


def token() -> str:
    """Return the token for deliveries: LAB_INBOX_TOKEN, else the first line of the file LAB_INBOX_TOKEN_FILE.

    Raises:
        LabError: neither is set, other users can read the file, or it holds no token. The value is not shown.
    """
    value = os.environ.get(TOKEN, "")
    if not value and (name := os.environ.get(TOKEN_FILE)):
        path = Path(name)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise LabError(f"other users can read {path}", f"chmod 600 {path}")
        value = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    if not TOKEN_FORM.fullmatch(value):
        wrong = f"{TOKEN} is {'not a token' if value else 'not set'}"
        raise LabError(wrong, f"export {TOKEN_FILE}=/PATH of a file that holds it")
    return value
