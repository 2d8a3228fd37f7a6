"""What the six pages of the phases share: the head with verdict and reason, the states of a phase, the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import streamlit as st

from app import format as words
from app.components import cards, filters, shell, story, tables
from app.phase_names import named, text_of
from app.plots import style
from app.reading import read
from warehouse.queries import phases, snapshot

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Phase:
    """One phase of one run, as the filters ask for it.

    Attributes:
        name: p1 ... e2.
        rows: its metrics over all hosts, or the chosen host's; empty until the phase is decided.
        config: the settings it ran with.
        verdict: its row of reading.chain, or None.
    """

    name: str
    view: filters.View
    rows: Sequence[Row]
    config: Row
    verdict: Row | None

    def of(self, metric: str) -> list[Row]:
        """All rows of a metric, in the phase's order."""
        return [r for r in self.rows if r["metric"] == metric]

    def find(self, metric: str, condition: str = "") -> Row | None:
        """One row, or None when it is not there or undefined."""
        found = (r for r in self.of(metric) if r["condition"] == condition and words.defined(r["value"]))
        return next(found, None)

    def read(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of a function of reading_phases that asks for run, phase, `arguments` and host."""
        return read(question, self.view.run_id, self.name, *arguments, self.view.host)

    def draw(self, figure: Any, what: str) -> None:
        """A plot whose file is named by run, phase and what it shows."""
        style.draw(figure, f"{self.view.run_id}-{self.name}-{what}")

    def say(self, text: str) -> None:
        """A quiet line beside the plots."""
        st.caption(text)


def show(name: str, plots: Callable[[Phase], None]) -> None:
    """A phase's page: head, what to do next where it did not pass, `plots(phase)`, all its numbers."""
    shell.show(lambda view: _body(name, plots, view))


def _body(name: str, plots: Callable[[Phase], None], view: filters.View) -> None:
    verdicts = {v["phase"]: v for v in read(snapshot.chain, view.run_id)}
    done = read(snapshot.progress, view.run_id).get(name)
    verdict = verdicts.get(name)
    _head(name, view, verdict, done)
    if verdict is None and not done:
        blocked = story.stopped_at(verdicts)
        why = (
            f"The chain stopped at {blocked.upper()}; the page of {blocked.upper()} says what to try."
            if blocked
            else ""
        )
        st.caption(why or "It starts when the phases before it are decided. To go on with this run:")
        if not blocked:
            st.code(story.again(view.run, verdicts), language=None, width=660)
        return
    if verdict is not None and verdict["next_steps"]:
        with st.container(gap="xsmall"):
            st.html(f'<div class="lab-try">What to try, says the failure protocol of {name.upper()}:</div>')
            shell.steps(verdict["next_steps"])
    rows = read(phases.metrics, view.run_id, name, view.host)
    if not rows and view.host is not None and verdict is not None:
        st.caption(f"{view.host} has no result of {named(name)} in this run. Choose another host, or all.")
        return
    if not rows and verdict is None:
        st.caption("Metrics are computed when the phase is decided; what its trials say so far is shown below.")
    plots(Phase(name, view, rows, read(phases.config, view.run_id, name), verdict))
    if rows:
        _numbers(name, view, rows)


def _head(name: str, view: filters.View, verdict: Row | None, done: tuple[int, int] | None) -> None:
    """Verdict, question, reason, and what it rests on."""
    status = verdict["status"] if verdict else "RUNNING" if done else "NOT RUN"
    over = f"<strong>{escape(named(name))}</strong>{cards.pill(status)}"
    facts: list[str] = []
    reason = ""
    if verdict:
        failed = f" ({verdict['failed']:,} failed)" if verdict["failed"] else ""
        facts = [
            words.count(verdict["trials"], "trial") + failed,
            f"on {', '.join(verdict['hosts'])}" if verdict["hosts"] else "",
            f"took {words.duration(verdict['actual_s'])}" if verdict["actual_s"] is not None else "",
            f"decided {words.local_time(verdict['decided_at'], view.where)}",
            cards.overridden(verdict),
        ]
        reason = words.reason(verdict["reason"])
    elif done:
        last = read(snapshot.latest_results, view.run_id).get(name)
        reason = f"{done[0]:,} of {words.count(done[1], 'unit')} done."
        facts = [f"last result {words.local_time(last, view.where)}" if last else "no result yet"]
    quiet = " · ".join(escape(f) for f in facts if f)
    st.html(
        f'<div class="lab-head"><div class="lab-over">{over}</div><h1>{escape(text_of(name).question or named(name))}</h1>'
        + (f"<p>{escape(reason)}</p>" if reason else "")
        + (f'<p class="lab-quiet lab-rests">{quiet}</p>' if quiet else "")
        + "</div>"
    )


def _numbers(name: str, view: filters.View, rows: Sequence[Row]) -> None:
    st.subheader("All numbers")
    host = f"-{view.host}" if view.host else ""
    tables.metrics(rows, f"{view.run_id}-{name}{host}")


def pair() -> tuple[Any, Any]:
    """Two places side by side, one below the other on a phone."""
    left, right = st.columns(2, gap="large")
    return left, right
