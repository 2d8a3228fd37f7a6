"""One module a page. Not named pages: Streamlit would take over a folder of that name."""
