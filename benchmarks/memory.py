"""How much memory do a laboratory at rest, and a weak machine with a shard of P1, take?

    python -m benchmarks.memory --rest-s 20

    {
      "benchmark": "memory",
      "ratio": 1.05,
      "needed": 1.0,
      "seconds": {"whole": 223.014},
      "counts": {"processes_at_rest": 3, "processes_at_work": 3},
      "compared": "limits in MB over memory (PSS, else RSS); the laboratory at rest, and a weak machine in P1",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 8.9, "torch": "2.13.0+cpu"},
      "at_rest": {"rss_mb": 421, "pss_mb": 367, "processes": [{"name": "server", "rss": 238, "pss": 213},
        {"name": "worker-coordinator", "rss": 108, "pss": 92}, {"name": "page", "rss": 74, "pss": 62}]},
      "weak_machine": {"rss_mb": 594, "pss_mb": 427, "processes": [{"name": "engine", "rss": 342, "pss": 270},
        {"name": "imports of engines", "rss": 149, "pss": 72}, {"name": "worker-weak", "rss": 102, "pss": 85}]}
    }

`lab up` starts a laboratory in a temporary LAB_HOME: after `rest-s` seconds without work its processes are measured. Then a
second LAB_HOME joins it as a weak machine, which computes P1 at scale smoke with the real embedder; its processes are
measured five times a second, and the moment with the most memory in all counts.
- rss_mb: memory that a process holds, pages shared with others included; the sum counts shared pages more than once.
- pss_mb: the same with each shared page divided among those that share it; the sum is what the machine gives. Linux only.
- The engine is a copy of the process that holds its imports, so they share most of those: only PSS counts them once.
- ratio: the smaller of limit over measured, 600 MB for the laboratory at rest and 450 MB for the weak machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.common import show
from lab.services import processes
from lab.services.environments import prefect_environment
from lab.services.processes import MARK
from lab.services.up import free_port, worker_command
from warehouse.paths import Paths
from workpools.pools import connect, create_queues

NAME = "memory"
REST_MB, WEAK_MB = 600.0, 450.0  # of all processes: a Raspberry Pi with 4 GB has room for both beside its system
SAMPLE_S = 0.2
WAIT_S = 900.0
KINDS = {  # a word of the command line -> what the process is
    "prefect.engine": "engine",
    "lab.services.prefect_engines": "imports of engines",
    "_workspace_runtime_bootstrap": "engine",
    "_workspace_supervisor": "supervisor",
}


class Process(NamedTuple):
    """Memory of a process, in MB (10^6 bytes)."""

    name: str
    rss_mb: float
    pss_mb: float | None


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return this process's environment without what a user may have set for another laboratory."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    return own | {"LAB_HOME": str(home), "HF_HUB_OFFLINE": "1"} | more


def lab(home: Path, *arguments: str, **more: str) -> None:
    """Run a command of lab to its end."""
    command = [sys.executable, "-m", "lab", *arguments]
    done = subprocess.run(command, env=environment(home, **more), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode not in (0, 3):  # 3: a gate of the small scale is closed
        raise SystemExit(f"lab {' '.join(arguments)}: {done.stdout[-1000:]}{done.stderr[-2000:]}")


def measured(home: Path) -> list[Process]:
    """Measure the processes that lab started for a LAB_HOME, and those that they started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            own = process.environ()
            if own.get("LAB_HOME") != str(home) or MARK not in own:
                continue
            line = " ".join(process.cmdline())
            named = process.name() if process.name() in KINDS else line
            name = next((kind for word, kind in KINDS.items() if word in named), own[MARK])
            full = process.memory_full_info() if hasattr(process, "memory_full_info") else process.memory_info()
            pss = getattr(full, "pss", None)
            found.append(Process(name, full.rss / 1e6, None if pss is None else pss / 1e6))
    return sorted(found, key=lambda p: -p.rss_mb)


