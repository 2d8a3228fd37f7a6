"""Ask a program of the system for something; one that fails or hangs is told apart from one that is not installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

END_S = 0.2  # for a program that was killed to close its output; one that waits for a driver cannot be killed


class Answer(NamedTuple):
    """What a program printed, and how it ended: "" for exit code 0."""

    text: str
    errors: str
    ended: str


def ask(command: Sequence[str], timeout_s: float) -> Answer | None:
    """Return what a program answers, None where it is not installed. It never takes longer than `timeout_s` and END_S."""
    tool = shutil.which(command[0])
    if tool is None:
        return None
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        # A group of its own, so that what it started ends with it.
        child = subprocess.Popen(  # noqa: S603
            [tool, *command[1:]], stdin=nothing, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except OSError as error:
        return Answer("", "", f"cannot be started: {error.strerror}")
    try:
        printed, errors = child.communicate(timeout=timeout_s)
        code = child.returncode
        ended = f"ended by signal {-code}" if code < 0 else f"exit code {code}" if code else ""
    except subprocess.TimeoutExpired as late:
        _kill(child)
        printed, errors = late.stdout or b"", late.stderr or b""
        with suppress(subprocess.TimeoutExpired):
            printed, errors = child.communicate(timeout=END_S)
        ended = f"did not answer within {timeout_s:.3g} s"
    return Answer(printed.decode(errors="replace"), errors.decode(errors="replace"), ended)


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if sys.platform == "win32":
            child.kill()
        else:
            os.killpg(child.pid, signal.SIGKILL)
