"""A whole laboratory on this machine: a real Prefect server with real workers, started and stopped by `lab`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psutil

from flows.progress import PhaseProgress, read_progress
from lab.services.environments import prefect_environment
from warehouse.paths import Paths
from workpools.pools import connect, online_workers

ROOT = Path(__file__).resolve().parents[2]
HOST = "test-host"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, **extra: str) -> dict[str, str]:
    """This process's environment without what a developer may have set for their own laboratory."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    return kept | {"LAB_HOME": str(home), "LAB_HOST": HOST, "HF_HUB_OFFLINE": "1"} | extra


@dataclass
class Lab:
    """One LAB_HOME with its server on a free port."""

    home: Path
    port: int = field(default_factory=free_port)
    more: dict[str, str] = field(default_factory=dict)  # of the environment of all that it starts

    def lab(self, *arguments: str, timeout: float = 1200, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lab", *arguments]
        return subprocess.run(
            command,
            env=environment(self.home, **self.more | extra),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str, log: str = "background") -> subprocess.Popen[bytes]:
        """A command in the background, its output in the home's logs."""
        return self._start(log, ["-m", "lab", *arguments], environment(self.home, **self.more))

    def worker(self, host: str, pool: str, queues: Sequence[str] = (), **settings: str) -> subprocess.Popen[bytes]:
        """A plain worker that believes to be on another host; it polls these queues, or else all of the pool."""
        ours = prefect_environment(Paths(self.home), self.port)
        told = {k: v for k, v in ours.items() if k.startswith("PREFECT_")} | settings
        command = [
            "-m",
            "prefect",
            "worker",
            "start",
            "--pool",
            pool,
            "--name",
            host,
            "--type",
            "process",
            "--limit",
            "1",
            *(word for queue in queues for word in ("--work-queue", queue)),
        ]
        return self._start(host, command, environment(self.home, **self.more | told | {"LAB_HOST": host}))

    def _start(self, name: str, arguments: list[str], told: dict[str, str]) -> subprocess.Popen[bytes]:
        (self.home / "logs").mkdir(exist_ok=True)
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments], env=told, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def wait_online(self, pool: str, hosts: set[str]) -> None:
        """Return once workers with these names, and no others, are online in a pool."""
        client = self.client()
        deadline = time.monotonic() + 600
        while set(online_workers(client).get(pool, [])) != hosts:
            assert time.monotonic() < deadline, f"{online_workers(client)}\n{self.logs()}"
            time.sleep(0.5)

    def up(self) -> None:
        done = self.lab("up", "--port", str(self.port), "--no-page")
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def down(self) -> None:
        self.lab("down")

    def logs(self) -> str:
        """The end of each log, for a failure's message."""
        found = sorted((self.home / "logs").glob("*.log"))
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in found)

    def services(self) -> dict[str, int]:
        return {row["name"]: row["pid"] for row in json.loads((self.home / "services.json").read_text())}

    def kill_everything(self) -> None:
        """A power cut: the server, the workers and all that they started, at once and without a word."""
        family: list[psutil.Process] = []
        for pid in self.services().values():
            try:
                process = psutil.Process(pid)
                family += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        kill(family)

    def wait_for(self, run_id: str, check: Callable[[PhaseProgress], bool], timeout_s: float = 900) -> PhaseProgress:
        """Return the progress of a run's latest phase once `check` holds of it."""
        deadline, client, progress = time.monotonic() + timeout_s, self.client(), None
        while time.monotonic() < deadline:
            progress = read_progress(client, run_id)
            if progress and check(row := progress.phases[-1]):
                return row
            time.sleep(0.2)
        raise AssertionError(f"not reached: {progress}\n{self.logs()}")

    def query(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.home / "snapshot.duckdb"), read_only=True) as con:
            return con.execute(sql, parameters or []).fetchall()

    def client(self) -> Any:
        return connect(f"http://127.0.0.1:{self.port}/api")


def flow_of(worker: psutil.Process) -> psutil.Process | None:
    """The process of the flow run that a worker has started, if it runs."""
    try:
        found = [p for p in worker.children(recursive=True) if "prefect.engine" in p.cmdline()]
    except psutil.NoSuchProcess:
        return None
    return found[0] if found else None


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, all before any is waited for."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
