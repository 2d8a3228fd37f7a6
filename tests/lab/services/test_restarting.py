"""What dies is started again, a few times, and what is stopped stays stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

# Dies by a signal as often as there are lines in a file, then waits.
DIES = """
import os, pathlib, signal, sys, time
log, times = pathlib.Path(sys.argv[1]), int(sys.argv[2])
with log.open("a") as file: print(os.getpid(), file=file)
if len(log.read_text().splitlines()) <= times: os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""
QUICK = "import sys; from lab.services import restarting as r; r.AGAIN_S = 0.0; sys.exit(r.run(sys.argv[1:]))"


def started(log: Path, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", QUICK, sys.executable, "-c", DIES, str(log), str(times)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def pids(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()] if log.is_file() else []


def test_a_killed_command_is_started_again_and_ends_with_its_restarting_process(tmp_path: Path) -> None:
    """An inbox out of memory would else be gone until somebody notices; lab down must not meet a new one."""
    process = started(tmp_path / "log", 2)
    until(lambda: len(pids(tmp_path / "log")) == 3)
    last = pids(tmp_path / "log")[-1]
    assert psutil.pid_exists(last)
    process.send_signal(signal.SIGTERM)
    _, logged = process.communicate(timeout=30)
    assert not psutil.pid_exists(last)
    lines = logged.splitlines()
    assert len(lines) == 2 and "signal 9" in lines[0] and "(2 of 5 within an hour)" in lines[1]


def test_it_gives_up_after_five_restarts(tmp_path: Path) -> None:
    """A command that dies at once would else be started for ever."""
    process = started(tmp_path / "log", 100)
    _, logged = process.communicate(timeout=60)
    assert process.returncode == 1 and len(pids(tmp_path / "log")) == 6
    assert logged.splitlines()[-1].endswith("after 5 restarts within an hour; it is not started again")


def test_a_users_mistake_is_not_repeated(tmp_path: Path) -> None:
    """A port that is taken is taken at the second start as well."""
    command = [sys.executable, "-c", QUICK, sys.executable, "-c", "import sys; sys.exit(2)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "")


def test_a_command_notices_that_its_restarting_process_died(tmp_path: Path) -> None:
    """Else it would hold its port, and no record would name it."""
    code = "import sys, time; from lab.services.restarting import orphaned\nprint('up', flush=True)\n"
    code += "while not orphaned(): time.sleep(0.02)"
    command = [sys.executable, "-c", QUICK, sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    process.stdout.close()
