"""Run ssh for sftp, rsync and git: with known host keys only, and without questions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import LabError
from warehouse.delivery.transports.protocol import CONNECT_S, UnreachableError, last_line

CONFIG = "LAB_SSH_CONFIG"  # environment variable: another file than ~/.ssh/config
Done = subprocess.CompletedProcess[bytes]
UNKNOWN_KEY = re.compile(r"host key verification failed|host key .*(unknown|changed)|no .*host key is known", re.I)


def config_file() -> Path | None:
    """Return the ssh_config named by LAB_SSH_CONFIG, or None.

    Raises:
        LabError: it does not exist.
    """
    value = os.environ.get(CONFIG)
    if not value:
        return None
    path = Path(value)
    # git splits the command like a shell, so the name may not need quotes.
    if not path.is_absolute() or not path.is_file() or not re.fullmatch(r"[A-Za-z0-9._/-]+", value):
        raise LabError(f"{CONFIG} = {value[:200]!r} is not a plain path of a file", f"export {CONFIG}=/path/ssh_config")
    return path


def command(port: int | None = None) -> list[str]:
    """Return the ssh command: host keys must be known, and no question is asked."""
    config = config_file()
    options = f"BatchMode=yes StrictHostKeyChecking=yes ConnectTimeout={CONNECT_S} ServerAliveInterval=15 ServerAliveCountMax=4"
    settings = [word for option in options.split() for word in ("-o", option)]
    return ["ssh", *(["-F", str(config)] if config else []), *settings, *(["-p", str(port)] if port else [])]


def needed(program: str) -> str:
    """Return the full path of a program.

    Raises:
        LabError: it is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise LabError(f"{program} is not installed", f"apt-get install {program}, or brew install {program}")
    return found


def run(
    arguments: Sequence[str], *, timeout_s: float, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> Done:
    """Run a program on an argument list and wait for it.

    Raises:
        UnreachableError: it took longer than `timeout_s`.
    """
    try:
        return subprocess.run(list(arguments), input=stdin, capture_output=True, timeout=timeout_s, env=environment)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{Path(arguments[0]).name} did not end within {timeout_s:.0f} s", "lab sync") from None


def unreachable(where: str, host: str, output: str) -> UnreachableError:
    """Return the error for a program's output: why the host could not be reached, and what to do."""
    if UNKNOWN_KEY.search(output):
        return UnreachableError(
            f"{where}: the host key of {host} is unknown, or has changed",
            f"compare its fingerprint with the one that {host} shows, then: ssh {host}",
        )
    return UnreachableError(f"{where}: {last_line(output)}", "when it answers again: lab sync")
