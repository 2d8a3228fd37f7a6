"""A whole laboratory on this machine: a real Prefect server with real workers, started and stopped by `lab`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psutil

from benchmarks.chaos.fake_models import EMBEDDERS
from lab.services.environments import prefect_environment
from warehouse.paths import Paths
from workpools.hosts import HOST_TAG
from workpools.pools import connect, online_workers

ROOT = Path(__file__).resolve().parents[2]
HOST = "test-host"
METRICS = (
    "SELECT phase, host, metric, condition, value, low, high, n, failed, method FROM metrics "
    "WHERE run_id = ? AND NOT timing ORDER BY phase, host, position"
)
BUNDLES = "SELECT sha256 FROM bundles JOIN units USING (unit_id) WHERE run_id = ? ORDER BY 1"


def environment(home: Path, **extra: str) -> dict[str, str]:
    """This process's environment without what a developer may have set for their own laboratory."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    return kept | {"LAB_HOME": str(home), "LAB_HOST": HOST, "HF_HUB_OFFLINE": "1"} | extra


def given(number: int, n_memory: int, *more: str) -> list[str]:
    """Return values of a chain that ends with P1, whose units are so many embedders; another `n_memory` makes other units."""
    values = [f"p1.embedders={json.dumps(EMBEDDERS[:number])}", f"p1.n_memory={n_memory}", *more]
    return ["--scale", "smoke", *(word for value in values for word in ("--set", value))]


def free_port() -> int:
    """Return a port of loopback on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Lab:
    """One LAB_HOME with its server on a free port."""

    home: Path
    port: int = field(default_factory=free_port)
    more: dict[str, str] = field(default_factory=dict)  # of the environment of all that it starts
    prepare: Callable[[Path], None] | None = None  # gives a home without a Prefect database one

    def lab(self, *arguments: str, timeout: float = 1200, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lab", *arguments]
        return subprocess.run(  # noqa: S603
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
            return subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments], env=told, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def wait_online(self, pool: str, hosts: set[str]) -> None:
        """Return once workers with these names, and no others, are online in a pool."""
        client = self.client()
        deadline = time.monotonic() + 600
        while set(online_workers(client).get(pool, [])) != hosts:
            if time.monotonic() > deadline:
                raise AssertionError(f"{online_workers(client)}\n{self.logs()}")
            time.sleep(0.5)

    def up(self) -> None:
        if self.prepare and not (self.home / "prefect").exists():
            self.prepare(self.home)
        done = self.lab("up", "--port", str(self.port), "--no-page", "--quick")
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr + self.logs())

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

    def wait_for(self, sql: str, command: subprocess.Popen[bytes]) -> None:
        """Return once `sql` finds a row in the snapshot; AssertionError if `command` ends before."""
        while not ((self.home / "snapshot.duckdb").exists() and self.query(sql)):
            if command.poll() is not None:
                raise AssertionError(self.logs())
            time.sleep(0.2)

    def query(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.home / "snapshot.duckdb"), read_only=True) as con:
            return con.execute(sql, parameters or []).fetchall()

    def run_of(self, **p1: object) -> str:
        """Return the id of the run that was given these values of P1; "" where none has been planned.

        Raises:
            ValueError: there are several.
        """
        runs = self.query("SELECT run_id, arguments_given FROM runs")
        found = [run_id for run_id, given in runs if json.loads(given)["config"].get("p1", {}).items() >= p1.items()]
        if len(found) > 1:
            raise ValueError(f"{len(found)} runs were given {p1}: {found}")
        return str(found[0]) if found else ""

    def shards(self, run_id: str, host: str | None = None) -> list[Any]:
        """Return the flow runs of a run's shards, the earliest first; those that name a host where one is given."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
        from prefect.client.schemas.sorting import FlowRunSort

        tags = ["shard", run_id, *([f"{HOST_TAG}{host}"] if host else [])]
        wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=tags))
        return list(self.client().read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC))

    def flow_processes(self, worker: psutil.Process, tag: str) -> list[psutil.Process]:
        """Return the processes that a worker has started for flow runs with this tag."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
        from prefect.client.schemas.sorting import FlowRunSort

        engines = {str(process.pid): process for process in engines_of(worker)}
        if not engines:
            return []
        wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
        runs = self.client().read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
        pids = [(run.infrastructure_pid or "").rpartition(":")[2] for run in runs]
        return [engines[pid] for pid in pids if pid in engines]

    def client(self) -> Any:
        return connect(f"http://127.0.0.1:{self.port}/api")


def engines_of(worker: psutil.Process) -> list[psutil.Process]:
    """Return the processes of flow runs that a worker has started and that run; forked ones have the name alone."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in worker.children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if process.name() == "prefect.engine" or "prefect.engine" in process.cmdline():
                    found.append(process)
    return found


def flow_of(worker: psutil.Process) -> psutil.Process | None:
    """Return the process of the flow run that a worker has started, if it runs."""
    return next(iter(engines_of(worker)), None)


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, all before any is waited for."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
