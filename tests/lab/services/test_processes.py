"""Processes that lab started: real ones, recorded, stopped with their children, and never taken for another's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from lab_process import Run, bare_environment

from common import logs
from lab.services import environments, processes, up
from lab.services.processes import Service, holder_of, recorded, start, stop, wait_until
from warehouse.paths import Paths

SLEEP = "import time; print('ready', flush=True); time.sleep(100)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(100)
"""
TELL = """
import pathlib, signal, sys, time
def end(*_):
    with pathlib.Path(sys.argv[2]).open("a") as file: file.write(sys.argv[1] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(100)
"""
Begin = Callable[..., Service]


@pytest.fixture
def paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(home))
    return Paths(home)


def log_of(paths: Paths, name: str) -> str:
    return (paths.home / "logs" / f"{name}.log").read_text()


@pytest.fixture
def begin(paths: Paths) -> Iterator[Begin]:
    """begin(name, script, *arguments): a recorded service that has printed a line; all are killed after the test."""
    begun: list[Service] = []

    def run(name: str, script: str, *arguments: str, port: int | None = None) -> Service:
        service = start(paths, name, [sys.executable, "-c", script, *arguments], bare_environment(paths.home), port)
        begun.append(service)
        assert wait_until(lambda: log_of(paths, name).endswith("\n"), 20, service)
        return service

    yield run
    for service in begun:
        if process := service.process():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_started_service_is_on_record_and_on_its_own(begin: Begin, paths: Paths) -> None:
    """What lab up starts outlives it: a session of its own, output in a log, found again by whoever reads the record."""
    service = begin("worker-weak", SLEEP, port=4300)
    assert recorded(paths) == [service]
    assert service.alive
    assert os.getsid(service.pid) == service.pid != os.getsid(0)
    assert log_of(paths, "worker-weak") == "ready\n"
    assert abs(service.created - time.time()) < 60
    other = begin("page", SLEEP)
    assert recorded(paths) == [service, other]
    assert stop([service]) == ["worker-weak"]
    renewed = begin("worker-weak", SLEEP)
    assert recorded(paths) == [other, renewed]


@pytest.fixture
def somebodys(paths: Paths) -> Iterator[Service]:
    """A process that lab did not start, in the same LAB_HOME."""
    with subprocess.Popen([sys.executable, "-c", SLEEP], env=bare_environment(paths.home)) as process:
        yield Service("somebody's", process.pid, psutil.Process(process.pid).create_time(), None)
        process.kill()


def test_a_recycled_pid_is_not_touched(somebodys: Service, paths: Paths) -> None:
    """After a reboot a recorded pid may belong to anybody: without the same start time it is neither shown nor stopped."""
    service = somebodys
    ours = psutil.Process()
    strangers = [
        replace(service, name="server", created=service.created - 1),
        replace(service, name="page", created=service.created + 1),
        Service("worker-weak", ours.pid, ours.create_time() - 3600, None),
        Service("worker-medium", 1, 0.0, None),
    ]
    assert [s.alive for s in strangers] == [False] * 4
    processes.record(paths, strangers)
    assert [row.alive for row in up.status()] == [False] * 4
    assert up.down() == []
    assert service.alive
    assert recorded(paths) == []


def test_children_are_stopped_too(begin: Begin, paths: Paths) -> None:
    """A worker's flow processes end with it; left behind they would hold memory and deliver to nobody."""
    service = begin("worker-weak", PARENT, SLEEP)
    child = int(log_of(paths, "worker-weak"))
    assert not gone(child)
    assert stop([service]) == ["worker-weak"]
    assert not service.alive
    assert gone(child)
    assert stop([service]) == []


