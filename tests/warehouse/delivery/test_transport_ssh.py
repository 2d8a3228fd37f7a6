"""Transports over ssh: hosts are known by their keys, an interrupted transfer is resumed, git pushes."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ssh_server
from programs import require
from stores import Scene, bundle, scene

from common.errors import LabError
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports import ssh

ROOT_URL = {
    "sftp": "sftp://lab-test{}/store",
    "rsync": "rsync+ssh://lab-test{}/store",
    "git": "git+ssh://lab-test{}/store.git",
}
CompletedRun = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def over_ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One sshd before a results folder and a repository."""
    folder = tmp_path_factory.mktemp("ssh")
    with scene("git-ssh", folder) as made:
        (folder / "store" / "inbox").mkdir(parents=True)
        yield made


def by(over_ssh: Scene, kind: str) -> Store:
    """The store as a host sees it this way; skipped where the program for it is missing."""
    require(*ssh_server.PROGRAMS, *(["rsync"] if kind == "rsync" else []))
    if kind == "sftp":
        pytest.importorskip("paramiko")
    over_ssh.environment["LAB_RESULTS_URL"] = ROOT_URL[kind].format(over_ssh.folder)
    return over_ssh.host("pi-4")


@pytest.mark.parametrize("kind", ROOT_URL)
@pytest.mark.parametrize("known", ["nothing", "another key"])
def test_a_host_whose_key_is_not_known_gets_nothing(over_ssh: Scene, kind: str, known: str) -> None:
    """Any machine could answer under the coordinator's name; a host with an unknown key is refused."""
    store = by(over_ssh, kind)
    server = ssh_server.Sshd(over_ssh.folder / "ssh", 0)
    before = server.known_hosts.read_text()
    name = bundle(store, 1, b"mine alone")
    changed = before.replace(before.split()[2], (server.folder / "other_key.pub").read_text().split()[1])
    server.known_hosts.write_text("" if known == "nothing" else changed)
    try:
        answer = store.deliver(store.spool)
        assert (
            answer.waiting == 1
            and answer.reason
            and "host key of lab-test" in answer.reason
            and "ssh lab-test" in answer.reason
        )
        assert (store.spool / name).is_file()
        assert server.known_hosts.read_text() == ("" if known == "nothing" else changed)
    finally:
        server.known_hosts.write_text(before)


def test_git_pushes_over_ssh(over_ssh: Scene) -> None:
    """The same as git on a path (test_transports.py), with ssh between."""
    store = by(over_ssh, "git")
    name = bundle(store, 2, b"pushed")
    assert store.deliver(store.spool).delivered == 1
    coordinator = over_ssh.host("coordinator")
    assert coordinator.fetch() == []
    assert (coordinator.inbox / name).read_bytes() == b"pushed"


def test_a_transfer_that_broke_goes_on_where_it_stopped(over_ssh: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter over a slow line would never arrive if each break began it anew; and half of it is never taken for all."""
    store = by(over_ssh, "rsync")
    inbox = over_ssh.folder / "store" / "inbox"
    bundle(store, 3, b"makes the folders")
    assert store.deliver(store.spool).delivered == 1
    content = os.urandom(12_000_000)
    name = bundle(store, 4, content)
    real = ssh.run
    monkeypatch.setattr(ssh, "run", _breaking(inbox))
    assert store.deliver(store.spool).waiting == 1
    saved = inbox / ".part-rsync" / name
    deadline = time.monotonic() + 60
    while not saved.is_file():
        assert time.monotonic() < deadline, sorted(str(p) for p in inbox.rglob("*"))
        time.sleep(0.1)
    assert not (inbox / name).exists()
    seen: list[str] = []

    def telling(arguments: list[str], **more: Any) -> CompletedRun:
        done = real([arguments[0], "--stats", *arguments[1:]], **more)
        seen.append(done.stdout.decode())
        return done

    monkeypatch.setattr(ssh, "run", telling)
    assert store.deliver(store.spool).delivered == 1
    assert (inbox / name).read_bytes() == content
    again, matched = (
        int(re.findall(rf"{what} data: ([\d,]+)", seen[-1])[0].replace(",", "")) for what in ("Literal", "Matched")
    )
    assert matched > 1_000_000 and again + matched == len(content)


def _breaking(inbox: Path) -> Callable[..., CompletedRun]:
    """Runs rsync slowly, kills it once 2 MB have arrived, and lets nothing else through."""
    calls: list[int] = []

    def run(arguments: list[str], *, stdin: bytes, environment: dict[str, str], **_: Any) -> CompletedRun:
        calls.append(1)
        if len(calls) == 1:
            slow = [arguments[0], "--bwlimit=4000", *arguments[1:]]
            process = subprocess.Popen(slow, stdin=subprocess.PIPE, env=environment, stderr=subprocess.DEVNULL)
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
            deadline = time.monotonic() + 60
            while sum(p.stat().st_size for p in (inbox / ".part-arriving").glob("*")) < 2_000_000:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(arguments, 255, b"", b"the line is cut")

    return run


def test_the_settings_of_ssh_are_a_plain_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its name stands in a line that rsync and git split at blanks: more than a name there would be an option of ssh."""
    for value in ("relative", str(tmp_path / "missing"), f"{tmp_path} -oProxyCommand=x"):
        monkeypatch.setenv("LAB_SSH_CONFIG", value)
        with pytest.raises(LabError, match="LAB_SSH_CONFIG"):
            ssh.command()
    monkeypatch.delenv("LAB_SSH_CONFIG")
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(ssh.command())
