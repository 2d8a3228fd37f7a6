"""This machine's own report: read, renewed when it is old, and measured where nothing else is at work."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from common.environment import host_name, python
from lab.services import processes
from warehouse.paths import Paths
from workpools.assess import saved
from workpools.report import CapabilityReport

REPORT_FRESH = timedelta(hours=24)


def saved_report(paths: Paths) -> CapabilityReport | None:
    """Return this host's report, however old, or None if there is none that can be read."""
    return saved(paths.home, host_name())


def fresh_report(paths: Paths) -> CapabilityReport | None:
    """Return this host's report if it is less than a day old, else None."""
    report = saved_report(paths)
    return report if report and abs(datetime.now(UTC) - report.created_at) < REPORT_FRESH else None


def measure_speed(say: Callable[[str], None]) -> None:
    """Measure this machine's speeds, unless that was done today or its services are at work; `say` receives a line."""
    paths = Paths.local()
    report = fresh_report(paths)
    if (report is None or report.matrix_gflops is None) and not any(s.alive for s in processes.recorded(paths)):
        say("measuring the speed of this machine, less than a minute")
        _assess(paths)


def assess_if_old(paths: Paths) -> None:
    """Assess this machine without its speeds, unless there is a fresh report."""
    if fresh_report(paths) is None:
        # Speeds are left to `lab assess`: beside a server that starts they would come out several times too low (measured).
        _assess(paths, "--quick")


def _assess(paths: Paths, *options: str) -> None:
    """Assess this machine in a process of its own, so that this one loads no engine; without a report _start_workers raises."""
    command, own = [*python(), "lab", "assess", *options, "--json"], processes.clean_environment(paths)
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env=own, capture_output=True, timeout=120, check=False)  # noqa: S603
