"""A bundle as rows of the tables `bundles` and `trials`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import canonical
from warehouse.database.statements import insert_arrow
from warehouse.delivery.bundles import Bundle

# Of a table that `table_of` made.
ROWS = (
    "bundle_sha256, unit_id, host, ordinal, problem_id, condition, seed, attempts, solved, answer, truth, tokens_in, "
    "tokens_out, latency_s, error, details::JSON AS details, first_right"
)


def row_of(bundle: Bundle) -> dict[str, object]:
    """Return what a bundle says of itself as columns of `bundles`, its SHA-256 left out."""
    m = bundle.manifest
    named = {name: m[name] for name in ("unit_id", "host", "attempt", "schema_version")}
    return {**named, "size_bytes": bundle.size_bytes, "manifest": canonical(m)}


def table_of(bundle: Bundle) -> pa.Table:
    """Return a bundle's trials, each with its bundle, unit and host; attachments, which may be large, are left out."""
    table = bundle.trials.drop_columns(["attachment"])
    named = {"bundle_sha256": bundle.sha256, "unit_id": bundle.manifest["unit_id"], "host": bundle.manifest["host"]}
    for name, value in named.items():
        table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table


def insert_trials(con: Connection, tables: Sequence[pa.Table]) -> None:
    """Insert the trials of tables that `table_of` made; the caller has a transaction, and inserts the bundles' rows.

    Raises:
        duckdb.DataError: DuckDB refuses a value.
    """
    insert_arrow(con, "trials", pa.concat_tables(tables), ROWS)
