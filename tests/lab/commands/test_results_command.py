"""lab sync, lab spool and lab inbox serve, as a user types them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from lab_process import Run, bare_environment

from lab.network import secrets
from lab.services import inbox, joined
from warehouse.paths import Paths

NAME = f"{1:032x}.{hashlib.sha256(b'1').hexdigest()}.parquet"


def wait_there(home: Path) -> Path:
    (home / "spool").mkdir(parents=True)
    path = home / "spool" / NAME
    path.write_bytes(b"1")
    return path


def test_what_cannot_go_is_shown_with_its_reason_and_goes_later(called: Run, home: Path, tmp_path: Path) -> None:
    """Results that wait unseen look like results that were never computed."""
    assert called("spool").stdout == "no bundle waits\n"
    path = wait_there(home)
    store = tmp_path / "mount"
    assert "no attempt yet" in called("spool").stdout
    tried = called("sync", LAB_RESULTS_URL=str(store))
    assert tried.returncode == 1
    first, reason = tried.stdout.splitlines()
    assert first == f"to {store}: delivered 0 (0 B), waiting 1"
    assert reason.startswith(f"{store} has no folder inbox") and reason.endswith(f"mkdir -p {store}/inbox")
    shown = called("spool").stdout.splitlines()
    assert shown[0] == "1 bundles wait, 1 B"
    assert shown[1].startswith("  00000000        1 B  since 20") and reason in shown[2]
    shown = json.loads(called("spool", "--json").stdout)
    assert shown["waiting"][0]["name"] == NAME and shown["last_attempt"]["reason"] == reason
    (store / "inbox").mkdir(parents=True)
    done = called("sync", "--json", LAB_RESULTS_URL=str(store))
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "where": str(store),
        "delivered": 1,
        "waiting": 0,
        "reason": None,
        "size_bytes": 1,
        "damaged": 0,
    }
    assert not path.exists() and (store / "inbox" / NAME).read_bytes() == b"1"


def test_a_run_whose_results_cannot_leave_ends_with_the_reason(called: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It computed the same unit again and again, for ever, since its result never reached the warehouse."""
    computed: list[object] = []

    def never_delivered(unit: object, *_: object, **__: object) -> int:
        computed.append(unit)
        return 18

    monkeypatch.setattr("flows.local.run_unit", never_delivered)
    done = called("run", "p1", "--scale", "smoke")
    assert done.returncode == 2, done.stderr
    assert "its bundle waits for delivery (lab spool). remove the cause, then: lab run p1" in done.stderr
    assert len(computed) == 1


def test_a_machine_that_joined_has_the_inboxs_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One key lets a machine in; a second one to copy by hand would be copied into a chat."""
    api = "http://192.168.1.10:4200/api"
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.delenv("LAB_INBOX_TOKEN_FILE", raising=False)
    monkeypatch.setenv("LAB_INBOX_TOKEN", "")
    ours = inbox.own_inbox_token()
    secrets.save_key(api, secrets.issued().join)
    inbox.remember_inbox_token(api)
    assert not os.environ["LAB_INBOX_TOKEN"]  # results go another way
    monkeypatch.setenv("LAB_RESULTS_URL", "quack://192.168.1.10")
    inbox.remember_inbox_token("http://elsewhere:4200/api")
    assert not os.environ["LAB_INBOX_TOKEN"]
    inbox.remember_inbox_token(api)
    assert os.environ["LAB_INBOX_TOKEN"] == ours == inbox.own_inbox_token()
    assert secrets.issued().join not in ours


def test_a_joined_machine_delivers_to_its_coordinator(
    tmp_path: Path, home: Path, called: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lab sync without LAB_RESULTS_URL put results into a folder of this machine, where nobody collects them. A password in
    the address is not saved, and a machine that becomes a coordinator forgets."""
    (tmp_path / "store" / "inbox").mkdir(parents=True)
    api = "http://192.168.1.10:4200/api"
    with monkeypatch.context() as patch:
        patch.setenv("LAB_RESULTS_URL", str(tmp_path / "store"))
        joined.remember(Paths(home), api)
    assert f"to {tmp_path / 'store'}: delivered 0" in called("sync").stdout
    assert f"to {home / 'results'}: delivered 0" in called("sync", PREFECT_API_URL="http://elsewhere:4200/api").stdout
    with monkeypatch.context() as patch:
        patch.setenv("LAB_RESULTS_URL", "sftp://me:hunter2@desk/store")
        joined.remember(Paths(home), api)
    assert joined.remembered(Paths(home)) == joined.JoinedTo(api_url=api)
    for damaged in (b"", b"[]", b'{"api_url": "desk"}'):
        (home / joined.FILE).write_bytes(damaged)
        assert joined.remembered(Paths(home)) is None
    joined.forget(Paths(home))
    assert not (home / joined.FILE).exists()


@pytest.mark.skipif(find_spec("duckdb_extension_quack") is None, reason="duckdb_extension_quack is not installed")
def test_the_inbox_takes_what_another_machine_delivers(
    called: Run, home: Path, tmp_path: Path, closed_port: int
) -> None:
    """The whole way as typed: lab inbox serve here, lab sync there, and the bundle lies where lab collect finds it."""
    token = tmp_path / "token"
    token.write_text("t" * 32)
    token.chmod(0o600)
    coordinator = tmp_path / "coordinator"
    tokens = {"LAB_INBOX_TOKEN_FILE": str(token), "LAB_SECRETS": str(tmp_path / "secrets")}
    command = [sys.executable, "-m", "lab", "inbox", "serve", "--port", str(closed_port)]
    server = subprocess.Popen(
        command, env=bare_environment(coordinator) | tokens, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert (
            line == f"receiving bundles at quack://127.0.0.1:{closed_port} into {coordinator / 'results' / 'inbox'}\n"
        )
        wait_there(home)
        done = called("sync", LAB_RESULTS_URL=f"quack://127.0.0.1:{closed_port}", **tokens)
        assert (done.returncode, done.stdout) == (
            0,
            f"to quack://127.0.0.1:{closed_port}: delivered 1 (1 B), waiting 0\n",
        )
        assert (coordinator / "results" / "inbox" / NAME).read_bytes() == b"1"
    finally:
        server.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        server.kill()
        server.wait()
    assert server.returncode == 0
