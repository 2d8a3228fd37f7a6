"""Measure this machine's speeds in the background, once it is quiet; a worker does so whose machine was not measured."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import psutil

from common.environment import host_name, python
from common.files import locked_file
from warehouse.paths import Paths
from workpools import measure

QUIET_S = 5.0  # for which all that runs here is looked at
QUIET_PERCENT = 20.0  # of all cores; a server, a page and workers at rest take less on two of them
AGAIN_S = 10.0
CONVERT_S = 600.0  # of weights; 21 s on two cores (measured), of which a Raspberry Pi has a ninth of the speed
ASSESS_S = 120.0  # lab assess takes less than a minute on a quiet machine


def is_quiet() -> bool:
    """Return True if the machine's processor has been nearly idle for QUIET_S."""
    return psutil.cpu_percent(QUIET_S) < QUIET_PERCENT


def measure_when_quiet(paths: Paths, quiet: Callable[[], bool] = is_quiet) -> None:
    """Wait until the machine is quiet and no shard runs on it; then assess it, in a process of its own.

    A shard that comes meanwhile waits, so that neither slows the other.
    """
    while True:
        if quiet():
            try:
                with locked_file(paths.shard_lock(host_name()), 0):
                    return _assess()
            except TimeoutError:
                pass
        time.sleep(AGAIN_S)


def _assess() -> None:
    measure.convert(CONVERT_S)  # a first phase would, and without it the model's speed is not measured
    print(f"measuring {host_name()}, which takes up to a minute", flush=True)
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            [*python(), "lab", "assess"], stdin=subprocess.DEVNULL, timeout=ASSESS_S, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"not measured within {ASSESS_S:.0f} s; to try again: lab assess", flush=True)
        return
    if done.returncode:
        print("not measured; to try again: lab assess", flush=True)