def test_the_stubborn_are_killed(begin: Begin, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ignores SIGTERM, itself or a child, is killed after the wait, so that lab down always ends with nothing left."""
    monkeypatch.setattr(processes, "STOP_WAIT_S", 0.4)
    alone = begin("server", STUBBORN)
    parent = begin("worker-weak", PARENT, STUBBORN)
    child = int(log_of(paths, "worker-weak"))
    started = time.monotonic()
    assert stop([alone, parent]) == ["server", "worker-weak"]
    assert time.monotonic() - started < 5
    assert gone(alone.pid)
    assert gone(parent.pid)
    assert gone(child)


def test_one_that_died_by_itself_is_not_alive(begin: Begin, paths: Paths) -> None:
    """A crashed service is shown as stopped, also while it is a zombie, and waiting for it ends at once."""
    service = start(paths, "server", [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ))
    started = time.monotonic()
    assert not wait_until(lambda: False, 30, service)
    assert time.monotonic() - started < 20
    assert not service.alive
    (row,) = up.status()
    assert (row.name, row.pid, row.port, row.alive, row.runs) == ("server", service.pid, None, False, [])
    assert wait_until(lambda: True, 1)
    assert not wait_until(lambda: False, 0.3, begin("page", SLEEP))


def test_the_server_is_stopped_last(begin: Begin, paths: Paths, tmp_path: Path) -> None:
    """Workers sign off at the server: one whose server is gone hangs on SIGTERM (measured)."""
    said = tmp_path / "said"
    for name in ("server", "worker-weak", "page"):
        begin(name, TELL, name, str(said))
    assert up.down(("worker-weak",)) == ["worker-weak"]
    assert [s.name for s in recorded(paths)] == ["server", "page"]
    assert up.down() == ["page", "server"]
    assert said.read_text().split() == ["worker-weak", "page", "server"]
    assert recorded(paths) == []


def test_status_and_down_of_another_process_see_the_same(begin: Begin, paths: Paths, lab: Run) -> None:
    """The user's next command, in another terminal, shows and stops what the first one started."""
    service = begin("server", SLEEP, port=4300)
    (row,) = json.loads(lab("status", "--json").stdout)
    assert row == {
        "name": "server",
        "pid": service.pid,
        "port": 4300,
        "address": "127.0.0.1",
        "alive": True,
        "runs": [],
    }
    assert f"runs     pid {service.pid}" in lab("status").stdout
    assert up.api_url() == "http://127.0.0.1:4300/api"
    started = time.monotonic()
    assert lab("down").stdout == "stopped server\n"
    # The process that started it still lives here and does not reap; lab down must not wait for that.
    assert time.monotonic() - started < 2 * processes.STOP_WAIT_S
    assert gone(service.pid)
    assert lab("down").stdout == "nothing was running\n"
    assert lab("status").stdout == "nothing runs; to start: lab up\n"
    assert up.api_url() == "http://127.0.0.1:4200/api"


def test_the_holder_of_a_port_is_named(busy_port: int, closed_port: int) -> None:
    """Whose port it is decides what the user does next: stop that process, or choose another port."""
    assert holder_of(busy_port) == f"process {os.getpid()} ({psutil.Process().name()})"
    assert holder_of(closed_port) is None
    script = "import socket, time; s = socket.create_server(('0.0.0.0', 0)); print(s.getsockname()[1], flush=True); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout
            port = int(other.stdout.readline())
            assert holder_of(port) == f"process {other.pid} ({psutil.Process(other.pid).name()})"
        finally:
            other.kill()
    assert holder_of(port) is None


def test_services_start_without_the_users_prefect_settings(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile or an address set in the shell must not send our workers to another server, and nothing is reported home."""
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:1/api")
    monkeypatch.setenv("PREFECT_PROFILE", "cloud")
    monkeypatch.setenv("KEPT", "yes")
    environment = environments.prefect_environment(paths, 4321)
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert environment["PREFECT_HOME"] == str(paths.home / "prefect")
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["LAB_HOME"] == str(paths.home)
    assert environment["KEPT"] == "yes"
    assert environment["DO_NOT_TRACK"] == "1"
    assert "PREFECT_PROFILE" not in environment


def test_what_a_killed_worker_left_behind_is_shown_and_ended(begin: Begin, paths: Paths, lab: Run) -> None:
    """A flow outlives its killed worker, holds its memory, and no record names it: the mark in its environment does."""
    service = begin("worker-weak", PARENT, SLEEP)
    child = int(log_of(paths, "worker-weak"))
    (row,) = up.status()
    assert row.runs == [child]
    psutil.Process(service.pid).kill()
    assert wait_until(lambda: not service.alive, 20)
    assert not gone(child)
    assert [r.name for r in up.status()] == ["worker-weak", "orphaned"]
    other = bare_environment(paths.home.with_name("other")) | {processes.MARK: "worker-weak"}
    with subprocess.Popen([sys.executable, "-c", SLEEP], env=other, stdout=subprocess.DEVNULL) as stranger:
        try:
            shown = lab("status").stdout
            assert (
                f"orphaned               runs     pid {child}" in shown
                and f"logs                   {paths.home}" in shown
            )
            assert lab("down").stdout == "stopped orphaned processes\n"
            assert gone(child)
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert up.status() == []


def test_logs_are_cut_while_their_process_writes_on(
    begin: Begin, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs for months must not fill the disk with its log, nor lose it, nor have to be restarted for it."""
    script = "import time\nprint('first', flush=True)\nwhile True: print('x' * 99, flush=True); time.sleep(0.01)"
    begin("server", script)
    monkeypatch.setattr(logs, "MAX_BYTES", 500)
    folder = paths.home / "logs"
    for _ in range(logs.OLDER_PARTS + 2):
        assert wait_until(lambda: (folder / "server.log").stat().st_size > 500, 20)
        assert logs.rotate(folder) == ["server.log"]
    assert {p.name for p in folder.iterdir()} == {"server.log", "server.log.1", "server.log.2", "server.log.3"}
    assert wait_until(lambda: "xx" in (folder / "server.log").read_text(), 20)
    assert "\x00" not in (folder / "server.log").read_text()
    assert "first" not in (folder / "server.log.3").read_text()
