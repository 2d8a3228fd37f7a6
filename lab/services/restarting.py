"""Run a command, and run it again when it dies: `python -m lab.services.restarting COMMAND...`

It imports the standard library only, since it stays in memory (10 MB) as long as its command runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

MOST, WITHIN_S = 5, 3600.0  # restarts; what dies more often has a cause that another start does not remove
AGAIN_S = 1.0  # before the first restart, doubled for each further one
ENDED_WELL, USERS_MISTAKE = 0, 2  # exit codes after which another start would do the same again
SERVICE = "LAB_SERVICE"  # in the environment: what lab calls the command
PARENT = "LAB_RESTARTING_PID"  # in the environment of the command: this process


def run(command: Sequence[str]) -> int:
    """Run `command` until it ends well, SIGTERM comes, or it died MOST times within WITHIN_S; return an exit code."""
    ended = False
    child: subprocess.Popen[bytes] | None = None

    def end(*_: object) -> None:
        nonlocal ended
        ended = True
        if child is not None:
            child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    died: list[float] = []
    name = os.environ.get(SERVICE) or os.path.basename(command[0])  # noqa: PTH119 - no further import
    while True:
        child = subprocess.Popen(list(command), env={**os.environ, PARENT: str(os.getpid())})  # noqa: S603 - our own
        if ended:  # the signal came before there was a child
            child.terminate()
        code = child.wait()
        if ended or code in (ENDED_WELL, USERS_MISTAKE):
            return max(0, code)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        died = [at for at in died if time.monotonic() - at < WITHIN_S]
        if len(died) == MOST:
            _log(f"{name} ended with {how}, after {MOST} restarts within an hour; it is not started again")
            return 1
        died.append(time.monotonic())
        _log(f"{name} ended with {how} and is started again ({len(died)} of {MOST} within an hour)")
        time.sleep(0 if ended else AGAIN_S * 2 ** (len(died) - 1))
        if ended:
            return 0


def orphaned() -> bool:
    """Return True in a command whose restarting process has died: nobody would know of it, and it would hold its port."""
    parent = os.environ.get(PARENT)
    return parent is not None and parent != str(os.getppid())


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S UTC ", time.gmtime()) + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