def total_mb(found: Sequence[Process]) -> float:
    """Return what they take together: the sum of their PSS, or of their RSS where the system tells no PSS."""
    return sum(p.rss_mb if p.pss_mb is None else p.pss_mb for p in found)


def most(home: Path, ended: Callable[[], bool]) -> list[Process]:
    """Return the processes of a LAB_HOME at the moment when they held the most memory, until `ended()`."""
    found: list[Process] = []
    while not ended():
        now = measured(home)
        if total_mb(now) > total_mb(found):
            found = now
        time.sleep(SAMPLE_S)
    return found


def shown(found: Sequence[Process]) -> dict[str, Any]:
    """Return the numbers for the JSON."""
    each = [{"name": p.name, "rss": round(p.rss_mb), "pss": p.pss_mb and round(p.pss_mb)} for p in found]
    pss = [p.pss_mb for p in found if p.pss_mb is not None]
    return {
        "rss_mb": round(sum(p.rss_mb for p in found)),
        "pss_mb": round(sum(pss)) if pss else None,
        "processes": each,
    }


def at_rest(home: Path, port: int, rest_s: float) -> list[Process]:
    """Start a laboratory and measure it after `rest_s` without work."""
    lab(home, "up", "--quick", "--port", str(port), "--app-port", str(free_port(port + 1)), LAB_HOST="coordinator")
    time.sleep(rest_s)
    return measured(home)


def at_work(coordinator: Path, weak: Path, port: int) -> list[Process]:
    """Start a worker of pool weak in a LAB_HOME of its own, run P1 there, and return the moment with the most memory."""
    results = {"LAB_HOST": "weak", "LAB_HOME": str(weak), "LAB_RESULTS_URL": str(coordinator / "results")}
    lab(coordinator, "drain", "coordinator", LAB_HOST="coordinator")
    os.environ.update(results)
    paths = Paths(weak)
    settings = prefect_environment(paths, port)
    create_queues(connect(settings["PREFECT_API_URL"]), ["weak"], "weak")
    processes.start(paths, "worker-weak", worker_command("weak"), settings)
    command = [sys.executable, "-m", "lab", "pipeline", "--scale", "smoke"]
    own = environment(coordinator, LAB_HOST="coordinator")
    run = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    began = time.monotonic()
    try:
        return most(
            weak, lambda: run.poll() is not None or time.monotonic() - began > WAIT_S or p1_is_decided(coordinator)
        )
    finally:
        run.terminate()
        run.wait()


def p1_is_decided(home: Path) -> bool:
    """Return True once the snapshot has P1's verdict."""
    path = Paths(home).snapshot
    if not path.is_file():
        return False
    import duckdb

    with suppress(duckdb.Error), duckdb.connect(str(path), read_only=True) as con:
        return bool(con.execute("SELECT count(*) FROM verdicts WHERE phase = 'p1'").fetchall()[0][0])
    return False


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--rest-s", type=float, default=20.0, help="seconds without work before the laboratory is measured"
    )
    given = parser.parse_args(argv)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lab-memory-", ignore_cleanup_errors=True) as folder:
        coordinator, weak, port = Path(folder) / "coordinator", Path(folder) / "weak", free_port(4300)
        try:
            rest = at_rest(coordinator, port, given.rest_s)
            print(json.dumps(shown(rest)), file=sys.stderr, flush=True)
            work = at_work(coordinator, weak, port)
        finally:
            lab(weak, "down")
            lab(coordinator, "down")
    show(
        NAME,
        min(REST_MB / total_mb(rest), WEAK_MB / total_mb(work)),
        1.0,
        {"whole": time.perf_counter() - began},
        {"processes_at_rest": len(rest), "processes_at_work": len(work)},
        "limits in MB over memory (PSS, else RSS); the laboratory at rest, and a weak machine in P1",
        at_rest=shown(rest),
        weak_machine=shown(work),
    )


if __name__ == "__main__":
    main()
