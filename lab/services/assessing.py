"""This machine's own report: read, and renewed when it is old."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from common.environment import host_name, python
from common.errors import LabError
from lab.services import processes
from warehouse.paths import Paths
from workpools.assess import parse_report, saved
from workpools.report import CapabilityReport

REPORT_FRESH = timedelta(hours=24)
ASSESS_S = 180.0  # a minute at most on a machine with nothing else to do; more is given to a busy one


def saved_report(paths: Paths) -> CapabilityReport | None:
    """Return this host's report, however old, or None if there is none that can be read."""
    return saved(paths.home, host_name())


def fresh_report(paths: Paths) -> CapabilityReport | None:
    """Return this host's report if it is less than a day old, else None."""
    report = saved_report(paths)
    return report if report and abs(datetime.now(UTC) - report.created_at) < REPORT_FRESH else None


def measure_speed(say: Callable[[str], None]) -> None:
    """Measure this machine's speeds, unless that was done before or its services are at work; `say` receives a line."""
    paths = Paths.local()
    report = fresh_report(paths)
    if (report is None or report.matrix_gflops is None) and not any(s.alive for s in processes.recorded(paths)):
        say("measuring the speed of this machine, less than a minute")
        with contextlib.suppress(LabError):  # the plan assumes an average machine
            assess(processes.clean_environment(paths), quick=False)


def assess_if_old(paths: Paths) -> None:
    """Assess this machine without measuring, unless there is a fresh report; without one _start_workers raises."""
    if fresh_report(paths) is None:
        with contextlib.suppress(LabError):
            assess(processes.clean_environment(paths))


def assess(environment: Mapping[str, str], quick: bool = True) -> CapabilityReport:
    """Run `lab assess` in a process of its own, so that this one loads no engine.

    Args:
        environment: of the process.
        quick: leave the speeds out. Beside a server that starts they come out several times too low (measured).

    Raises:
        LabError: it took too long or failed, with its last line.
    """
    command = [*python(), "lab", "assess", "--json", *(["--quick"] if quick else [])]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=ASSESS_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise LabError(f"this machine was not assessed within {ASSESS_S:.0f} s", "lab assess --quick") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise LabError(f"this machine could not be assessed: {lines[-1][:300]}", "lab assess")
    return parse_report(done.stdout)
