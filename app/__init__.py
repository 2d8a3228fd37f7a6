"""The web page: Streamlit pages over the published snapshot."""
