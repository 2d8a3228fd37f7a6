"""The laboratory on a network of namespaces: a coordinator with its server, and machines that joined it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from deliveries import add_manifests
from namespaces import Network

from lab.network.lan import Listener
from lab.services.environments import prefect_environment, server_environment
from lab.services.up import server_command
from warehouse.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
MACHINES = ("coordinator", "desk", "shed")
PORT = 4200  # nobody else is in the coordinator's namespace
# Ends when the server answers, or with a traceback after argv[2] seconds.
HEALTHY = """
import sys, time, urllib.request
deadline = time.monotonic() + float(sys.argv[2])
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5)
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.5)
"""


def bare(home: Path, host: str) -> dict[str, str]:
    """This process's environment without what a developer may have set for their own laboratory."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    return kept | {"LAB_HOME": str(home), "LAB_HOST": host, "HF_HUB_OFFLINE": "1"}


def lab(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lab", *arguments]


def served(*arguments: str) -> list[str]:
    """Prefect's server as `lab up` runs it on loopback."""
    return [*server_command(PORT, Listener())[:-4], *arguments]


def prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]


@dataclass
class Machine:
    """One machine of the network: its name there is its LAB_HOST, its folder its LAB_HOME."""

    network: Network
    name: str
    home: Path
    more: dict[str, str] = field(default_factory=dict)  # of its environment
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        return bare(self.home, self.name) | self.more

    def run(self, command: list[str], timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.network.command(self.name, command),
            env=self.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def must(self, command: list[str], timeout_s: float = 300) -> str:
        """The output of a command that has to succeed."""
        done = self.run(command, timeout_s)
        assert done.returncode == 0, f"{self.name}: {command}\n{done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout

    def start(self, log_name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """A command in the background, with its output in logs/."""
        (self.home / "logs").mkdir(exist_ok=True)
        with (self.home / "logs" / f"{log_name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.network.command(self.name, command),
                env=self.environment(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def mount(self, folder: Path) -> None:
        """Let LAB_RESULTS_URL be a link that leads to `folder`, in place of where it led."""
        link, new = self.home / "mount", self.home / "mount.new"
        new.symlink_to(folder)
        new.replace(link)
        self.more["LAB_RESULTS_URL"] = str(link)

    def waiting(self) -> list[str]:
        """Names of the bundles in its spool."""
        return sorted(p.name for p in Paths(self.home).spool.glob("*.parquet"))

    def logs(self) -> str:
        """The end of each log, for a failure's message."""
        found = sorted((self.home / "logs").glob("*.log"))
        return "\n".join(f"--- {self.name} {p.name}\n{p.read_text(errors='replace')[-2500:]}" for p in found)


class Models(NamedTuple):
    """An embedder and a language model that load in a moment."""

    environment: dict[str, str]  # in which the embedder is found
    name: str  # of the language model


@dataclass
class Laboratory:
    """The coordinator and its workers."""

    coordinator: Machine
    workers: dict[str, Machine]
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)  # manifests of bundles

    @property
    def url(self) -> str:
        return f"http://{self.coordinator.network.address(self.coordinator.name)}:{PORT}"

    def up(self) -> None:
        """Start the server where the network reaches it, let the workers join, and start the coordinator's worker.

        The coordinator's database has the pools and deployments already.
        """
        one = self.coordinator
        one.more |= {k: v for k, v in prefect_environment(Paths(one.home), PORT).items() if k.startswith("PREFECT_")}
        one.more |= server_environment(PORT, Listener())
        one.more |= {"PREFECT_API_URL": f"{self.url}/api", "PREFECT_SERVER_UI_ENABLED": "false"}
        address = one.network.address(one.name)
        one.start("server", served("--host", address, "--port", str(PORT)))
        one.must([sys.executable, "-c", HEALTHY, f"{self.url}/api/health", "240"])
        # Helping the weak tier, so that the phases of the test find both whatever memory is free just now.
        join = lab("join", self.url, "--also", "weak", "--quick")
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(lambda worker: worker.must(join), self.workers.values()))
        one.start("worker", prefect("worker", "start", "--pool", "coordinator", "--name", one.name))

    def down(self) -> None:
        """Stop the workers, then the coordinator's processes, each told first; what stays is ended with the network."""
        for worker in self.workers.values():
            worker.run(lab("down"))
        for process in reversed(self.coordinator.started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_for(self, check: Callable[[], object], command: subprocess.Popen[bytes], timeout_s: float) -> None:
        """Return once `check()` holds; AssertionError with all logs when `command` ended or time is out before."""
        deadline = time.monotonic() + timeout_s
        while not check():
            assert command.poll() is None and time.monotonic() < deadline, self.logs()
            time.sleep(0.2)

    def delivered(self, phase: str, host: str) -> set[str]:
        """Units of a phase whose bundle from a host has reached the coordinator, taken in or not."""
        add_manifests(self.coordinator.home, self.seen)
        return {m["unit_id"] for m in self.seen.values() if (m["phase"], m["host"]) == (phase, host)}

    def logs(self) -> str:
        return "\n".join(m.logs() for m in (self.coordinator, *self.workers.values()))


def query(home: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the snapshot in a LAB_HOME."""
    with duckdb.connect(str(Paths(home).snapshot), read_only=True) as con:
        return con.execute(sql).fetchall()


def hosts(machine: Machine) -> dict[str, dict[str, Any]]:
    """What `lab hosts` says on a machine, by host."""
    return {row["host"]: row for row in json.loads(machine.must(lab("hosts", "--json")))}
