"""A bundle's trials as rows of the table `trials`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from warehouse.delivery.bundles import Bundle

# Of a table that `table_of` made, by whatever name it is registered.
ROWS = (
    "bundle_sha256, unit_id, host, ordinal, problem_id, condition, seed, attempts, solved, answer, truth, tokens_in, "
    "tokens_out, latency_s, error, details::JSON AS details"
)


def table_of(bundle: Bundle) -> pa.Table:
    """A bundle's trials, each row with its bundle, unit and host; without its attachments, which may be large."""
    table = bundle.trials.drop_columns(["attachment"])
    named = {"bundle_sha256": bundle.sha256, "unit_id": bundle.manifest["unit_id"], "host": bundle.manifest["host"]}
    for name, value in named.items():
        table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table


def insert_trials(con: Connection, tables: Sequence[pa.Table]) -> None:
    """Insert the trials of these tables of bundles; the caller decides about the transaction, and has or makes the bundles' rows.

    Raises:
        duckdb.DataError: DuckDB refuses a value.
    """
    con.from_arrow(pa.concat_tables(tables)).project(ROWS).insert_into("trials")
