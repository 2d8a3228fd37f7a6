"""Compare: what is different between runs, or models, and by how much?"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from app import format as words
from app.components import filters, shell, tables
from app.phase_names import ORDER, named
from app.plots import runs as compare_figures
from app.plots import style
from app.reading import Row, read
from warehouse.queries import compare, snapshot

LETTERS = tuple("ABCDEFGHIJ")  # of the runs, A is the sidebar's
MOST_OTHERS = len(LETTERS) - 1
BEST = "★"


def other_runs(view: filters.View, runs: Sequence[Row]) -> list[Row]:
    """Ask for the runs to compare the sidebar's with; runs of another model come first, then the latest."""
    others = [r for r in runs if r["run_id"] != view.run_id]
    others.sort(key=lambda r: r["model"] == view.run["model"])  # stable, so the latest stay first
    lines = {r["run_id"]: f"{run_line(r, view.where)} · {r['run_id']}" for r in others}
    picked = filters.choices("Compare with", list(lines), "with", MOST_OTHERS, say=lambda run_id: lines[run_id])
    known = {r["run_id"]: r for r in others}
    return [known[run_id] for run_id in picked]


def run_line(run: Row, where: Any) -> str:
    """Return a run as "model · scale · time"."""
    return f"{run['model']} · {run['scale']} · {words.local_time(run['started_at'], where)}"


def differences(runs: Sequence[Row]) -> None:
    """List how the plans and records differ, key by key."""
    st.subheader("What is different")
    rows, equal = read(compare.plans, *(r["run_id"] for r in runs))
    if not rows:
        st.caption(f"Nothing: all {equal:,} settings, versions and digests are equal.")
        return
    st.caption(f"{len(rows):,} settings, versions or digests differ; {equal:,} are equal.")
    shown = [{"setting": r["key"], **dict(zip(LETTERS, r["values"], strict=False))} for r in rows]
    tables.show(shown, f"{_name(runs)}-plan")


def verdicts(runs: Sequence[Row]) -> None:
    """List each phase's verdict and main number in all runs, and mark the best number."""
    st.subheader("Verdicts")
    chains = [{v["phase"]: v for v in read(snapshot.chain, r["run_id"])} for r in runs]
    rows = [_beside(p, [c.get(p) for c in chains]) for p in ORDER if any(p in c for c in chains)]
    if not rows:
        st.caption("None of the runs has a verdict yet.")
        return
    tables.show(rows, f"{_name(runs)}-verdicts")
    st.caption(f"{BEST} the best value of a phase, where all runs were decided by the same number.")


def _beside(phase: str, found: Sequence[Row | None]) -> dict[str, str]:
    """Return all verdicts, then all main numbers, so that what is compared is side by side."""
    metrics = [
        f"{words.words(v['main_metric'])}{', ' if v['main_condition'] else ''}{words.conditions(v['main_condition'])}"
        for v in found
        if v
    ]
    best = _best(found)
    values = [f"{BEST} {_value(v)}" if i in best else _value(v) for i, v in enumerate(found)]
    return {
        "phase": named(phase),
        **{f"verdict {letter}": v["status"] if v else "not run" for letter, v in zip(LETTERS, found, strict=False)},
        "metric": "; or ".join(dict.fromkeys(metrics)),
        **{f"value {letter}": value for letter, value in zip(LETTERS, values, strict=False)},
    }


def _best(found: Sequence[Row | None]) -> list[int]:
    """Return the places of the best value; none where the numbers are not the same one, or all are equal."""
    rows = [v for v in found if v and words.defined(v["value"])]
    values = {v["value"] for v in rows}
    if len({(v["main_metric"], v["main_condition"]) for v in rows}) != 1 or len(values) < 2:
        return []
    best = min(values) if words.lower_is_better(rows[0]["main_metric"]) else max(values)
    return [i for i, v in enumerate(found) if v and v["value"] == best]


def _value(verdict: Row | None) -> str:
    return words.estimate(verdict) if verdict else ""


