"""The `lab` command."""

PAGE_PORT = 8501  # Streamlit's own default
