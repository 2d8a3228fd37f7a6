"""The window: `streamlit run app/home.py`. One line here adds a page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent

st.set_page_config(page_title="LLM memory experiments", layout="wide")
page = st.navigation([st.Page(HERE / "overview.py", title="Overview", default=True)], position="top")
st.html(HERE / "style.css")
page.run()
