"""The web page: `streamlit run app/home.py`. A name in SECTIONS adds a page; each page answers one question."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.phase_names import tab

HERE = Path(__file__).resolve().parent
PAGES = HERE / "views"
# Section -> its pages, each with its icon; a name without a phase is its own title.
SECTIONS = {
    "Prerequisites": {"p1": "scatter_plot", "p2": "psychology", "p3": "verified_user"},
    "Experiments": {"e0": "tune", "e1": "search", "e2": "model_training"},
    "Machines": {"hosts": "dns", "monitor": "monitor_heart"},
    "Evidence": {"runs": "list", "trials": "list_alt", "compare": "compare_arrows", "provenance": "history"},
}
SIDEBAR_PX = 240  # narrow, so that six cards stand in a row beside it

st.set_page_config(page_title="LLM memory experiments", layout="wide", initial_sidebar_state=SIDEBAR_PX)
page = st.navigation(
    {
        "": [st.Page(PAGES / "overview.py", title="Overview", icon=":material/home:", default=True)],
        **{
            section: [
                st.Page(PAGES / f"{name}.py", title=tab(name), icon=f":material/{icon}:", url_path=name)
                for name, icon in pages.items()
            ]
            for section, pages in SECTIONS.items()
        },
    },
    position="sidebar",
    expanded=True,
)
st.html(HERE / "style.css")
page.run()
