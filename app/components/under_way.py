"""The pipelines under way, each with a button that stops it after one question."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import streamlit as st

from app import commands, prefect_api
from app import format as words
from app.prefect_api import FlowRun
from common.errors import LabError
from workpools.server_rows import FINAL

REFRESH_S = 4
STARTED = "under-way-run"  # the run that this session started last
ASKED = "under-way-asked"  # the run of which the reader is asked whether to stop it
ANSWERED = "under-way-answered"  # the answer to the last stop of this session
MOST = 400  # characters of a message


@st.fragment(run_every=REFRESH_S)
def show() -> None:
    """Show the pipelines under way, and how the one that this session started has ended; nothing where no server answers."""
    with suppress(prefect_api.AwayError):
        for run in prefect_api.pipelines(prefect_api.address(), st.session_state.get(STARTED)):
            _one(run)
    if answer := st.session_state.get(ANSWERED):
        (st.success if answer.done else st.error)(words.plain(answer.text))


def _one(run: FlowRun) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        ended = run.kind in FINAL
        since = "" if ended else f", {words.ago(run.since, datetime.now(UTC)).removesuffix(' ago')}"
        why = f": {words.shortened(' '.join(run.message.split()), MOST)}" if run.kind in ("FAILED", "CRASHED") else ""
        st.text(f"{run.run_id or run.name} · {run.state.lower()}{since}{why}", width="stretch")
        if ended or run.kind == "CANCELLING" or not run.run_id or not commands.allowed():
            return
        if st.session_state.get(ASKED) != run.run_id:
            st.button("Stop", key=f"stop-{run.id}", on_click=_ask, args=(run.run_id,))
            return
        st.caption("Its machines stop working on it; results that are there stay.")
        sure = st.button("Stop this run", key=f"sure-{run.id}", type="primary")
        st.button("Let it run", key=f"not-{run.id}", on_click=_ask, args=(None,))
    if sure:
        with st.spinner(f"Stopping {run.run_id} on all machines …", show_time=True):
            answer = _stopped(run.run_id)
            _ask(None)
            st.session_state[ANSWERED] = answer
        st.rerun(scope="fragment")


def _ask(run_id: str | None) -> None:
    st.session_state[ASKED] = run_id
    st.session_state.pop(ANSWERED, None)


def _stopped(run_id: str) -> commands.Answer:
    try:
        return commands.lab("stop", run_id)
    except LabError as error:
        return commands.Answer(False, str(error))
