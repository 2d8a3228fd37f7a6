"""Processes that lab started: recorded by pid and start time, so that no other process is ever taken for one of them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import psutil

from common.errors import LabError
from common.files import write_whole
from common.logs import rotate
from lab.network.lan import bracketed
from warehouse.paths import Paths

DATABASE_URL = "LAB_DATABASE_URL"  # holds a password that the server alone needs; it gets it as a setting of Prefect's
MARK = "LAB_SERVICE"  # in the environment of whatever lab starts, and of all that starts from there
STOP_WAIT_S = 6.0  # a worker whose server still answers ends within two or three seconds (measured)


@dataclass(frozen=True)
class Service:
    """One started process."""

    name: str
    pid: int
    created: float  # start time in seconds since the epoch, as the system reports it
    port: int | None
    address: str = "127.0.0.1"  # where the port is

    @property
    def url(self) -> str:
        return f"http://{bracketed(self.address)}:{self.port}"

    @property
    def alive(self) -> bool:
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """The process itself, only when pid and start time both match."""
        try:
            found = psutil.Process(self.pid)
            ours = abs(found.create_time() - self.created) < 0.5 and found.status() != psutil.STATUS_ZOMBIE
            return found if ours else None
        except psutil.NoSuchProcess:
            return None


def _file(paths: Paths) -> Path:
    return paths.home / "services.json"


def recorded(paths: Paths) -> list[Service]:
    """All recorded services, dead or alive.

    Raises:
        LabError: the record is damaged. It is not taken for empty, since what it named may still run.
    """
    path = _file(paths)
    if not path.is_file():
        return []
    try:
        return [_service(row) for row in json.loads(path.read_bytes())]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise LabError(
            f"{path} is damaged, so what lab up started is not known",
            f"end it by its pid (lab up names who holds a port), after: rm {shlex.quote(str(path))}",
        ) from None


def _service(row: Mapping[str, Any]) -> Service:
    name, pid, created, port = row["name"], row["pid"], row["created"], row["port"]
    address = row.get("address", "127.0.0.1")  # records of earlier versions have none
    if not isinstance(name, str) or type(pid) is not int or pid <= 0 or type(port) not in (int, NoneType):
        raise TypeError
    if not isinstance(address, str):
        raise TypeError
    return Service(name, pid, float(created), port, address)


def record(paths: Paths, services: Sequence[Service]) -> None:
    """Replace the record."""
    write_whole(_file(paths), json.dumps([asdict(s) for s in services], indent=1).encode())


def start(
    paths: Paths,
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int | None = None,
    address: str = "127.0.0.1",
    folder: Path | None = None,
) -> Service:
    """Start `command` in a session of its own, with its output in logs/<name>.log, and record it.

    Args:
        folder: where it is started; LAB_HOME unless given.
    """
    logs = paths.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    rotate(logs)
    with (logs / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - fixed commands of our own
            list(command),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**environment, MARK: name},
            start_new_session=True,
            cwd=folder or paths.home,
        )
    service = Service(name, child.pid, psutil.Process(child.pid).create_time(), port, address)
    record(paths, [*(s for s in recorded(paths) if s.name != name), service])
    return service


def family(service: Service) -> dict[int, psutil.Process]:
    """A service that runs and all that it started, by pid."""
    process = service.process()
    with contextlib.suppress(psutil.NoSuchProcess):
        if process:
            return {p.pid: p for p in (process, *process.children(recursive=True))}
    return {}


def strays(paths: Paths) -> list[psutil.Process]:
    """What services of this LAB_HOME started and left behind, as a flow whose worker was killed, oldest first."""
    known = {pid for s in recorded(paths) for pid in family(s)}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            ours = MARK in environment and environment.get("LAB_HOME") == str(paths.home)
            if ours and process.pid not in known | {os.getpid(), os.getppid()} and _runs(process):
                found.append(process)
    return sorted(found, key=lambda p: p.create_time())


def stop(services: Sequence[Service]) -> list[str]:
    """SIGTERM, then after a while SIGKILL, to these services and all that they started; returns who was alive."""
    alive = [s for s in services if s.alive]
    end({pid: p for s in services for pid, p in family(s).items()})
    return [s.name for s in alive]


def end(family: Mapping[int, psutil.Process]) -> None:
    """SIGTERM, then after a while SIGKILL."""
    for process in family.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    left = _left_after(list(family.values()), STOP_WAIT_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _left_after(left, STOP_WAIT_S)


def _left_after(family: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those still running after at most `timeout_s`. A zombie has ended: its parent may be a `lab demo` that never reaps."""
    deadline = time.monotonic() + timeout_s
    left = list(family)
    while left := [p for p in left if _runs(p)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def holder_of(port: int, address: str = "127.0.0.1") -> str | None:
    """ "process 812 (prefect)" for who listens on a port here, "another process" when it cannot be named, or None."""
    import socket

    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.settimeout(1)
        if probe.connect_ex((address, port)) != 0:
            return None
    with contextlib.suppress(psutil.AccessDenied, psutil.NoSuchProcess):
        for c in psutil.net_connections("tcp"):
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid:
                return f"process {c.pid} ({psutil.Process(c.pid).name()})"
    return "another process"


def clean_environment(paths: Paths, **extra: str) -> dict[str, str]:
    """This process's environment without PREFECT_* and the database's password, with LAB_HOME fixed and telemetry off."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_") and k != DATABASE_URL}
    return kept | {"LAB_HOME": str(paths.home), "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"} | extra


def wait_until(check: object, timeout_s: float, process: Service | None = None) -> bool:
    """Poll `check()` five times a second; False when time is out or `process` died."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if check():  # type: ignore[operator]
            return True
        if process is not None and not process.alive:
            return False
        time.sleep(0.2)
    return False
