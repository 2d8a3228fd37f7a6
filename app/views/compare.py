"""Compare: what is different between two runs, or two models, and by how much?"""

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

NUMBERS = ("A", "B", "B - A", "low", "high")


def other_run(view: filters.View, runs: Sequence[Row]) -> Row:
    """Ask for the run to compare the sidebar's with; runs of another model come first, then the latest."""
    others = [r for r in runs if r["run_id"] != view.run_id]
    others.sort(key=lambda r: r["model"] == view.run["model"])  # stable, so the latest stay first
    return filters.choose_run("Compare with", "with", others, lambda r: run_line(r, view.where))


def run_line(run: Row, where: Any) -> str:
    """Return a run as "model · scale · time"."""
    return f"{run['model']} · {run['scale']} · {words.local_time(run['started_at'], where)}"


def differences(first: Row, second: Row) -> None:
    """List how the plans and records differ, key by key."""
    st.subheader("What is different")
    rows, equal = read(compare.plans, first["run_id"], second["run_id"])
    if not rows:
        st.caption(f"Nothing: all {equal:,} settings, versions and digests are equal.")
        return
    st.caption(f"{words.count(len(rows), 'setting')} or versions differ; {equal:,} are equal.")
    shown = [{"setting": r["key"], "A": r["first"], "B": r["second"]} for r in rows]
    tables.show(shown, f"{first['run_id']}-{second['run_id']}-plan")


def verdicts(first: Row, second: Row) -> None:
    """List each phase's verdict and main number in both runs."""
    st.subheader("Verdicts")
    chains = [{v["phase"]: v for v in read(snapshot.chain, r["run_id"])} for r in (first, second)]
    rows = [_beside(p, *(c.get(p) for c in chains)) for p in ORDER if any(p in c for c in chains)]
    if not rows:
        st.caption("Neither run has a verdict yet.")
        return
    tables.show(rows, f"{first['run_id']}-{second['run_id']}-verdicts")


def _beside(phase: str, first: Row | None, second: Row | None) -> dict[str, str]:
    """Return both verdicts, then both main numbers, so that what is compared is side by side."""
    metrics = [
        f"{words.words(v['main_metric'])}{', ' if v['main_condition'] else ''}{v['main_condition']}"
        for v in (first, second)
        if v
    ]
    both = zip("AB", (first, second), strict=True)
    shown = [(letter, v["status"] if v else "not run", _value(v)) for letter, v in both]
    return {
        "phase": named(phase),
        **{f"verdict {letter}": status for letter, status, _ in shown},
        "metric": "; B: ".join(dict.fromkeys(metrics)),
        **{f"value {letter}": value for letter, _, value in shown},
    }


def _value(verdict: Row | None) -> str:
    return words.estimate(verdict) if verdict else ""


def by_problem(first: Row, second: Row) -> None:
    """Show differences over the problems that both runs solved."""
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
        style.draw(compare_figures.differences(shown, measure), name)
    same = sum(r["shared"] for r in shown)
    if same:
        st.caption(
            f"{same:,} of {sum(r['n'] for r in shown):,} pairs are one result that serves both runs: they cannot differ."
        )
    listed = [_row(r, {k: r[k] for k in ("condition", "measure")}, {"n": r["n"]}) for r in of_phase]
    tables.show(listed, f"{name}-table", NUMBERS)


def _row(row: Row, about: Row, sizes: Row) -> Row:
    """Return a difference of the runs as it is read."""
    numbers = {"A": "first", "B": "second", "B - A": "value", "low": "low", "high": "high"}
    found = {shown: row[name] for shown, name in numbers.items()}
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
        about = {"metric": words.words(r["metric"]), "condition": r["condition"]}
        return _row(r, about, {"n A": r["first_n"], "n B": r["second_n"]})

    tables.show(list(map(line, rows)), f"{first['run_id']}-{second['run_id']}-metrics", NUMBERS, height=420)


def body(view: filters.View) -> None:
    """Compare two runs: A is the sidebar's, B is chosen here."""
    runs = read(snapshot.runs)
    if len(runs) < 2:
        return shell.empty(
            "There is one run only; two can be compared.",
            f"lab pipeline --scale {view.run['scale']} --set temperature=0.5",
            "Another model, scale, setting or domain makes another run.",
        )
    shell.title("Compare", "What is different, and by how much?", [])
    second = other_run(view, runs)
    lines = (
        f"<p><strong>{letter}</strong> <bdi>{escape(run_line(r, view.where))}</bdi> "
        f'<span class="lab-quiet"><bdi>{escape(r["run_id"])}</bdi></span></p>'
        for letter, r in (("A", view.run), ("B", second))
    )
    st.html(f'<div class="lab-pair">{"".join(lines)}</div>')
    differences(view.run, second)
    verdicts(view.run, second)
    by_problem(view.run, second)
    by_metric(view.run, second)
    return None


shell.show(body)
