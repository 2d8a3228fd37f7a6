"""The server's process: its database is never locked by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Prefect's own configuration and kind of transaction: read, then write, many at once.
SERVED = """
import asyncio, sys

import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration, AsyncPostgresConfiguration

async def main():
    database = AioSqliteConfiguration("sqlite+aiosqlite:///" + sys.argv[-1])
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE counted AS SELECT 0 AS n"))

    async def count():
        for _ in range(25):
            async with await database.session(engine) as session, database.begin_transaction(session):
                await session.execute(sa.text("SELECT n FROM counted"))
                await session.execute(sa.text("UPDATE counted SET n = n + 1"))

    await asyncio.gather(*(count() for _ in range(8)))
    async with engine.connect() as connection:
        print((await connection.execute(sa.text("SELECT n FROM counted"))).scalar(), engine.pool.size())
    other = await AsyncPostgresConfiguration("postgresql+asyncpg://nobody@127.0.0.1/none").engine()
    print(sys.argv[1:-1], __name__, other.pool.size())

asyncio.run(main())
"""


def test_transactions_of_one_server_do_not_lock_each_other_out(tmp_path: Path) -> None:
    """With Prefect's many connections to SQLite most of these fail, and a server at work stood still for minutes; PostgreSQL
    keeps its own pool."""
    (tmp_path / "made_up_server.py").write_text(SERVED)
    command = [
        sys.executable,
        "-m",
        "lab.services.prefect_server",
        "made_up_server",
        "start",
        "--port",
        "1",
        str(tmp_path / "x.db"),
    ]
    root = str(Path(__file__).resolve().parents[3])
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    environment = kept | {"PYTHONPATH": os.pathsep.join((str(tmp_path), root)), "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counted, other = done.stdout.splitlines()
    assert counted == "200 1"
    assert other.startswith("['start', '--port', '1'] __main__ ") and other != "['start', '--port', '1'] __main__ 1"


def test_a_server_that_is_started_by_hand_in_this_folder_refuses_what_pages_send(tmp_path: Path) -> None:
    """`prefect server start` asks nobody for a password; pyproject.toml gives it Prefect's protection against web pages."""
    asked = "from prefect.settings import get_current_settings as s; print(s().server.api.csrf_protection_enabled)"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    command, root = [sys.executable, "-c", asked], Path(__file__).resolve().parents[3]
    done = subprocess.run(
        command,
        cwd=root,
        env=kept | {"PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "True\n"
