"""The inbox behind Quack: who has the token can bring bundles, and can do nothing else there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from stores import TOKEN, Serving, quack_missing

from common.errors import LabError
from warehouse.delivery.transports import quack, quack_server
from warehouse.delivery.transports.protocol import UnreachableError
from warehouse.delivery.transports.quack import PART_BYTES, Quack, sending
from warehouse.delivery.transports.quack_server import InboxServer
from warehouse.paths import Paths

pytestmark = pytest.mark.skipif(quack_missing() is not None, reason=quack_missing() or "")
NAME = f"{1:032x}.{hashlib.sha256(b'1').hexdigest()}.parquet"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = Serving(tmp_path_factory.mktemp("coordinator"), free_port())
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[Quack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_INBOX_TOKEN", TOKEN)
        made = Quack("127.0.0.1", serving.port, encrypted=False)
        assert not made.has(f"{1:032x}")
        yield made


STATEMENTS = (
    "DELETE FROM sent",
    "DROP TABLE sent",
    "SELECT * FROM answers",
    "FROM sent",
    "CREATE TABLE mine (n INTEGER)",
    "SET lock_configuration = false",
    "SET GLOBAL quack_authorization_function = 'quack_nop_authorization'",
    "COPY (SELECT 1) TO '/tmp/x.csv'",
    "FROM read_text('/etc/hostname')",
    "ATTACH '/tmp/x.duckdb'",
    "INSTALL httpfs",
    "SELECT part, parts, content FROM answers WHERE id = 'aa' ORDER BY part; DROP TABLE sent",
    "SELECT part, parts, content FROM answers WHERE id = 'aa' OR true ORDER BY part",
    "SELECT part, parts, content FROM answers WHERE id = 'aa' ORDER BY part\n; DROP TABLE sent",
    "INSERT INTO sent VALUES ('aa', 'bundle', 'x', 0, 1, from_base64('')), ('bb', 'bundle', 'x', 0, 1, from_base64(''))",
    "INSERT INTO answers VALUES ('aa', 0, 1, from_base64(''), 0)",
    "INSERT INTO sent VALUES ('aa', 'shell', 'x', 0, 1, from_base64(''))",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_no_other_statement_is_let_through(client: Quack, statement: str) -> None:
    """A token of Quack's gives its holder all of SQL, so what may be sent is written down, to the letter."""
    with pytest.raises(UnreachableError, match="Authorization failed"):
        client.query(statement)


def test_the_database_itself_is_locked(serving: Serving) -> None:
    """Should a statement get through after all, it meets no file, no network and no setting that it could change."""
    con = serving.server.connection.cursor()  # its own belongs to the thread that serves
    rows = dict(con.execute("SELECT name, value FROM duckdb_settings()").fetchall())
    assert (rows["enable_external_access"], rows["lock_configuration"]) == ("false", "true")
    assert rows["quack_authorization_function"] == "lab_allowed"
    assert con.execute("SELECT path FROM duckdb_databases() WHERE NOT internal").fetchall() == [(None,)]


def test_another_token_opens_nothing(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only door on the network is shut to whoever was not given the key."""
    monkeypatch.setenv("LAB_INBOX_TOKEN", "x" * 32)
    with pytest.raises(UnreachableError, match="refuses this token") as reported:
        Quack("127.0.0.1", serving.port, encrypted=False).has(f"{1:032x}")
    assert "x" * 32 not in str(reported.value)


REFUSED = {
    "no bundle's name": ("evil.sh", b"1", "not that of a bundle"),
    "a path": ("..", b"1", "not that of a bundle"),
    "another content": (NAME, b"2", "does not match the SHA-256"),
    "too large": (NAME, b"1" * 3000, "3000 bytes, more than 2000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_bundle_is_refused_and_told(
    serving: Serving, client: Quack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Name, size and digest are checked before a file is made; the sender keeps what it has and says why."""
    monkeypatch.setattr(quack_server, "MAX_BUNDLE_BYTES", 2000)
    called, content, answer = REFUSED[name]
    assert answer in client.ask("bundle", called, content).decode()
    assert not list(serving.server.inbox.iterdir())
    assert "does not match" in client.ask("file", hashlib.sha256(b"a").hexdigest(), b"b").decode()
    assert client.ask("report", "capability_report_A B.json".replace(" ", "-"), b"{}") == b"not a report"


def test_a_part_that_is_too_large_is_refused_by_the_table(client: Quack) -> None:
    """The memory of the coordinator is not the sender's: no row may be larger than what is agreed."""
    with pytest.raises(UnreachableError, match="CHECK constraint"):
        client.query(sending("a" * 32, "bundle", NAME, 0, 1, b"x" * (PART_BYTES + 1)))
    with pytest.raises(UnreachableError, match="CHECK constraint"):
        client.query(sending("a" * 32, "bundle", NAME, 0, 10**6, b"x"))
    with pytest.raises(ValueError, match="not a plain name"):
        sending("a" * 32, "bundle", "x'); DROP TABLE sent --", 0, 1, b"")


def test_half_a_bundle_is_forgotten_and_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that dies while it sends leaves nothing in the inbox, and its parts do not fill the memory for ever."""
    monkeypatch.setenv("LAB_INBOX_TOKEN", TOKEN)
    port = free_port()
    server = InboxServer(Paths(tmp_path), "127.0.0.1", port, TOKEN)
    try:
        Quack("127.0.0.1", port, encrypted=False).query(sending("b" * 32, "bundle", NAME, 0, 2, b"half"))
        assert server.step() == 0 and list(server.inbox.iterdir()) == []
        assert server.connection.execute("SELECT count(*) FROM sent").fetchall() == [(1,)]
        monkeypatch.setattr(quack_server, "FORGET_S", -1.0)
        assert server.step() == 0
        assert server.connection.execute("SELECT count(*) FROM sent").fetchall() == [(0,)]
        with pytest.raises(LabError, match=f"lab inbox serve --port {port + 1}"):
            InboxServer(Paths(tmp_path), "127.0.0.1", port, TOKEN)
    finally:
        server.close()


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a command line every user of the machine could read it; in a file that others can read as well."""
    monkeypatch.delenv("LAB_INBOX_TOKEN", raising=False)
    monkeypatch.delenv("LAB_INBOX_TOKEN_FILE", raising=False)
    with pytest.raises(LabError, match="is not set"):
        quack.token()
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    monkeypatch.setenv("LAB_INBOX_TOKEN_FILE", str(file))
    with pytest.raises(LabError, match="chmod 600"):
        quack.token()
    file.chmod(0o600)
    assert quack.token() == TOKEN
    monkeypatch.setenv("LAB_INBOX_TOKEN", "two words")
    with pytest.raises(LabError, match="is not a token") as reported:
        quack.token()
    assert "two words" not in str(reported.value)
