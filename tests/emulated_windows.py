"""Windows as this project's own modules see it: what only POSIX systems have is absent for them, and for no other module.

Paths, processes and files stay this system's; what Windows does with them is refused or checked here.
"""

from __future__ import annotations

import builtins
import fcntl
import os
import platform
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

FLOORS = ("app", "common", "experiments", "flows", "lab", "warehouse", "workpools")
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
ABSENT = {
    "os": """chown fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getsid getuid killpg lchown
        memfd_create mkfifo mknod nice openpty pipe2 posix_spawn pread pwrite readv register_at_fork sched_getaffinity
        sched_setaffinity sendfile setegid seteuid setgid setpgid setsid setuid statvfs sync sysconf uname wait wait3 wait4 writev
        O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG""",
    "signal": """SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH
        alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigwait""",
    "socket": "AF_UNIX SO_REUSEPORT fromfd_unix",
    "select": "epoll poll",
}
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]')
LONGEST = 190  # characters below LAB_HOME, which leaves 70 of Windows' 260 for its own path


class FakeModule(ModuleType):
    """A module of the standard library as it is on Windows."""

    def __init__(self, real: ModuleType, absent: str, more: dict[str, Any]) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(more, _real=real, _absent=set(absent.split()))

    def __getattr__(self, name: str) -> Any:
        if name in self._absent:
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._real, name)


def fake_open(path: Any, flags: int, mode: int = 0o777) -> int:
    """As os.open, which opens no folder there."""
    if os.path.isdir(path):  # noqa: PTH112
        raise PermissionError(13, "Permission denied", str(path))
    return os.open(path, flags, mode)


def fake_fsync(handle: int) -> None:
    """As os.fsync, which takes no file there that was opened for reading."""
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "Bad file descriptor")
    os.fsync(handle)


def fake_popen(command: Any, creationflags: int = 0, **given: Any) -> subprocess.Popen[Any]:
    """As subprocess.Popen, without what it refuses there."""
    assert not {"preexec_fn", "start_new_session", "pass_fds", "user", "group", "umask"} & set(given), given
    return subprocess.Popen(command, start_new_session=bool(creationflags), **given)


def fakes() -> dict[str, FakeModule]:
    """Return the modules by name."""
    more: dict[str, dict[str, Any]] = {
        "os": {"name": "nt", "open": fake_open, "fsync": fake_fsync},
        "subprocess": {"CREATE_NEW_PROCESS_GROUP": 0x200, "CREATE_NO_WINDOW": 0x8000000, "Popen": fake_popen},
        "sys": {"platform": "win32"},
        "platform": {"system": lambda: "Windows"},
    }
    real = (os, platform, signal, socket, subprocess, sys)
    return {m.__name__: FakeModule(m, ABSENT.get(m.__name__, ""), more.get(m.__name__, {})) for m in real}


def own(name: str) -> bool:
    """Return True for a module of this project."""
    return name.partition(".")[0] in FLOORS


def importing() -> Any:
    """Return an __import__ that gives this project's modules what Windows has, and all others what there is."""
    given, real = fakes(), builtins.__import__

    def fake_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level == 0 and globals and own(str(globals.get("__package__") or globals.get("__name__"))):
            if name.partition(".")[0] in POSIX_MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in given:
                return given[name]
        return real(name, globals, locals, fromlist, level)

    return fake_import


@contextmanager
def windows() -> Iterator[None]:
    """Import this project's modules anew in the block, as on Windows; those of before come back after it."""
    before = {name: module for name, module in sys.modules.items() if own(name)}
    for name in before:
        del sys.modules[name]
    try:
        with patch.object(builtins, "__import__", importing()):
            yield
    finally:
        for name in [name for name in sys.modules if own(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def refused_names(folder: Path) -> list[str]:
    """Return the paths below a folder that Windows does not take, and those that differ by case alone."""
    found, seen = [], set[str]()
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).as_posix()
        wrong = FORBIDDEN.search(path.name) or RESERVED.fullmatch(path.name) or path.name[-1] in " ."
        if wrong or len(inside) > LONGEST or inside.lower() in seen:
            found.append(inside)
        seen.add(inside.lower())
    return found
