"""Transactions, and statements that name their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import canonical

AT_ONCE = 100  # rows a statement: executemany takes 2 ms a row, one statement of 100 rows 0.08 ms a row (measured)


@contextmanager
def transaction(con: Connection) -> Iterator[None]:
    """Run the statements of the block in one transaction; an exception, or the death of the process, undoes all of them."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        con.rollback()
        raise


def insert(con: Connection, table: str, rows: Sequence[Mapping[str, object]], conflict: str = "") -> None:
    """Insert rows, column -> value; dictionaries and lists are stored as canonical JSON.

    Args:
        rows: all with the same columns.
        conflict: what follows ON CONFLICT, for example "DO NOTHING".
    """
    columns = list(rows[0]) if rows else []
    one = f"({', '.join('?' * len(columns))})"
    last = f" ON CONFLICT {conflict}" if conflict else ""
    step = (
        1 if "UPDATE" in conflict else AT_ONCE
    )  # of two rows of one statement with the same key the second is left out
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        values = ", ".join([one] * len(some))
        con.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values}{last}",  # noqa: S608 - names in this package
            [canonical(row[c]) if isinstance(row[c], (dict, list)) else row[c] for row in some for c in columns],
        )


def insert_arrow(con: Connection, table: str, rows: pa.Table, columns: str = "*") -> None:
    """Insert the rows of an Arrow table into a table of the warehouse; `columns` are SQL expressions of its columns, in order.

    DuckDB reads a capsule by itself. A pyarrow.Table it reads through pyarrow's scanner, whose threads it waits for: for ever,
    where the system refuses to start one.

    Raises:
        duckdb.DataError: DuckDB refuses a value.
    """
    con.from_arrow(rows.__arrow_c_stream__()).project(columns).insert_into(table)


def rows_of(con: Connection, sql: str, values: Sequence[object] | dict[str, Any] = ()) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries, column -> value."""
    cursor = con.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def column_of(con: Connection, sql: str, values: Sequence[object] = ()) -> list[Any]:
    """Return the first column of a query's rows."""
    return [row[0] for row in con.execute(sql, list(values)).fetchall()]


def number_of(con: Connection, sql: str, values: Sequence[object] = ()) -> int:
    """Return the one whole number that a query gives; 0 where it gives no row or NULL."""
    row = con.execute(sql, list(values)).fetchone()
    return int(row[0] or 0) if row else 0
