"""The page of a phase: verdict and reason, the plots of its view, all its numbers. The report draws the same views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import streamlit as st

from app import format as words
from app.components import cards, filters, origin, shell, story, tables
from app.phase_names import named, text_of
from app.plots import style
from app.reading import Row, read
from warehouse.queries import phases, snapshot


@dataclass(frozen=True)
class Phase:
    """One phase of one run, as the filters choose it, and how a view shows what it found.

    Attributes:
        name: p1 ... e2.
        rows: its metrics over all hosts, or the chosen host's; empty until the phase is decided.
        config: the settings it ran with.
        verdict: its row of snapshot.chain, or None.
    """

    name: str
    view: filters.View
    rows: Sequence[Row]
    config: Row
    verdict: Row | None

    @property
    def main(self) -> str | None:
        """The condition that the verdict rests on."""
        return str(self.verdict["main_condition"]) if self.verdict else None

    def of(self, metric: str) -> list[Row]:
        """Return all rows of a metric, in the phase's order."""
        return [r for r in self.rows if r["metric"] == metric]

    def defined(self, metric: str) -> list[Row]:
        """Return the rows of a metric that have a value."""
        return [r for r in self.of(metric) if words.defined(r["value"])]

    def best(self, metric: str) -> Row | None:
        """Return the row with the best value of a metric, or None if none is defined."""
        choose = min if words.lower_is_better(metric) else max
        return choose(self.defined(metric), key=lambda r: float(r["value"]), default=None)

    def find(self, metric: str, condition: str = "") -> Row | None:
        """Return one row, or None if it is not there or undefined."""
        return next((r for r in self.defined(metric) if r["condition"] == condition), None)

    def setting(self, name: str) -> float | None:
        """Return a number of the phase's config, such as a threshold; None if the run has no record of it."""
        value = self.config.get(name)
        return float(value) if isinstance(value, (int, float)) else None

    def read(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask a function of warehouse.queries.phases about this run, phase, `arguments` and host."""
        return read(question, self.view.run_id, self.name, *arguments, self.view.host)

    def draw(self, figure: Any, what: str) -> None:
        """Show a plot; its file is named by run, phase and `what`."""
        style.draw(figure, f"{self.view.run_id}-{self.name}-{what}")

    def note(self, text: str) -> None:
        """Write a quiet line beside the plots."""
        st.caption(text)

    def suggest(self, text: str, command: str) -> None:
        """Name a command that would add to the page; a report, which cannot change, leaves it out."""
        shell.hint(text, command, 660)

    def table(self, title: str, rows: Sequence[Row], what: str, numbers: Sequence[str] = (), note: str = "") -> None:
        """Show a table with its title; its files are named by run, phase and `what`."""
        st.subheader(title)
        if note:
            st.caption(note)
        tables.show(rows, f"{self.view.run_id}-{self.name}-{what}", numbers)

    def beside(self, *plots: Callable[[Phase], None]) -> None:
        """Draw plots, two in a row; one below the other on a phone."""
        for i in range(0, len(plots), 2):
            for column, plot in zip(st.columns(2, gap="large"), plots[i : i + 2], strict=False):
                with column:
                    plot(self)

    def choose(self, label: str, options: Sequence[str], name: str, default: str | None) -> str:
        """Ask the reader; the answer is `name` in the address."""
        return filters.choice(label, options, name, default)

    def choose_each(self, options: Mapping[str, Sequence[str]], defaults: Mapping[str, str]) -> dict[str, str]:
        """Ask the reader for two things side by side; each is its own name in the address."""
        chosen = {}
        for column, (name, values) in zip(st.columns(2, gap="large"), options.items(), strict=True):
            with column:
                chosen[name] = self.choose(name.capitalize(), values, name, defaults[name])
        return chosen

    def one_of(self, label: str, options: Sequence[str], default: str | None, plot: Callable[[str], None]) -> None:
        """Draw the plot of the option that the reader chooses below it, so that plots beside each other align."""
        above = st.container()
        chosen = filters.choice(label, options, "pair", default, say=words.conditions)
        with above:
            plot(chosen)


def show(name: str, plots: Callable[[Phase], None]) -> None:
    """Show a phase's page: head, what to do next where it did not pass, `plots(phase)`, all its numbers."""
    shell.show(lambda view: _body(name, plots, view))


def _body(name: str, plots: Callable[[Phase], None], view: filters.View) -> None:
    verdicts = {v["phase"]: v for v in read(snapshot.chain, view.run_id)}
    done = read(snapshot.progress, view.run_id).get(name)
    verdict = verdicts.get(name)
    _head(name, view, verdict, done)
    if verdict is None and not done:
        if blocked := story.stopped_at(verdicts):
            page = blocked.upper()
            st.caption(f"The chain stopped at {page}; the page of {page} lists what to try.")
        else:
            again = story.again(view.run, verdicts)
            shell.hint("It starts when the phases before it are decided. To go on with this run:", again, 660)
        return
    if verdict is not None and verdict["next_steps"]:
        with st.container(gap="xsmall"):
            st.html(f'<div class="lab-try">Next steps for {name.upper()}:</div>')
            shell.steps(verdict["next_steps"])
    rows = read(phases.metrics, view.run_id, name, view.host)
    if not rows and view.host is not None and verdict is not None:
        st.caption(f"{view.host} has no result of {named(name)} in this run. Choose another host, or all.")
        return
    if not rows and verdict is None:
        st.caption("Metrics are computed when the phase is decided; the trials so far are shown below.")
    plots(Phase(name, view, rows, read(phases.config, view.run_id, name), verdict))
    if rows:
        st.subheader("All numbers")
        tables.metrics(rows, f"{view.run_id}-{name}{f'-{view.host}' if view.host else ''}")


def _head(name: str, view: filters.View, verdict: Row | None, done: tuple[int, int] | None) -> None:
    """Show verdict, question, reason, and the facts behind it."""
    plan = read(snapshot.provenance, view.run_id)
    facts = origin.facts_of_phase(name, verdict, plan["content"] if plan else None, view.where)
    reason = words.reason(verdict["reason"]) if verdict else ""
    if done and not verdict:
        last = read(snapshot.latest_results, view.run_id).get(name)
        reason = f"{done[0]:,} of {words.count(done[1], 'unit')} done."
        facts.insert(0, f"last result {words.local_time(last, view.where)}" if last else "no result yet")
    quiet = " · ".join(map(escape, facts))
    over = f"<strong>{escape(named(name))}</strong>{cards.pill(cards.status_of(verdict, done))}"
    st.html(
        f'<div class="lab-head"><div class="lab-over">{over}</div><h1>{escape(text_of(name).question or named(name))}</h1>'
        + (f"<p>{escape(reason)}</p>" if reason else "")
        + (f'<p class="lab-quiet lab-rests">{quiet}</p>' if quiet else "")
        + "</div>"
    )
