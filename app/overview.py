"""Overview: how far is the chain, what was decided, is it believable, what is next."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import streamlit as st

from app import cards, charts, figures, filters, shell, story, tables
from app import format as words
from warehouse import reading

Row = Mapping[str, Any]


def header(run: Row, told: story.Story, rests_on: list[tuple[str, bool]], where: Any) -> None:
    """Which run, how far, what next, what it rests on."""
    started = run["started_at"]
    parts = [escape(str(run[k])) for k in ("domain", "model")] + [f"{escape(run['scale'])} scale"]
    parts.append(f'started <time title="{words.utc_time(started)}">{words.local_time(started, where)}</time>')
    st.html(cards.head(" · ".join(parts), told.sentence, told.then, told.command, rests_on))


def reasons(verdicts: Mapping[str, Row]) -> None:
    """Why each verdict, and what to try."""
    st.subheader("Reasons and next steps")
    if not verdicts:
        st.caption("No verdict yet.")
    for phase, verdict in verdicts.items():
        with st.container(gap="xsmall"):
            st.html(cards.reason(phase, verdict))
            shell.steps(verdict["next_steps"])


def metrics_by_host(view: filters.View, verdicts: Mapping[str, Row]) -> None:
    """Phase and metric, the forest plot, the table."""
    st.subheader("Metrics by host")
    phases = shell.read(reading.measured_phases, view.run_id)
    if not phases:
        st.caption("No metric yet: they are computed when a phase is decided.")
        return
    left, right = st.columns(2)
    with left:
        phase = filters.choice("Phase", phases, "phase", phases[-1], words.named)
    of_phase = shell.read(reading.host_comparison, view.run_id, phase)
    if len({r["host"] for r in of_phase}) != 1:  # with one host the two are the same
        of_phase = [*shell.read(reading.phase_metrics, view.run_id, phase), *of_phase]
    of_phase = [r for r in of_phase if view.host in (None, r["host"])]
    if not of_phase:
        st.caption(f"{view.host} has no result of {words.named(phase)}.")
        return
    verdict = verdicts.get(phase)
    names = list(dict.fromkeys(r["metric"] for r in of_phase))
    with right:
        metric = filters.choice("Metric", names, "metric", verdict["main_metric"] if verdict else None, words.words)
    shown = [r for r in of_phase if r["metric"] == metric]
    if any(words.defined(r["value"]) for r in shown):
        known = [h["host"] for h in shell.read(reading.hosts)]
        figures.draw(charts.forest(shown, known, verdict), f"{view.run_id}-{phase}-{metric}")
    else:
        st.caption(charts.finding(shown, verdict))
    order = {name: i for i, name in enumerate([metric, *names])} | {metric: -1}
    conditions = [x["condition"] for x in of_phase]
    rows = sorted(of_phase, key=lambda r: (order[r["metric"]], conditions.index(r["condition"])))
    tables.metrics([{**r, "phase": phase.upper()} for r in rows], f"{view.run_id}-{phase}-metrics", ("phase", "host"))


def body(view: filters.View) -> None:
    """The page of one run."""
    run, run_id, where = view.run, view.run_id, view.where
    verdicts = {v["phase"]: v for v in shell.read(reading.chain, run_id)}
    done = shell.read(reading.progress, run_id)
    rests_on = story.evidence(run, verdicts, shell.read(reading.host_agreement, run_id))
    header(run, story.tell(run, verdicts, done), rests_on, where)
    last = {phase: words.local_time(at, where) for phase, at in shell.read(reading.latest_results, run_id).items()}
    st.html(cards.strip(verdicts, done, shell.read(reading.phase_hosts, run_id), last))
    reasons(verdicts)
    metrics_by_host(view, verdicts)


shell.show(body)
