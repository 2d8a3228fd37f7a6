"""`lab demo --machines 3`: the demo on a coordinator and three machines, all on this one."""

from __future__ import annotations

import os
import sys
import threading
import time
import webbrowser
from dataclasses import dataclass

import psutil

from common.errors import LabError
from common.text import printable
from flows.plan import Plan
from lab.commands.hosts import print_hosts
from lab.exit_codes import EXIT_FAILED, EXIT_GATE
from lab.follow import follow_pipeline
from lab.services import up
from lab.services.machines import COORDINATOR, Box, Machine, example_machines, plug_when_working
from lab.services.processes import end_as_by_ctrl_c
from lab.submitting import How
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.choice import SETTING
from warehouse.paths import Paths
from workpools.assess import parse_report
from workpools.hosts import host_states

FOLDER = "machines"  # in LAB_HOME
UNPLUGGED, IN_PHASE = "laptop", "e1"  # the machine whose plug is pulled, and the phase
REPLICATED = "p1"  # the cheapest phase


@dataclass(frozen=True)
class Script:
    """The course of the demo; tests have smaller ones."""

    machines: tuple[Machine, ...]
    unplugged: str = UNPLUGGED
    in_phase: str = IN_PHASE
    until: str | None = None  # the last phase of the first pipeline
    replicated: str = REPLICATED
    page: bool = True


def demo_machines(
    planned: Plan,
    override: str | None,
    port: int,
    app_port: int,
    once: bool,
    speeds: bool,
    script: Script | None = None,
) -> int:
    """Run the demo on several machines in LAB_HOME/machines; return the exit code.

    Args:
        planned: the plan of the run.
        override: the reason to go on after a gate that is not PASS.
        once: stop everything after the results, instead of waiting for Ctrl-C.
        speeds: let the plan believe the example's speeds.
    """
    home = Paths.local().home
    found = script or Script(example_machines(psutil.cpu_count() or 1))
    box = Box(home / FOLDER, found.machines)
    box.prepare(home / "models")
    os.environ |= {"LAB_HOME": str(box.coordinator.home), "LAB_HOST": COORDINATOR}
    for name in (SETTING, "PREFECT_API_URL"):
        os.environ.pop(name, None)
    end_as_by_ctrl_c()
    try:
        return _play(box, found, planned, override, port, app_port, once, speeds)
    except KeyboardInterrupt:
        print("\nstopping", flush=True)
        return 0
    finally:
        box.down()
        up.down()


def _play(
    box: Box, script: Script, planned: Plan, override: str | None, port: int, app_port: int, once: bool, speeds: bool
) -> int:
    found = up.up(port, app_port, page=script.page, say=_say, command="lab demo --machines 3", serve=(COORDINATOR,))
    names = ", ".join(f"{m.name} {m.ram_gb:g} GB" for m in box.machines)
    _say(f"joining {names}")
    box.join(found.ui_url, box.machines)
    if speeds:
        box.pretend_speeds()
    _show(box)
    code = _unplugged_pipeline(box, script, planned, override)
    if code == EXIT_FAILED:
        return code
    _say(f"plugging {script.unplugged} in again")
    box.join(found.ui_url, [_named(box, script.unplugged)])
    _say(f"{script.replicated.upper()} once more on every machine, so that they can be compared")
    compared = follow_pipeline(planned.run, How(override, "replicate", script.replicated), brief=True)
    if compared == EXIT_FAILED or once:
        return EXIT_FAILED if compared == EXIT_FAILED else 0
    page = f"{found.app_url}/hosts"
    print(f"\nPrefect  {found.ui_url}\nResults  {found.app_url}\nHosts    {page}", flush=True)
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page)
    print("All stay up until Ctrl-C.", flush=True)
    while True:
        time.sleep(1)


def _unplugged_pipeline(box: Box, script: Script, planned: Plan, override: str | None) -> int:
    """Run the pipeline, each unit once; meanwhile pull the plug of one machine. Return the pipeline's exit code."""
    ended = threading.Event()
    arguments = (box, _named(box, script.unplugged), script.in_phase, up.connected(), _say, ended.is_set)
    watcher = threading.Thread(target=plug_when_working, args=arguments, daemon=True)
    watcher.start()
    try:
        code = follow_pipeline(planned.run, How(override, until=script.until), brief=True)
    finally:
        ended.set()
    watcher.join()
    return 0 if code == EXIT_GATE else code


def _named(box: Box, name: str) -> Machine:
    return next(m for m in box.machines if m.name == name)


def _show(box: Box) -> None:
    reports = [parse_report(text) for text in Store.configured(box.coordinator).reports().values()]
    print_hosts(host_states(up.connected(), reports))


def _say(text: object) -> None:
    print(printable(str(text)), flush=True)


def checked_number(machines: int) -> None:
    """Refuse another number of machines than the example has."""
    if machines != len(example_machines(1)):
        raise LabError(f"--machines {machines}: the example has three machines", "lab demo --machines 3")
