"""A bundle's trials as rows of the table `trials`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from warehouse.bundles import Bundle

# Of a table that `table_of` made, by whatever name it is registered.
ROWS = (
    "bundle_sha256, unit_id, host, ordinal, problem_id, condition, seed, attempts, solved, answer, truth, tokens_in, "
    "tokens_out, latency_s, error, details::JSON AS details"
)


def table_of(bundles: Sequence[Bundle]) -> pa.Table:
    """Trials of one or more bundles, each row with its bundle, unit and host."""
    tables = []
    for b in bundles:
        table = b.trials.drop_columns(["attachment"])
        named = {"bundle_sha256": b.sha256, "unit_id": b.manifest["unit_id"], "host": b.manifest["host"]}
        for name, value in named.items():
            table = table.append_column(name, pa.repeat(value, b.trials.num_rows))
        tables.append(table)
    return pa.concat_tables(tables)


def insert_trials(con: Connection, bundles: Sequence[Bundle]) -> None:
    """Insert the trials of these bundles; the caller decides about the transaction, and has or makes the bundles' rows.

    Raises:
        duckdb.DataError: DuckDB refuses a value.
    """
    con.from_arrow(table_of(bundles)).project(ROWS).insert_into("trials")
