"""A whole laboratory on this machine: a real Prefect server with real workers, started and stopped by `lab`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psutil

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

    def lab(self, *arguments: str, timeout: float = 1200, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lab", *arguments]
        return subprocess.run(
            command,
            env=environment(self.home, **extra),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command in the background, its output in the home."""
        with (self.home / "background.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "lab", *arguments],
                env=environment(self.home),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def up(self) -> None:
        done = self.lab("up", "--port", str(self.port), "--no-page")
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def down(self) -> None:
        self.lab("down")

    def logs(self) -> str:
        """The end of each log, for a failure's message."""
        found = [*(self.home / "logs").glob("*.log"), self.home / "background.log"]
        return "\n".join(f"--- {p.name}\n{p.read_text()[-1500:]}" for p in found if p.is_file())

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

    def progress(self) -> dict[str, Any]:
        path = self.home / "progress.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def wait_for(self, check: Callable[[dict[str, Any]], bool], timeout_s: float = 900) -> dict[str, Any]:
        """The progress once `check` holds of it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            row = self.progress()
            if row and check(row):
                return row
            time.sleep(0.1)
        raise AssertionError(f"not reached: {self.progress()}\n{self.logs()}")

    def query(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.home / "snapshot.duckdb"), read_only=True) as con:
            return con.execute(sql, parameters or []).fetchall()

    def client(self) -> Any:
        from workpools.pools import connect

        return connect(f"http://127.0.0.1:{self.port}/api")


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, all before any is waited for."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
