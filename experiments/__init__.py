"""The science: domains, backends and the six phases. Knows nothing of Prefect, DuckDB or Streamlit."""
