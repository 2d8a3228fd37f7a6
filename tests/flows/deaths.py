"""Ways for a machine to die in the middle of its work, and a laboratory of several machines to do it in."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from deliveries import add_manifests

from benchmarks.chaos.laboratory import Lab, flow_of, kill
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.assess import parse_report
from workpools.plan import REFERENCE_TEXTS_PER_S

WORKER, FLOW, BOTH, ASLEEP = "worker-killed", "flow-killed", "both-killed", "flow-stopped"
HOSTS = (WORKER, FLOW, BOTH, ASLEEP)  # each is called by what becomes of it


def register(home: Path, own: str) -> None:
    """Register the hosts as machines that are like `own` and as fast as each other, so that each gets a part of its own."""
    store = Store.configured(Paths(home))
    report = parse_report(store.reports()[own])
    for host in (own, *HOSTS):
        made_up = report.model_copy(update={"host": host, "embedding_texts_per_s": REFERENCE_TEXTS_PER_S})
        store.put_report(host, made_up.model_dump_json().encode())


def delivered(lab: Lab, seen: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Units that have reached the coordinator, taken in or not, by host; `seen` keeps the manifests read before."""
    add_manifests(lab.home, seen)
    found: dict[str, list[str]] = {}
    for manifest in seen.values():
        found.setdefault(manifest["host"], []).append(manifest["unit_id"])
    return found


@dataclass
class Disturbed:
    """What was seen of a pipeline in which four of five machines died."""

    done: subprocess.CompletedProcess[bytes]
    died_at: dict[str, float]
    seen: dict[str, dict[str, Any]]  # manifests of all bundles
    ended: dict[str, bool] = field(default_factory=dict)  # whether a flow process that was not killed ended by itself

    def goes_on_s(self, host: str, units: list[str]) -> float | None:
        """Seconds from a machine's death until another delivered the first of the units it owed; None where it owed none."""
        mine = {m["unit_id"] for m in self.seen.values() if m["host"] == host and m["at"] <= self.died_at[host]}
        rest = [m["at"] for m in self.seen.values() if m["host"] != host and m["unit_id"] in set(units) - mine]
        return min(rest) - self.died_at[host] if rest else None


def strike(host: str, worker: psutil.Process, flow: psutil.Process) -> None:
    """What the host is called by."""
    if host == ASLEEP:
        flow.suspend()
    else:
        kill({WORKER: [worker], FLOW: [flow], BOTH: [worker, flow]}[host])


def has_ended(process: psutil.Process, timeout_s: float) -> bool:
    """Whether it ends within a time; a zombie has ended, and who should reap it may be dead."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.2)
    return False


def disturb(lab: Lab, workers: Mapping[str, psutil.Process], arguments: list[str]) -> Disturbed:
    """Run a pipeline, strike each machine with its first result, and wake the stopped one when all is done."""
    seen: dict[str, dict[str, Any]] = {}
    died_at: dict[str, float] = {}
    flows: dict[str, psutil.Process] = {}
    command = lab.start("pipeline", *arguments)
    deadline = time.monotonic() + 900
    try:
        while command.poll() is None:
            there = delivered(lab, seen)
            for host in set(there) & set(workers) - set(died_at):
                if (flow := flow_of(workers[host])) is not None:
                    flows[host], died_at[host] = flow, time.monotonic()
                    strike(host, workers[host], flow)
            assert time.monotonic() < deadline, lab.logs()
            time.sleep(0.05)
        assert set(died_at) == set(HOSTS), f"{died_at}\n{lab.logs()}"
        flows[ASLEEP].resume()
        ended = {h: has_ended(flows[h], 240) for h in (ASLEEP, WORKER)}
    finally:
        kill([p for p in flows.values() if p.is_running()])
    assert lab.lab("collect").returncode == 0
    delivered(lab, seen)
    log = (lab.home / "logs" / "background.log").read_bytes()
    return Disturbed(subprocess.CompletedProcess([], command.returncode, log), died_at, seen, ended)


def kill_each_flow(lab: Lab, workers: Mapping[str, psutil.Process], command: subprocess.Popen[bytes]) -> int:
    """SIGKILL to every process of a shard until a command has ended; how many there were."""
    own = psutil.Process(lab.services()["worker-weak"])  # of all pools, so the pipeline's process is among its own
    watched = [*workers.values(), own]
    killed = 0
    deadline = time.monotonic() + 600
    while command.poll() is None:
        for worker in watched:
            for flow in lab.flow_processes(worker, "shard"):
                kill([flow])
                killed += 1
        assert time.monotonic() < deadline, lab.logs()
        time.sleep(0.05)
    return killed
