"""Overview: how far is the chain, what was decided, is it believable, what is next."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from html import escape
from typing import Any

import streamlit as st

from app import format as words
from app import prefect_api
from app.components import by_host, card_parts, cards, filters, found, live, shell, story, tables
from app.reading import Row, read
from warehouse.queries import hosts as reading_hosts
from warehouse.queries import snapshot

REFRESH_S = 4


def header(run: Row, found: str, state: story.Story, rests_on: list[cards.Fact], where: Any) -> None:
    """Show the run, what it found, how far it is, what is next, the facts behind it."""
    started = run["started_at"]
    parts = [escape(str(run[k])) for k in ("domain", "model")] + [f"{escape(run['scale'])} scale"]
    parts.append(f'started <time title="{words.utc_time(started)}">{words.local_time(started, where)}</time>')
    st.html(story.head(" · ".join(parts), found, state, rests_on))


@st.fragment(run_every=REFRESH_S)
def running(view: filters.View, phase: str, done: snapshot.Progress) -> None:
    """Show in one line what runs now: the phase, its units, the hosts at work and the time left."""
    now = None
    with suppress(prefect_api.AwayError):
        now = prefect_api.look(prefect_api.address())
    if line := live.strip(phase, done, now, read(reading_hosts.left, view.run_id)):
        st.html(line)


def reasons(verdicts: Mapping[str, Row]) -> None:
    """Show the reason of each verdict, and what to try."""
    st.subheader("Reasons and next steps")
    if not verdicts:
        st.caption("No verdict yet.")
    for phase, text in cards.reasons(verdicts).items():
        with st.container(gap="xsmall"):
            st.html(text)
            shell.steps(verdicts[phase]["next_steps"])


def metrics_by_host(view: filters.View, verdicts: Mapping[str, Row]) -> None:
    """Show one metric by host as a plot, and the table of its whole phase with this metric first, once it is opened.

    Plots and tables are most of what a browser has to load, so the page is read before they are there.
    """
    asked = filters.asked("phase") is not None or filters.asked("metric") is not None
    folded = st.expander("Metrics by host", expanded=asked, key="metrics-by-host", on_change="rerun")
    if folded.open:
        with folded:
            _metrics_by_host(view, verdicts)


def _metrics_by_host(view: filters.View, verdicts: Mapping[str, Row]) -> None:
    found = by_host.chosen(view, verdicts, [h["host"] for h in read(snapshot.hosts)])
    if found is None:
        return
    order = {name: i for i, name in enumerate(found.names)} | {found.metric: -1}
    conditions = [x["condition"] for x in found.of_phase]
    rows = sorted(found.of_phase, key=lambda r: (order[r["metric"]], conditions.index(r["condition"])))
    file = f"{view.run_id}-{found.phase}-metrics"
    tables.metrics([{**r, "phase": found.phase.upper()} for r in rows], file, ("phase", "host"))


def body(view: filters.View) -> None:
    """Show the page of one run."""
    run, run_id, where = view.run, view.run_id, view.where
    verdicts = {v["phase"]: v for v in read(snapshot.chain, run_id)}
    done = read(snapshot.progress, run_id)
    compared, known = read(snapshot.agreement, run_id), [h["host"] for h in read(snapshot.hosts)]
    header(
        run,
        found.of_run(run_id, verdicts),
        story.story_of(run, verdicts, done),
        story.evidence(run, verdicts, compared),
        where,
    )
    if under_way := next((p for p in done if p not in verdicts), None):
        running(view, under_way, done[under_way])
    last = {phase: words.local_time(at, where) for phase, at in read(snapshot.latest_results, run_id).items()}
    decided = {phase: card_parts.deciding(run_id, v) for phase, v in verdicts.items()}
    st.html(cards.strip(decided, done, card_parts.by_host(compared, known), last))
    reasons(verdicts)
    metrics_by_host(view, verdicts)


shell.show(body)
