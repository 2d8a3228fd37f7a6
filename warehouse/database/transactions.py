"""All of some statements, or none of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from duckdb import DuckDBPyConnection as Connection


@contextmanager
def transaction(con: Connection) -> Iterator[None]:
    """What the block does with `con` is kept when it ends well; otherwise, or when its process dies, nothing of it is."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        con.rollback()
        raise
