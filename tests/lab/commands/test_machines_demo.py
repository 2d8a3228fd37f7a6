"""`lab demo --machines 3` with fake embedders: three machines on this one, a plug that is pulled, a comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from lab_process import Run, bare_environment
from ports import free_port

from benchmarks.chaos.fake_models import EMBEDDERS, embedders
from common.resources import memory
from lab.services import within
from lab.services.machines import example_machines

UNITS = 8
# One weak machine, so that P1 is its; two others that help out.
PLAY = """
import json, sys
from flows.plan import plan
from lab.commands.machines import Script, demo_machines
from lab.services.machines import Machine
given, ports = json.loads(sys.argv[1]), json.loads(sys.argv[2])
machines = (Machine("pi-4", 6, (0,), ("weak",)), Machine("laptop", 4, (0,)), Machine("desktop", 6, (0,), ("weak",)))
script = Script(machines, in_phase="p1", until="p1", page=False)
sys.exit(demo_machines(plan("smoke", {"p1": given}), "a test", *ports, True, False, script))
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(memory().available_gb < 6, reason="6 GB of free memory make a medium machine")
def test_the_work_of_the_laptop_goes_elsewhere_and_all_are_compared(tmp_path: Path) -> None:
    """What the demo promises: the phase has a result although its machine died in the middle, and the machine comes back."""
    home = tmp_path / "home"
    environment = bare_environment(home) | embedders(home, pause_s=0.05) | {"LAB_SECRETS": str(tmp_path / "secrets")}
    given = json.dumps({"embedders": EMBEDDERS[:UNITS], "n_memory": 24})
    done = subprocess.run(
        [sys.executable, "-c", PLAY, given, json.dumps([free_port(), free_port()])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
        cwd=tmp_path,
    )
    logs = "".join(p.read_text(errors="replace")[-2000:] for p in home.glob("machines/*/logs/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert "*** the plug of laptop is pulled, in the middle of: p1" in done.stdout
    assert "plugging laptop in again" in done.stdout
    with duckdb.connect(str(home / "machines" / "coordinator" / "snapshot.duckdb"), read_only=True) as con:

        def rows(sql: str) -> list[tuple[object, ...]]:
            return con.execute(sql).fetchall()

        assert rows(
            "SELECT count(DISTINCT unit_id), count(DISTINCT b.unit_id) FROM units LEFT JOIN bundles b USING (unit_id)"
        ) == [(UNITS + 1, UNITS + 1)]
        assert rows("SELECT count(*) FROM given_up") == rows("SELECT count(*) FROM quarantine") == [(0,)]
        first = {str(host) for (host,) in rows("SELECT DISTINCT host FROM bundles WHERE replicate = 0")}
        assert first & {"pi-4", "desktop"}, "nobody took over"
        compared = {str(host) for (host,) in rows("SELECT DISTINCT host FROM host_comparison WHERE phase = 'p1'")}
        assert compared == {"pi-4", "laptop", "desktop"}
    assert not list(Path("/sys/fs/cgroup").glob("*/lab-pi-4"))


def test_a_control_group_is_removed_once_its_last_process_is_gone(tmp_path: Path) -> None:
    """A killed process stays in its group for a moment, and the group stayed behind for good."""
    process = tmp_path / "memory" / "lab-pi-4" / "process"
    process.mkdir(parents=True)
    threading.Timer(0.3, process.rmdir).start()
    within.leave("pi-4", tmp_path)
    assert list((tmp_path / "memory").iterdir()) == []
    within.leave("pi-4", tmp_path)  # nothing is there


def test_the_machines_are_those_of_the_example() -> None:
    """A Raspberry Pi on one core, a laptop on some, a desktop on all: the same as lab plan --example."""
    pi, laptop, desktop = example_machines(os.cpu_count() or 1)
    assert [(m.name, m.ram_gb) for m in (pi, laptop, desktop)] == [("pi-4", 4), ("laptop", 8), ("desktop", 16)]
    assert len(pi.cores) == 1 and set(pi.cores) | set(laptop.cores) <= set(desktop.cores)
    assert (pi.also, laptop.also, desktop.also) == ((), ("weak",), ("medium", "weak"))


def test_another_number_of_machines_is_refused(called: Run) -> None:
    """Four would need a fourth example."""
    assert "the example has three machines. lab demo --machines 3" in called("demo", "--machines", "4").stderr
    assert "--speeds is for --machines. lab demo --machines 3 --speeds" in called("demo", "--speeds").stderr


def test_a_command_runs_within_its_memory_and_cores() -> None:
    """What it starts is limited as well: a worker starts the processes that take the memory."""
    core = sorted(os.sched_getaffinity(0))[0]
    code = "import os; from common.resources import memory; m = memory(); print(m.available_gb, m.limit_gb, os.sched_getaffinity(0))"
    command = [sys.executable, "-m", "lab.services.within", "--ram-gb", "0.5", "--cores", str(core), "--name", "a-test"]
    try:
        done = subprocess.run(
            [*command, "--", sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
        )
    finally:
        within.leave("a-test")
    assert done.returncode == 0, done.stderr
    available, limit, *cores = done.stdout.split()
    assert float(available) <= 0.5 == float(limit) and "".join(cores) == f"{{{core}}}"


@pytest.mark.parametrize(("version", "limit"), [(2, "memory.max"), (1, "memory.limit_in_bytes")])
def test_a_control_group_is_made_where_that_is_allowed(version: int, limit: str, tmp_path: Path) -> None:
    """Of either version; where its folder has no limit, the controller is off and the group would limit nothing."""
    top = tmp_path if version == 2 else tmp_path / "memory"
    top.mkdir(exist_ok=True)
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("memory")
    assert within.group_for("pi-4", 4, tmp_path) is None  # the kernel would have made the file
    (top / "lab-pi-4" / limit).write_text("max")
    assert within.group_for("pi-4", 4, tmp_path) == top / "lab-pi-4"
    assert (top / "lab-pi-4" / limit).read_text() == "4000000000"
    assert within.group_for("pi-4", 4, tmp_path / "none") is None
