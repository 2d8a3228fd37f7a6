"""The web page: `streamlit run app/home.py`. A name in OTHERS adds a page; each page answers one question."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.phase_names import ORDER

HERE = Path(__file__).resolve().parent
PAGES = HERE / "views"
OTHERS = ("hosts", "trials", "compare", "provenance", "monitor")
SIDEBAR_PX = 240  # narrow, so that six cards stand in a row beside it

st.set_page_config(page_title="LLM memory experiments", layout="wide", initial_sidebar_state=SIDEBAR_PX)
page = st.navigation(
    [
        st.Page(PAGES / "overview.py", title="Overview", default=True),
        *(st.Page(PAGES / f"{phase}.py", title=phase.upper(), url_path=phase) for phase in ORDER),
        *(st.Page(PAGES / f"{name}.py", title=name.capitalize(), url_path=name) for name in OTHERS),
    ],
    position="top",
)
st.html(HERE / "style.css")
page.run()
