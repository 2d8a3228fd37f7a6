"""Parts that every page shares: filters, the states in which there is nothing to show, the refresh.

To add a page:

1. Write app/views/<name>.py, which answers one question and ends in `shell.show(body)`. `body(view)` is called with the
   choices of the sidebar; the states without results, the refresh and the address are handled by `show`.
2. Add its name and icon to a section of app/home.py.
3. Ask the snapshot by `read(function, *arguments)` of app/reading.py, once a snapshot. The function is in
   warehouse/queries/ and ends in `query(sql, values)`: SQL aggregates, never pandas.
4. Choices are `filters.choice(label, options, name)`, tables `tables.show(rows, file_name)`; a plot begins with
   `style.titled(finding, basis, x_title, y_title)` and ends with `style.draw(figure, file_name)`. Escape text of the
   snapshot with html.escape before it becomes HTML or a label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Literal

import streamlit as st

from app.components import filters
from app.reading import read
from warehouse.queries import snapshot

REFRESH_S = 3  # a publication is seen within this
UNREADY = {
    "missing": "There are no results on this host yet.",
    "schema": "The results were written by another version of this project.",
    "unreadable": "The results cannot be read.",
}


@st.fragment(run_every=REFRESH_S)
def watch(seen: snapshot.Identity | None) -> None:
    """Run the page again after the collector has published another snapshot."""
    if snapshot.identity() != seen:
        st.rerun()


def show(body: Callable[..., None], needs_run: bool = True) -> None:
    """Draw a page: its sidebar, then `body(view)`; or one sentence and command if there is nothing to show."""
    filters.begin()
    try:
        if needs_run:
            watch(snapshot.identity())
            _of_a_run(body)
        else:
            body()
    finally:
        filters.end()


def _of_a_run(body: Callable[[filters.View], None]) -> None:
    state = snapshot.state()
    if state.kind != "ready":
        return empty(UNREADY[state.kind], state.mend, state.detail)
    try:
        runs = read(snapshot.runs)
        if not runs:
            return empty("There are results on this host, but no run yet.", "lab pipeline --scale demo")
        view = filters.sidebar(runs, [h["host"] for h in read(snapshot.hosts)])
        if view is None:
            st.html(_sentence("No run has this scale, domain and model together.", ""))
            st.button("Show all runs", on_click=filters.clear)
            return None
        return body(view)
    except snapshot.READ_ERRORS as error:  # the file was replaced by another kind, or removed, between two questions
        return empty(UNREADY["unreadable"], "lab collect", str(error).splitlines()[0][:200])


def empty(sentence: str, command: str, detail: str = "") -> None:
    """Show one sentence as the headline, and one command to copy."""
    st.html(_sentence(sentence, detail))
    if command:
        show_command(command, width=480)


def hint(sentence: str, command: str, width: int = 480) -> None:
    """Write a quiet sentence and a command to copy."""
    st.caption(sentence)
    show_command(command, width)


def step(remark: str, command: str) -> None:
    """Show a command to copy with its reason above it."""
    with st.container(gap="xxsmall"):
        st.html(f'<div class="lab-remark lab-quiet">{escape(remark)}</div>')
        show_command(command)


def show_command(command: str, width: int | Literal["stretch"] = "stretch") -> None:
    """Show a command with a button that copies it.

    st.code would load a highlighter of 1.6 MB before the page's first content is drawn.
    """
    button = '<button type="button" data-copy aria-label="Copy this command"><i></i></button>'
    st.html(f'<div class="lab-command"><pre>{escape(command)}</pre>{button}</div>', width=width)


def _sentence(sentence: str, detail: str) -> str:
    quiet = f'<p class="lab-quiet">{escape(detail)}</p>' if detail else ""
    return f'<div class="lab-head"><h1>{escape(sentence)}</h1>{quiet}</div>'


def title(name: str, question: str, facts: Sequence[str] = ()) -> None:
    """Show the page's name, its question as the headline, and a quiet line of facts."""
    rests = " · ".join(escape(f) for f in facts if f)
    st.html(
        f'<div class="lab-head"><div class="lab-over"><strong>{escape(name)}</strong></div><h1>{escape(question)}</h1>'
        + (f'<p class="lab-quiet">{rests}</p>' if rests else "")
        + "</div>"
    )


def steps(next_steps: Sequence[snapshot.NextStep]) -> None:
    """Show the next steps of a verdict: each command to copy, its reason above it."""
    columns = st.columns(len(next_steps)) if len(next_steps) > 1 else [st.container(width=660)] if next_steps else []
    for column, found in zip(columns, next_steps, strict=True):
        with column:
            step(found.reason or "Try", str(found.command))