def by_problem(first: Row, second: Row, other: str = "B") -> None:
    """Show differences over the problems that both runs solved; `other` is the letter of the second."""
    st.subheader("The same problems in both")
    rows = read(compare.paired, first["run_id"], second["run_id"])
    if not rows:
        st.caption("No problem was solved in both runs: their data differ, or their phases solve no problems.")
        return
    names = [m for m in compare.MEASURES if any(r["measure"] == m for r in rows)]
    phases = list(dict.fromkeys(r["phase"] for r in rows))
    left, right = st.columns(2)
    with left:
        measure = filters.choice("Measure", names, "measure", say=lambda m: compare_figures.NAMES[m].name)
    with right:
        phase = filters.choice("Phase", [filters.ANY, *phases], "phase", say=filters.any_of("All phases", named))
    of_phase = [r for r in rows if phase in (filters.ANY, r["phase"])]
    shown = [r for r in of_phase if r["measure"] == measure]
    name = f"{first['run_id']}-{second['run_id']}-{measure.replace(' ', '-')}"
    if shown:
        style.draw(compare_figures.differences(shown, measure, other), name)
    same = sum(r["shared"] for r in shown)
    if same:
        st.caption(
            f"{same:,} of {sum(r['n'] for r in shown):,} pairs are one result that serves both runs: they cannot differ."
        )
    listed = [_row(r, {k: r[k] for k in ("condition", "measure")}, {"n": r["n"]}, other) for r in of_phase]
    tables.show(listed, f"{name}-table", _numbers(other))


def _numbers(other: str) -> tuple[str, ...]:
    return ("A", other, f"{other} - A", "low", "high")


def _row(row: Row, about: Row, sizes: Row, other: str = "B") -> Row:
    """Return a difference of the runs as it is read."""
    found = dict(zip(_numbers(other), (row[k] for k in ("first", "second", "value", "low", "high")), strict=True))
    return {"phase": row["phase"].upper(), **about, **found, **sizes, "method": row["method"]}


def by_metric(first: Row, second: Row) -> None:
    """List every metric that both runs have."""
    st.subheader("Every metric")
    rows = read(compare.metrics, first["run_id"], second["run_id"])
    if not rows:
        st.caption("No phase is decided in both runs yet.")
        return
    known = [r for r in rows if r["low"] is not None]
    beside = sum(r["low"] > 0 or r["high"] < 0 for r in known)
    st.caption(
        f"{words.count(len(rows), 'metric')} in both; {len(known):,} have an interval of their difference, "
        f"and {beside:,} of these exclude zero. About one in twenty does so by chance."
    )

    def line(r: Row) -> Row:
        about = {"metric": words.words(r["metric"]), "condition": words.conditions(r["condition"])}
        return _row(r, about, {"n A": r["first_n"], "n B": r["second_n"]})

    tables.show(list(map(line, rows)), f"{first['run_id']}-{second['run_id']}-metrics", _numbers("B"), height=420)


def by_metric_of_all(runs: Sequence[Row]) -> None:
    """List the metrics that all runs have and that differ."""
    st.subheader("Every metric that differs")
    rows = read(compare.differing_metrics, *(r["run_id"] for r in runs))
    if not rows:
        st.caption("No metric of a phase that is decided in all of them differs.")
        return
    shown = [
        {
            "phase": r["phase"].upper(),
            "metric": words.words(r["metric"]),
            "condition": words.conditions(r["condition"]),
            **dict(zip(LETTERS, r["values"], strict=False)),
        }
        for r in rows
    ]
    tables.show(shown, f"{_name(runs)}-metrics", LETTERS[: len(runs)], height=420)


def _name(runs: Sequence[Row]) -> str:
    return "-".join(r["run_id"] for r in runs)[:120]


def body(view: filters.View) -> None:
    """Compare two to ten runs: A is the sidebar's, the others are chosen here."""
    runs = read(snapshot.runs)
    if len(runs) < 2:
        return shell.empty(
            "There is one run only; two to ten can be compared.",
            f"lab pipeline --scale {view.run['scale']} --set temperature=0.5",
            "Another model, scale, setting or domain makes another run.",
        )
    shell.title("Compare", "What is different, and by how much?", [])
    chosen = [view.run, *other_runs(view, runs)]
    lines = (
        f"<p><strong>{letter}</strong> <bdi>{escape(run_line(r, view.where))}</bdi> "
        f'<span class="lab-quiet"><bdi>{escape(r["run_id"])}</bdi></span></p>'
        for letter, r in zip(LETTERS, chosen, strict=False)
    )
    st.html(f'<div class="lab-pair">{"".join(lines)}</div>')
    differences(chosen)
    verdicts(chosen)
    if len(chosen) == 2:
        by_problem(chosen[0], chosen[1])
        by_metric(chosen[0], chosen[1])
        return None
    with_which = {r["run_id"]: letter for letter, r in zip(LETTERS, chosen, strict=False)}
    other = filters.choice("Problem by problem, A with", list(with_which)[1:], "beside", say=lambda i: with_which[i])
    by_problem(view.run, next(r for r in chosen if r["run_id"] == other), with_which[other])
    by_metric_of_all(chosen)
    return None


shell.show(body)
