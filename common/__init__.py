"""General parts that know nothing of the science, Prefect, DuckDB or Streamlit."""
