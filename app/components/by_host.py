"""Metrics by host on Overview and Hosts: the reader chooses a phase and a metric, and sees each host's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app import format as words
from app.components import filters
from app.phase_names import named
from app.plots import forest, style
from app.reading import Row, read
from warehouse.queries import snapshot


@dataclass(frozen=True)
class Chosen:
    """The reader's choice and its rows."""

    phase: str
    metric: str
    names: list[str]  # all metrics of the phase, in its order
    of_phase: Sequence[Row]
    shown: Sequence[Row]  # of the metric


def chosen(
    view: filters.View,
    verdicts: Mapping[str, Row],
    known: Sequence[str],
    file_end: str = "",
    default: str | None = None,
) -> Chosen | None:
    """Ask for phase and metric and draw the forest plot; without metrics say so and return None.

    `known` are the hosts in the order of their colours; `file_end` ends the plot's file name. `default` is the
    phase shown before one is chosen, else the last one.
    """
    phases = read(snapshot.measured_phases, view.run_id)
    if not phases:
        st.caption("No metric yet: they are computed when a phase is decided.")
        return None
    left, right = st.columns(2)
    with left:
        phase = filters.choice("Phase", phases, "phase", default if default in phases else phases[-1], named)
    rows = read(snapshot.host_comparison, view.run_id, phase)
    if len({r["host"] for r in rows}) != 1:  # with one host the two are the same
        rows = [*read(snapshot.phase_metrics, view.run_id, phase), *rows]
    rows = [r for r in rows if view.host in (None, r["host"])]
    if not rows:
        st.caption(f"{view.host} has no result of {named(phase)}.")
        return None
    verdict = verdicts.get(phase)
    names = list(dict.fromkeys(r["metric"] for r in rows))
    with right:
        metric = filters.choice("Metric", names, "metric", verdict["main_metric"] if verdict else None, words.words)
    shown = [r for r in rows if r["metric"] == metric]
    if any(words.defined(r["value"]) for r in shown):
        style.draw(forest.forest(shown, list(known), verdict), f"{view.run_id}-{phase}-{metric}{file_end}")
    else:
        st.caption(forest.finding(shown, verdict))
    return Chosen(phase, metric, names, rows, shown)
