"""Run a server's module with one connection to SQLite: `python -m lab.services.prefect_server prefect server start`.

Prefect opens up to fifteen, of which only one at a time may write. A transaction that has read before it writes fails at once
while another writes ("database is locked"), the others wait up to 60 s, a request that is given up keeps the lock until its
garbage is collected, and whoever collects it waits for a connection that waits: with a handful of workers the server stood
still for minutes (its native stack: garbage collection, sqlite3_reset, a mutex). One connection is what Prefect itself takes
for a database in memory. Twelve tasks at once that read and write, half as many that are cancelled, in 8 s: 486 transactions
instead of 26, and none that found the database locked.
"""

from __future__ import annotations

import runpy
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

ONE = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 60}  # s, as long as Prefect lets SQLite wait


def with_one_connection() -> None:
    """Limit Prefect in this process to one database connection, if the database is SQLite."""
    from prefect.server.database import configurations
    from sqlalchemy import make_url

    made = configurations.create_async_engine

    def create(url: str | URL, **settings: Any) -> AsyncEngine:
        return made(url, **(ONE | settings if make_url(url).get_backend_name() == "sqlite" else settings))

    configurations.create_async_engine = create


if __name__ == "__main__":
    del sys.argv[0]
    with_one_connection()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
