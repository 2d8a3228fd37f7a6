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

# Without an icon of its own the browser's tab has the page's, which Streamlit asks of Google's server.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path d="M3 8h10" stroke="#2563EB" stroke-width="1.6"/>'
    '<g fill="#2563EB"><circle cx="3" cy="8" r="2.4"/><circle cx="8" cy="8" r="2.4"/><circle cx="13" cy="8" r="2.4"/></g></svg>'
)

st.set_page_config(page_title="LLM memory experiments", page_icon=ICON, layout="wide", initial_sidebar_state=SIDEBAR_PX)
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
scripts = ((HERE / name).read_text(encoding="utf-8") for name in ("address.js", "components/copy.js", "plots/save.js"))
st.html("".join(f"<script>{text}</script>" for text in scripts), unsafe_allow_javascript=True)
page.run()
