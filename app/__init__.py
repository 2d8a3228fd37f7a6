"""The window: Streamlit pages over the published snapshot."""
