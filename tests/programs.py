"""Programs that tests run for real; a test whose program is not installed is skipped, by its name."""

from __future__ import annotations

import os
import shutil

import pytest

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
PACKAGES = {  # of Debian, by program
    "chromium": "chromium",
    "gcc": "gcc",
    "git": "git",
    "make": "make",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "postgres": "postgresql",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
}


def found(program: str) -> str | None:
    """Return the path of a program, also where only root looks for it."""
    return shutil.which(program, path=SEARCHED)


def require(*programs: str) -> None:
    """Skip the test unless these programs are installed."""
    for program in programs:
        if found(program) is None:
            missing(program)


def missing(program: str) -> None:
    """Skip the test for want of a program, with the command that installs it."""
    pytest.skip(f"{program} is not installed: apt-get install {PACKAGES[program]}")
