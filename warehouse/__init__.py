"""The memory: result bundles, the DuckDB file, the collector and its snapshot."""
