"""A real PostgreSQL of one's own on a free port of loopback, gone afterwards; Debian's, where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.services.processes import holder_of

USER = "postgres"
READY_S = 60.0
FIRST_PORT = 20_000  # below those that the system gives to whoever connects


class NoPostgresqlError(Exception):
    """It cannot be started here; the message says what is missing."""


def free_port() -> int:
    """A port of loopback on which nobody listens, not the same for two processes that look at once."""
    first = FIRST_PORT + os.getpid() % 10_000
    return next(p for p in range(first, 65536) if holder_of(p) is None)


def binary(name: str) -> str | None:
    """Where a program of PostgreSQL's server lies: in Debian's folder of the newest version, or on the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(debian[0]) if debian else shutil.which(name)


def _its_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam(USER)
    except KeyError:
        raise NoPostgresqlError(f"running as root, and there is no user {USER}") from None
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextmanager
def database() -> Iterator[str]:
    """Its address as LAB_DATABASE_URL wants it.

    Raises:
        NoPostgresqlError: it is not installed, or does not start.
    """
    initdb, server = binary("initdb"), binary("postgres")
    if not initdb or not server:
        raise NoPostgresqlError("PostgreSQL is not installed here: apt-get install postgresql")
    account, port = _its_user(), free_port()
    # Its user must reach the folder, which it may not below one of mode 700.
    home = Path(tempfile.mkdtemp(prefix="lab-postgresql-"))
    try:
        if account:
            os.chown(home, account["user"], account["group"])
        made = [initdb, "-D", str(home / "data"), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=home, timeout=120, **account)  # noqa: S603
        started = [
            server,
            "-D",
            str(home / "data"),
            "-p",
            str(port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-k",
            str(home),
        ]
        with (home / "log").open("wb") as log:
            running = subprocess.Popen(  # noqa: S603
                started, stdout=log, stderr=log, cwd=home, start_new_session=True, **account
            )
        try:
            _wait(running, home, port)
            yield f"postgresql+asyncpg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            running.terminate()
            running.wait(60)
    finally:
        shutil.rmtree(home)


def _wait(running: subprocess.Popen[bytes], home: Path, port: int) -> None:
    asked = [binary("pg_isready") or "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + READY_S
    while subprocess.run(asked, capture_output=True, cwd=home, check=False).returncode != 0:  # noqa: S603
        if running.poll() is not None or time.monotonic() > deadline:
            raise NoPostgresqlError((home / "log").read_text(errors="replace")[-500:])
        time.sleep(0.5)
