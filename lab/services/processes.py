"""Start, record and stop processes; pid and start time identify each, since the system uses pids again."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import PositiveInt, TypeAdapter

from common.environment import own_first
from common.errors import LabError
from common.files import write_whole
from common.logs import rotate
from lab.network.lan import LOOPBACK, LOOPBACK_6, Listener, bracketed
from lab.own_settings import without_programs
from warehouse.paths import Paths

DATABASE_URL = "LAB_DATABASE_URL"  # holds a password; only the server gets it, as a setting of Prefect
MARK = "LAB_SERVICE"  # in the environment of every process that lab starts, and of its children
APART: dict[str, Any] = {"start_new_session": True}  # of a process that goes on when the terminal is closed
if sys.platform == "win32":
    APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
STOP_WAIT_S = 6.0  # a worker whose server still answers ends within two or three seconds (measured)


@dataclass(frozen=True)
class Service:
    """One started process."""

    name: str
    pid: PositiveInt
    created: float  # start time in seconds since the epoch, as the system reports it
    port: int | None
    address: str = LOOPBACK  # on which it listens; records of earlier versions have none
    keys: bool = False  # it was started with them; records of earlier versions do not say so

    @property
    def needs_keys(self) -> bool:
        """Return True if it requires this coordinator's keys, as all do that do not listen on loopback."""
        return self.keys or self.address not in (LOOPBACK, LOOPBACK_6)

    @property
    def url(self) -> str:
        """Return its address in HTTP."""
        return f"http://{bracketed(self.address)}:{self.port}"

    @property
    def alive(self) -> bool:
        """Return True while the process runs."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Return the process if pid and start time both match, else None."""
        try:
            found = psutil.Process(self.pid)
            ours = abs(found.create_time() - self.created) < 0.5 and found.status() != psutil.STATUS_ZOMBIE
            return found if ours else None
        except psutil.NoSuchProcess:
            return None


def _file(paths: Paths) -> Path:
    return paths.home / "services.json"


def recorded(paths: Paths) -> list[Service]:
    """Return all recorded services, dead or alive; LabError if the record is damaged, since they may still run."""
    path = _file(paths)
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[Service]).validate_json(path.read_bytes(), strict=True)
    except ValueError:
        mend = f"rm {shlex.quote(str(path))}, then lab up, which names the process that still holds a port"
        raise LabError(f"{path} is damaged, so lab does not know what it started", mend) from None


def running(paths: Paths, name: str) -> Service | None:
    """Return the recorded service of this name if it runs, else None."""
    return next((s for s in recorded(paths) if s.name == name and s.alive), None)


def record(paths: Paths, services: Sequence[Service]) -> None:
    """Replace the record of services."""
    write_whole(_file(paths), json.dumps([asdict(s) for s in services], indent=1).encode())


def start(
    paths: Paths,
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int | None = None,
    listener: Listener | None = None,
    folder: Path | None = None,
) -> Service:
    """Start and record `command` apart from this process's terminal; its output goes to logs/<name>.log.

    Args:
        listener: where it listens on `port`; loopback without keys by default.
        folder: its working folder; LAB_HOME by default.
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
            cwd=folder or paths.home,
            **APART,
        )
    listener = listener or Listener()
    created = psutil.Process(child.pid).create_time()
    service = Service(name, child.pid, created, port, listener.address, listener.keys is not None)
    record(paths, [*(s for s in recorded(paths) if s.name != name), service])
    return service


def family(service: Service) -> dict[int, psutil.Process]:
    """Return the processes of a running service by pid: its own and all its descendants."""
    process = service.process()
    with contextlib.suppress(psutil.NoSuchProcess):
        if process:
            return {p.pid: p for p in (process, *process.children(recursive=True))}
    return {}


def orphans(paths: Paths) -> list[psutil.Process]:
    """Return processes of this LAB_HOME whose service has died, such as a flow whose worker was killed; oldest first."""
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
    """End services and their descendants; return the names of those that were alive."""
    alive = [s for s in services if s.alive]
    end({pid: p for s in services for pid, p in family(s).items()})
    return [s.name for s in alive]


def end(family: Mapping[int, psutil.Process]) -> None:
    """Send SIGTERM, and SIGKILL to what still runs after STOP_WAIT_S."""
    for process in family.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    left = _left_after(list(family.values()), STOP_WAIT_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _left_after(left, STOP_WAIT_S)


def _left_after(family: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Return those that still run after at most `timeout_s`; a zombie does not, though its parent may never reap it."""
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
    """Return "process 812 (prefect)" for the process that listens on a port, "another process" if unnamed, or None."""
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
    """Return this process's environment with LAB_HOME, without telemetry, settings of Prefect and servers, and the database's password."""
    own = without_programs({k: v for k, v in os.environ.items() if k != DATABASE_URL})
    if "PYTHONPATH" in own:
        own["PYTHONPATH"] = os.pathsep.join(own_first(own["PYTHONPATH"].split(os.pathsep)))
    return (
        own
        | {"LAB_HOME": str(paths.home), "PYTHONSAFEPATH": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
        | extra
    )


def end_as_by_ctrl_c() -> None:
    """Have SIGTERM raise KeyboardInterrupt in this process, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def wait_until(check: Callable[[], object], timeout_s: float, process: Service | None = None) -> bool:
    """Poll `check` five times a second; return False when the time is up or `process` died."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if check():
            return True
        if process is not None and not process.alive:
            return False
        time.sleep(0.2)
    return False
