"""Make docs/schema.md, the tables and views of a warehouse in words: `python -m docs.generate.schema > docs/schema.md`."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from docs.generate.schema_descriptions import COLUMNS, SPECIAL, TABLES
from warehouse.database.connection import migrate, schema_version


def columns(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return table or view -> column -> type, by name, columns in order."""
    rows = con.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index"
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


def words(table: str, column: str) -> str:
    """Return the sentence of a column.

    Raises:
        KeyError: there is none.
    """
    return SPECIAL.get(f"{table}.{column}") or COLUMNS[column]


def page(con: duckdb.DuckDBPyConnection) -> str:
    """Return the page for the schema of `con`, as Markdown."""
    known = columns(con)
    views = {name for (name,) in con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
    lines = [
        "# The tables of the warehouse",
        "",
        f"Schema {schema_version(con)}. Made from the migrations by `python -m docs.generate.schema`; a test compares it with them.",
        "Read `snapshot.duckdb` in LAB_HOME, never `warehouse.duckdb`, which its writer locks. Times are UTC, JSON columns hold",
        "JSON text, and a missing value is NULL. `lab export` writes any of these to a file, as in",
        "`lab export phase_metrics --format csv`.",
    ]
    for title, chosen in (("Views, for readers", True), ("Tables", False)):
        lines += ["", f"## {title}"]
        for name in sorted(n for n in known if (n in views) is chosen):
            lines += ["", f"### {name}", "", TABLES[name], "", *_rows(name, known[name])]
    return "\n".join(lines) + "\n"


def _rows(table: str, names: dict[str, str]) -> Iterator[str]:
    yield "| column | type | meaning |"
    yield "|---|---|---|"
    for column, kind in names.items():
        yield f"| {column} | {kind} | {words(table, column)} |"


def main() -> None:
    """Print the page of this version's schema."""
    with duckdb.connect() as con:
        migrate(con)
        print(page(con), end="")


if __name__ == "__main__":
    main()
