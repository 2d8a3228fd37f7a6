"""How sftp, rsync and git reach another machine: by OpenSSH's rules, with known host keys, and never asking anybody."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import LabError
from warehouse.delivery.transports.protocol import CONNECT_S, UnreachableError, told

CONFIG = "LAB_SSH_CONFIG"  # environment variable: another file than ~/.ssh/config
UNKNOWN_KEY = re.compile(r"host key verification failed|host key .*(unknown|changed)|no .*host key is known", re.I)


def config_file() -> Path | None:
    """The ssh_config named by LAB_SSH_CONFIG, if one is.

    Raises:
        LabError: it is not there.
    """
    value = os.environ.get(CONFIG)
    if not value:
        return None
    path = Path(value)
    # Its name goes through git's shell-like splitting as well, so nothing that needs quoting may stand in it.
    if not path.is_absolute() or not path.is_file() or not re.fullmatch(r"[A-Za-z0-9._/-]+", value):
        raise LabError(f"{CONFIG} = {value[:200]!r} is no plain path of a file", f"export {CONFIG}=/path/ssh_config")
    return path


def command(port: int | None = None) -> list[str]:
    """ssh with what we insist on: keys of hosts are known before, and no question is asked."""
    config = config_file()
    return [
        "ssh",
        *(["-F", str(config)] if config else []),
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        f"ConnectTimeout={CONNECT_S}",
        "-o",
        "ServerAliveInterval=15",
        "-o",
        "ServerAliveCountMax=4",
        *(["-p", str(port)] if port else []),
    ]


def needed(program: str) -> str:
    """The full path of a program.

    Raises:
        LabError: it is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise LabError(f"{program} is not installed here", f"apt-get install {program}, or brew install {program}")
    return found


def run(
    arguments: Sequence[str], *, timeout_s: float, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program on an argument list and wait for it.

    Raises:
        UnreachableError: it took longer than `timeout_s`.
    """
    try:
        return subprocess.run(  # noqa: S603 - a list, no shell
            list(arguments),
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=dict(environment) if environment is not None else None,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{Path(arguments[0]).name} did not end within {timeout_s:.0f} s", "lab sync") from None


def unreachable(where: str, host: str, said: str) -> UnreachableError:
    """Why a machine could not be used, in one line, and what mends it."""
    if UNKNOWN_KEY.search(said):
        return UnreachableError(
            f"{where}: the host key of {host} is not known here, or is another than before",
            f"compare its fingerprint with the one shown there, then: ssh {host}",
        )
    return UnreachableError(f"{where}: {told(said)}", "when it is back: lab sync")
