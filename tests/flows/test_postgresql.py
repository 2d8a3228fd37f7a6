"""Prefect on PostgreSQL: one setting, and a pipeline runs; more than a few hosts want it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from laboratory import Lab, free_port

USER = "postgres"


def binary(name: str) -> str | None:
    """Where a program of PostgreSQL's server lies: on the path, or in Debian's folder of the newest version."""
    found = shutil.which(name)
    return found or next(
        (str(p) for p in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )


def as_its_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam(USER)
    except KeyError:
        pytest.skip(f"running as root, and there is no user {USER}")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    """A real PostgreSQL of the test's own on a free port of loopback."""
    initdb, server = binary("initdb"), binary("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
    # Its user must reach the folder, which it may not below pytest's.
    home = Path(tempfile.mkdtemp(prefix="lab-postgresql-"))
    account, port = as_its_user(), free_port()
    if account:
        os.chown(home, account["user"], account["group"])
    try:
        made = [initdb, "-D", str(home / "data"), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=home, timeout=120, **account)
        started = [
            server, "-D", str(home / "data"), "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(home),
        ]  # fmt: skip
        with (home / "log").open("wb") as log:
            running = subprocess.Popen(started, stdout=log, stderr=log, cwd=home, start_new_session=True, **account)
        try:
            _wait(running, home, port, account)
            yield f"postgresql+asyncpg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            running.terminate()
            running.wait(60)
    finally:
        shutil.rmtree(home)


def _wait(running: subprocess.Popen[bytes], home: Path, port: int, account: dict[str, Any]) -> None:
    ready = binary("pg_isready") or "pg_isready"
    for _ in range(120):
        asked = [ready, "-h", "127.0.0.1", "-p", str(port)]
        if subprocess.run(asked, capture_output=True, cwd=home, check=False).returncode == 0:
            return
        assert running.poll() is None, (home / "log").read_text()
        time.sleep(0.5)
    raise AssertionError((home / "log").read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pipeline_runs_on_postgresql(database_url: str, new_lab: Callable[[str], Lab]) -> None:
    """The setting reaches the server and nothing else; the chain does not know which database stands behind Prefect."""
    lab = new_lab("postgresql")
    up = lab.lab("up", "--port", str(lab.port), "--no-page", LAB_DATABASE_URL=database_url)
    assert up.returncode == 0, up.stdout + up.stderr + lab.logs()
    done = lab.lab("pipeline", "--scale", "smoke")
    assert done.returncode in (0, 3), done.stdout + done.stderr + lab.logs()
    assert lab.query("SELECT DISTINCT phase FROM verdicts")[0] == ("p1",)
    runs = lab.client().read_flow_runs(limit=50)
    assert {r.name.split(" · ")[0] for r in runs} >= {"pipeline", "p1"}
    assert not (lab.home / "prefect" / "prefect.db").exists()
    lab.down()
