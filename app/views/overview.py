"""Overview: how far is the chain, what was decided, is it believable, what is next."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import streamlit as st

from app import format as words
from app.components import by_host, cards, filters, shell, story, tables
from app.reading import Row, read
from warehouse.queries import snapshot


def header(run: Row, state: story.Story, rests_on: list[cards.Fact], where: Any) -> None:
    """Show the run, how far it is, what is next, the facts behind it."""
    started = run["started_at"]
    parts = [escape(str(run[k])) for k in ("domain", "model")] + [f"{escape(run['scale'])} scale"]
    parts.append(f'started <time title="{words.utc_time(started)}">{words.local_time(started, where)}</time>')
    st.html(story.head(" · ".join(parts), state, rests_on))


def reasons(verdicts: Mapping[str, Row]) -> None:
    """Show the reason of each verdict, and what to try."""
    st.subheader("Reasons and next steps")
    if not verdicts:
        st.caption("No verdict yet.")
    for phase, verdict in verdicts.items():
        with st.container(gap="xsmall"):
            st.html(cards.reason(phase, verdict))
            shell.steps(verdict["next_steps"])


def metrics_by_host(view: filters.View, verdicts: Mapping[str, Row]) -> None:
    """Show one metric by host as a plot, and the table of its whole phase with this metric first."""
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
    rests_on = story.evidence(run, verdicts, read(snapshot.agreement, run_id))
    header(run, story.story_of(run, verdicts, done), rests_on, where)
    last = {phase: words.local_time(at, where) for phase, at in read(snapshot.latest_results, run_id).items()}
    st.html(cards.strip(verdicts, done, read(snapshot.phase_hosts, run_id), last))
    reasons(verdicts)
    metrics_by_host(view, verdicts)


shell.show(body)
