"""The inbox behind Quack: who has the token can bring bundles, and can do nothing else there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_up_report import report_file
from ports import free_port
from stores import TOKEN, Serving, quack_missing

from common.errors import LabError
from warehouse.delivery.transports import quack, quack_server
from warehouse.delivery.transports.protocol import UnreachableError, bundles_in
from warehouse.delivery.transports.quack import PART_BYTES, PIECE_BYTES, Quack, sending
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
    assert client.ask("report", "capability_report_A-B.json", report_file("a-b")) == b"not a report"


BAD_REPORTS = {
    "a number for a list": (report_file("pi-4", gpus=5), "'gpus' = 5"),
    "more than any machine has": (report_file("pi-4", matrix_gflops=10**400), "'matrix_gflops' = 1000"),
    "another host's": (report_file("pi-5"), "it names another host"),
    "no report": (b"{}", "'host': Field required"),
    "too large": (report_file("pi-4") + b" " * 2**20, "a request 'report' has one part"),
}


@pytest.mark.parametrize("name", BAD_REPORTS)
def test_a_report_that_is_not_valid_is_refused_and_told(serving: Serving, client: Quack, name: str) -> None:
    """One such report made the page of all hosts fail for everybody."""
    content, answer = BAD_REPORTS[name]
    assert answer in client.ask("report", "capability_report_pi-4.json", content).decode()
    assert client.reports() == {}


def test_reports_do_not_fill_the_memory(serving: Serving, client: Quack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may name as many hosts as it likes, and every answer with reports holds all of them."""
    monkeypatch.setattr(quack_server, "MAX_REPORTS_BYTES", 1000)
    host = "pi-{}".format
    answers = [client.ask("report", f"capability_report_{host(i)}.json", report_file(host(i))) for i in range(4)]
    assert answers[0] == b"" and b"over 1000 bytes" in answers[3]
    assert client.ask("report", f"capability_report_{host(0)}.json", report_file(host(0), cores_logical=1)) == b""
    for path in (serving.server.root / "hosts").iterdir():
        path.unlink()


def test_a_part_that_is_too_large_is_refused_by_the_table(client: Quack) -> None:
    """The memory of the coordinator is not the sender's: no row may be larger than what is agreed."""
    with pytest.raises(UnreachableError, match="CHECK constraint"):
        client.query(sending("a" * 32, "bundle", NAME, 0, 1, b"x" * (PART_BYTES + 1)))
    with pytest.raises(UnreachableError, match="CHECK constraint"):
        client.query(sending("a" * 32, "bundle", NAME, 0, 10**6, b"x"))
    with pytest.raises(ValueError, match="not a plain name"):
        sending("a" * 32, "bundle", "x'); DROP TABLE sent --", 0, 1, b"")


def put_file(serving: Serving, n_bytes: int) -> tuple[str, bytes]:
    """A file that machines may get: its digest, and its content."""
    content = np.random.default_rng(n_bytes).bytes(n_bytes)
    digest = hashlib.sha256(content).hexdigest()
    path = serving.server.root / "files" / digest
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return digest, content


@pytest.mark.parametrize("n_bytes", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 5])
def test_a_file_comes_in_pieces_and_whole(serving: Serving, client: Quack, n_bytes: int) -> None:
    """An adapter that lacks its end would be another adapter."""
    digest, content = put_file(serving, n_bytes)
    assert client.get("files", digest) == content
    assert client.get("files", "0" * 64) is None


def test_a_file_that_is_too_large_is_refused(serving: Serving, client: Quack, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unit needs one."""
    digest, _ = put_file(serving, 3000)
    monkeypatch.setattr(quack_server, "MAX_BUNDLE_BYTES", 2000)
    with pytest.raises(UnreachableError, match="3000 bytes, more than 2000"):
        client.get("files", digest)
    assert client.ask("piece", digest, b"-1") == b"!the offset is not a number"


def test_answers_that_nobody_fetches_are_few(serving: Serving, client: Quack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve machines that asked at once for a file of 400 MB made the inbox die of memory; its deliveries wait instead."""
    digest, _ = put_file(serving, PIECE_BYTES)
    for i in range(40):
        client.query(sending(f"{i:032x}", "piece", digest, 0, 1, b"0"))
    con = serving.server.connection.cursor()

    def waiting() -> int:
        return int(con.execute("SELECT coalesce(sum(octet_length(content)), 0) FROM answers").fetchall()[0][0])

    end = time.monotonic() + 30
    while waiting() < quack_server.MAX_ANSWERS_BYTES - 2 * PIECE_BYTES:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not client.has(f"{1:032x}")  # all else is answered
    assert waiting() <= quack_server.MAX_ANSWERS_BYTES
    monkeypatch.setattr(quack_server, "ANSWERED_S", -1.0)
    while waiting():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_memory_of_deliveries_is_free_again(serving: Serving, client: Quack) -> None:
    """DuckDB frees deleted rows at a checkpoint only: after 2 GB of deliveries, however long they took, the inbox was dead."""
    content = np.random.default_rng(0).bytes(20 * PART_BYTES + 1)
    digest = hashlib.sha256(content).hexdigest()
    con = serving.server.connection.cursor()
    for _ in range(3):
        assert client.ask("file", digest, content) == b""
    assert (serving.server.root / "files" / digest).read_bytes() == content
    used = "SELECT sum(memory_usage_bytes) FROM duckdb_memory()"
    end = time.monotonic() + 30
    while con.execute(used).fetchall()[0][0] > 10 * PART_BYTES:
        assert time.monotonic() < end
        time.sleep(0.02)


MIXED = {
    "a part twice": [(0, 2, PART_BYTES), (0, 2, PART_BYTES)],
    "another number of parts": [(0, 2, PART_BYTES), (1, 3, PART_BYTES)],
    "a short part": [(0, 2, 5)],
    "a part too many": [(2, 2, 5)],
}


@pytest.mark.parametrize("name", MIXED)
def test_parts_that_do_not_belong_together_are_refused_once(serving: Serving, client: Quack, name: str) -> None:
    """The rest of a refused delivery is thrown away, and its sender gets one answer."""
    asked = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    for number, parts, n_bytes in [*MIXED[name], (1, 2, 5)]:
        client.query(sending(asked, "bundle", NAME, number, parts, b"x" * n_bytes))
    end = time.monotonic() + 30
    while not (rows := client.query(quack.reading(asked))):
        assert time.monotonic() < end
    assert len(rows) == 1 and b"part" in rows[0][2]
    assert not [p for p in serving.server.inbox.iterdir() if p.name != NAME]


def test_half_a_bundle_is_forgotten_and_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that dies while it sends leaves nothing in the inbox, and its parts do not fill the memory for ever."""
    monkeypatch.setenv("LAB_INBOX_TOKEN", TOKEN)
    port = free_port()
    server = InboxServer(Paths(tmp_path), "127.0.0.1", port, TOKEN)
    try:
        half = sending("b" * 32, "bundle", NAME, 0, 2, b"x" * PART_BYTES)
        Quack("127.0.0.1", port, encrypted=False).query(half)
        assert server.step() == 0 and bundles_in(server.inbox) == []
        assert [p.stat().st_size for p in server.inbox.iterdir()] == [PART_BYTES]
        monkeypatch.setattr(quack_server, "FORGET_S", -1.0)
        assert server.step() == 0
        assert list(server.inbox.iterdir()) == []
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
