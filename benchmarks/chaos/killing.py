"""Kill the roles of one home at random moments, most often in one stage of their work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from numpy.random import Generator

from benchmarks.chaos.roles import STAGES
from benchmarks.chaos.work import WRITERS

LOOK_S = 20.0  # that a stage is waited for; then the role dies wherever it is
MOMENT_S = 0.01  # the most that passes between the sight of a stage and the kill
COLLECTORS = ("collector-a", "collector-b")
VICTIMS = {
    "spool": WRITERS,
    "delivery": WRITERS,
    "ingest": COLLECTORS,
    "snapshot": COLLECTORS,
    "records": COLLECTORS,
    "migrate": ("migrator-a",),
    "verdict": ("judge-a",),
    "backup": ("saver-a",),
    "rebuild": ("builder-a",),
}


class Forks:
    """The process that forks the roles."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")} | {"LAB_HOST": "chaos"}
        command = [sys.executable, "-m", "benchmarks.chaos.roles"]
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=root
        )

    def ask(self, command: str) -> int:
        if self.process.stdin is None or self.process.stdout is None:
            raise ValueError("started without pipes")
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate(timeout=30)


class Children:
    """Processes of one role each, in one home."""

    def __init__(self, forks: Forks, home: Path) -> None:
        self.forks, self.home = forks, home
        self.pids: dict[str, int] = {}

    def start(self, role: str) -> None:
        self.pids[role] = self.forks.ask(f"start {role} {self.home}")

    def kill(self, role: str) -> int:
        """kill -9, and the exit code: -9 unless it had ended by itself."""
        os.kill(self.pids[role], signal.SIGKILL)
        return self.wait(role)

    def wait(self, role: str) -> int:
        return self.forks.ask(f"wait {self.pids.pop(role)}")

    def stage(self, role: str) -> bytes:
        try:
            return (self.home / f"stage.{role}").read_bytes()
        except FileNotFoundError:
            return b""


@contextmanager
def at_work(forks: Forks, home: Path, roles: Sequence[str]) -> Iterator[Children]:
    """Start the roles, and stop them in the end.

    Raises:
        ValueError: a role ended with an error.
    """
    children = Children(forks, home)
    try:
        for role in roles:
            children.start(role)
        yield children
        (home / "stop").touch()
        ends = {role: children.wait(role) for role in roles}
        if any(ends.values()):
            raise ValueError(f"roles ended with an error: {ends}")
    finally:
        for role in list(children.pids):
            children.kill(role)


def kill_in(
    children: Children, stages: Sequence[str], kills: int, rng: Generator, seen: Callable[[str], None], until: float = 0
) -> Counter[str]:
    """Kill and start again so many roles, each in one of these stages.

    Args:
        seen: called with the role after each death.
        until: time.monotonic() after which no more are killed; 0: none.

    Returns:
        Number of kills by the stage in which they fell; "" for those between two stages.

    Raises:
        ValueError: a role had ended by itself.
    """
    names = {byte: stage for stage, byte in STAGES.items()}
    hit = Counter[str]()
    for _ in range(kills):
        if until and time.monotonic() > until:
            break
        stage = str(rng.choice(list(stages)))
        victim = str(rng.choice(list(VICTIMS[stage])))
        end = time.monotonic() + LOOK_S
        while children.stage(victim) != STAGES[stage] and time.monotonic() < end:
            # Of two collectors one waits for the lock: whoever gets there first.
            victim = next((r for r in VICTIMS[stage] if children.stage(r) == STAGES[stage]), victim)
            time.sleep(0.001)
        time.sleep(float(rng.uniform(0, MOMENT_S)))
        hit[names.get(children.stage(victim), "")] += 1
        if children.kill(victim) != -signal.SIGKILL:
            raise ValueError(f"{victim} ended by itself")
        children.start(victim)
        seen(victim)
    return hit
