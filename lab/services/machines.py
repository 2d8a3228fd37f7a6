"""Several machines on this one: a coordinator, and machines with their own name, folder, memory and cores."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from common.environment import python
from common.errors import LabError
from common.files import write_whole
from lab.services import processes
from lab.services.within import leave
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.choice import SETTING
from warehouse.paths import Paths
from workpools.assess import parse_report
from workpools.example import EXAMPLE
from workpools.hosts import running

COORDINATOR = "coordinator"
JOIN_S = 600.0  # all machines join at once, on the cores of one
AGAIN_S = 1.0
Say = Callable[[str], object]


class Machine(NamedTuple):
    """A machine to pretend: its name, memory, cores of this machine, and the lower tiers that it serves as well."""

    name: str
    ram_gb: float
    cores: tuple[int, ...]
    also: tuple[str, ...] = ()


def example_machines(cores: int) -> tuple[Machine, ...]:
    """Return a Raspberry Pi, a laptop and a desktop: one core, half of them but two at least, and all."""
    numbers = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores))
    half = max(2, len(numbers) // 2)
    shares = (numbers[:1], numbers[-half:], numbers)
    also = ((), ("weak",), ("medium", "weak"))
    return tuple(
        Machine(one.host, one.ram_gb, tuple(own), more) for one, own, more in zip(EXAMPLE, shares, also, strict=True)
    )


@dataclass(frozen=True)
class Box:
    """The machines in one folder; the coordinator is this process's own LAB_HOME."""

    root: Path
    machines: tuple[Machine, ...]

    @property
    def coordinator(self) -> Paths:
        return Paths(self.root / COORDINATOR)

    def home(self, machine: Machine) -> Paths:
        """Return the paths of a machine."""
        return Paths(self.root / machine.name)

    def environment(self, machine: Machine) -> dict[str, str]:
        """Return the environment of a machine's commands: nothing of Prefect's or the coordinator's."""
        results = str(self.coordinator.home / "results")
        return processes.clean_environment(self.home(machine), **{"LAB_HOST": machine.name, SETTING: results})

    def prepare(self, models: Path) -> None:
        """Make the folders; weights that are converted once serve all, from the folder `models`."""
        models.mkdir(parents=True, exist_ok=True)
        for home in (self.coordinator.home, *(self.home(m).home for m in self.machines)):
            home.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                (home / "models").symlink_to(models)

    def join(self, url: str, machines: Sequence[Machine]) -> None:
        """Join machines, all at once.

        Raises:
            LabError: one could not, with its last line.
        """
        begun = {m: self._start(m, ["join", url, "--quick", *_also(m)]) for m in machines}
        try:
            for machine, process in begun.items():
                _joined(machine, process)
        finally:
            for process in begun.values():
                if process.poll() is None:  # interrupted, or another one could not
                    process.terminate()
                    process.wait()

    def _start(self, machine: Machine, arguments: Sequence[str]) -> subprocess.Popen[str]:
        command = [*python(), "lab.services.within", "--ram-gb", f"{machine.ram_gb:g}", "--name", machine.name]
        command += ["--cores", ",".join(map(str, machine.cores)), "--", *python(), "lab", *arguments]
        return subprocess.Popen(  # noqa: S603 - fixed words
            command,
            env=self.environment(machine),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pretend_speeds(self) -> None:
        """Write the example's speeds into the reports of machines of its names, instead of what this machine would measure."""
        speeds = {one.host: one for one in EXAMPLE}
        store = Store.configured(self.coordinator)
        for machine in self.machines:
            path = self.home(machine).home / f"capability_report_{machine.name}.json"
            if (own := speeds.get(machine.name)) is None or not path.is_file():
                continue
            report = parse_report(path.read_bytes()).model_copy(
                update={"matrix_gflops": own.gflops, "embedding_texts_per_s": own.texts_per_s}
            )
            content = report.model_dump_json(indent=1).encode()
            write_whole(path, content)
            store.put_report(machine.name, content)

    def pull_the_plug(self, machine: Machine) -> None:
        """Kill all that a machine runs, at once and without a word."""
        paths = self.home(machine)
        family: dict[int, psutil.Process] = {}
        for service in processes.recorded(paths):
            family |= processes.family(service)
        family |= {p.pid: p for p in processes.orphans(paths)}
        for process in family.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(family.values()), timeout=10)

    def down(self) -> None:
        """Stop the machines, and remove their control groups."""
        for machine in self.machines:
            with suppress(LabError):
                paths = self.home(machine)
                processes.stop(processes.recorded(paths))
                processes.end({p.pid: p for p in processes.orphans(paths)})
                processes.record(paths, [])
            leave(machine.name)


def _joined(machine: Machine, process: subprocess.Popen[str]) -> None:
    try:
        printed, _ = process.communicate(timeout=JOIN_S)
    except subprocess.TimeoutExpired:
        raise LabError(f"{machine.name} did not join within {JOIN_S:.0f} s", "the same command again") from None
    if process.returncode:
        last = printed.strip().splitlines()[-1:] or ["no message"]
        raise LabError(f"{machine.name} could not join: {last[0][:300]}", "free memory, or close programs")


def _also(machine: Machine) -> list[str]:
    return [word for tier in machine.also for word in ("--also", tier)]


def plug_when_working(
    box: Box, machine: Machine, phase: str, client: Any, say: Say, ended: Callable[[], bool], after_s: float = 3.0
) -> bool:
    """Pull the plug of a machine once it has worked on a phase for some seconds; return False if it never did.

    Args:
        client: of the server.
        ended: True once nothing more will come.
    """
    while not ended():
        if begun := [name for name in running(client).get(machine.name, ()) if name.startswith(phase)]:
            time.sleep(after_s)
            box.pull_the_plug(machine)
            say(f"*** the plug of {machine.name} is pulled, in the middle of: {begun[0]}")
            return True
        time.sleep(AGAIN_S)
    return False
