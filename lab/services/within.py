"""Run a command as on a smaller machine: `python -m lab.services.within --ram-gb 4 --cores 0 --name pi-4 -- COMMAND ...`.

What it starts inherits both. Memory is limited by a control group where this user may make one, else by systemd; where neither
is allowed LAB_RAM_GB alone says what the machine has.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common.resources import GB, LENT

CGROUPS = Path("/sys/fs/cgroup")
TRY_S = 5.0  # for systemd to say whether it may
LEAVE_S = 10.0  # for the ends of what was killed; the group is left behind after that


def group_for(name: str, ram_gb: float, root: Path = CGROUPS) -> Path | None:
    """Return a new or existing control group with this limit, of version 2 or 1; None where none can be made."""
    for top, limit in ((root, "memory.max"), (root / "memory", "memory.limit_in_bytes")):
        folder = top / f"lab-{name}"
        with suppress(OSError):
            if not top.is_dir() or (limit == "memory.max" and not (root / "cgroup.controllers").is_file()):
                continue
            folder.mkdir(exist_ok=True)
            with (folder / limit).open("r+") as file:  # it exists only where the controller is on
                file.write(str(int(ram_gb * GB)))
            return folder
    return None


def leave(name: str, root: Path = CGROUPS) -> None:
    """Remove the control group of this name. A killed process is in its group until its parent has read its end."""
    until = time.monotonic() + LEAVE_S
    for folder in (root / f"lab-{name}", root / "memory" / f"lab-{name}"):
        while folder.is_dir() and time.monotonic() < until:
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def command_within(name: str, ram_gb: float, command: Sequence[str]) -> list[str]:
    """Enter a control group and return the command, or the command by systemd, or as it is."""
    if group := group_for(name, ram_gb):
        with suppress(OSError):
            (group / "cgroup.procs").write_text(str(os.getpid()))
            return list(command)
    if (systemd := shutil.which("systemd-run")) is not None:
        scope = [systemd, "--user", "--scope", "--quiet", "-p", f"MemoryMax={int(ram_gb * GB)}"]
        with suppress(OSError, subprocess.TimeoutExpired):
            tried = subprocess.run([*scope, "true"], capture_output=True, timeout=TRY_S, check=False)  # noqa: S603
            if tried.returncode == 0:
                return [*scope, *command]
    return list(command)


def main(argv: Sequence[str] | None = None) -> None:
    """Replace this process by the command."""
    parser = argparse.ArgumentParser(description="Run a command as on a smaller machine.")
    parser.add_argument("--ram-gb", type=float, required=True)
    parser.add_argument("--cores", default="", help="numbers, separated by commas")
    parser.add_argument("--name", required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    if given.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in given.cores.split(",")})
    words = given.command[1:] if given.command[:1] == ["--"] else given.command
    found = command_within(given.name, given.ram_gb, words)
    sys.stdout.flush()
    os.execve(found[0], found, os.environ | {LENT: f"{given.ram_gb:g}"})  # noqa: S606


if __name__ == "__main__":
    main()
