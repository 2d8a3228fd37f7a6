"""The DuckDB file: connection, transactions, records."""
