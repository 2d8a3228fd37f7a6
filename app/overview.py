"""Overview: how far is the chain, what was decided, is it believable, what is next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from app import cards, charts, story
from app import format as words
from warehouse import reading

Row = Mapping[str, Any]
REFRESH_S = 3  # a publication is seen within this
UNREADY = {
    "missing": "There are no results on this host yet.",
    "schema": "The results were written by another version of this project.",
    "unreadable": "The results cannot be read.",
}


@st.fragment(run_every=REFRESH_S)
def watch(seen: reading.Identity | None) -> None:
    """Run the page again when the collector has published another snapshot, and only then."""
    if reading.identity() != seen:
        st.rerun()


def empty(sentence: str, command: str, detail: str = "") -> None:
    """One sentence and one command to copy."""
    st.html(
        f'<div class="lab-head"><h1>{escape(sentence)}</h1>'
        + (f'<p class="lab-quiet">{escape(detail)}</p>' if detail else "")
        + "</div>"
    )
    st.code(command, language=None, width=480)


def choose(runs: list[reading.Row], where: Any) -> reading.Row:
    """The run that ?run= names, else always the latest; a choice is written into the address."""
    ids = [r["run_id"] for r in runs]
    asked = st.query_params.get("run")
    st.session_state["run"] = asked if asked in ids else ids[0]

    labels = [f"{words.local_time(r['started_at'], where)} · {r['scale']} · {r['domain']} · {r['model']}" for r in runs]

    def label(run_id: str) -> str:
        text = labels[ids.index(run_id)]
        return text if labels.count(text) == 1 else f"{text} · {run_id}"

    def remember() -> None:
        st.query_params["run"] = st.session_state["run"]

    picked = st.selectbox("Run", ids, format_func=label, key="run", on_change=remember)
    if asked and asked not in ids:
        st.caption("The run that the address names is not here; this is the latest.")
    return runs[ids.index(picked)]


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
            steps = [words.command_and_remark(str(step)) for step in verdict["next_steps"]]
            places = st.columns(len(steps)) if len(steps) > 1 else [st.container(width=660)] if steps else []
            for place, (command, remark) in zip(places, steps, strict=False):
                with place.container(gap="xxsmall"):
                    st.html(f'<div class="lab-remark lab-quiet">{escape(remark or "Try")}</div>')
                    st.code(command, language=None, wrap_lines=True)


def pick_phase(phases: list[str]) -> str:
    """The phase that the reader chose, else always the latest that has metrics."""
    chosen = st.session_state.get("phase_chosen")
    st.session_state["phase"] = chosen if chosen in phases else phases[-1]

    def remember() -> None:
        st.session_state["phase_chosen"] = st.session_state["phase"]

    return str(st.selectbox("Phase", phases, format_func=words.named, key="phase", on_change=remember))


def metrics_by_host(run_id: str, verdicts: Mapping[str, Row]) -> None:
    """Phase and metric, the forest plot, the table."""
    st.subheader("Metrics by host")
    phases = reading.measured_phases(run_id)
    if not phases:
        st.caption("No metric yet: they are computed when a phase is decided.")
        return
    left, right = st.columns(2)
    with left:
        phase = pick_phase(phases)
    of_phase = reading.host_comparison(run_id, phase)
    if len({r["host"] for r in of_phase}) != 1:  # with one host the two are the same
        of_phase = [*reading.phase_metrics(run_id, phase), *of_phase]
    verdict = verdicts.get(phase)
    names = list(dict.fromkeys(r["metric"] for r in of_phase))
    main = names.index(verdict["main_metric"]) if verdict and verdict["main_metric"] in names else 0
    metric = right.selectbox("Metric", names, index=main, format_func=words.words, key=f"metric-{phase}")
    shown = [r for r in of_phase if r["metric"] == metric]
    keep = len(charts.chosen_conditions(shown, verdict["main_condition"] if verdict else None))
    st.html(
        f'<div class="lab-finding"><p><strong>{escape(charts.finding(shown, verdict))}</strong></p>'
        f'<p class="lab-quiet">{escape(charts.basis(shown, keep))}</p></div>'
    )
    if any(words.defined(r["value"]) for r in shown):
        known = [h["host"] for h in reading.hosts()]
        st.plotly_chart(charts.forest(shown, known, verdict), config={"displayModeBar": False})
    order = {name: i for i, name in enumerate([metric, *names])} | {metric: -1}
    table(
        sorted(of_phase, key=lambda r: (order[r["metric"]], [x["condition"] for x in of_phase].index(r["condition"])))
    )


def table(rows: list[reading.Row]) -> None:
    """All rows of the phase, those of the plot first; numbers stay numbers, so that a click on a column sorts them."""
    frame = pd.DataFrame(
        {
            "phase": [r["phase"].upper() for r in rows],
            "metric": [words.words(r["metric"]) for r in rows],
            "condition": [r["condition"] for r in rows],
            "host": [r["host"] for r in rows],
            "value": pd.Series([r["value"] for r in rows], dtype="float64"),
            "interval": [words.interval(r["low"], r["high"]) for r in rows],
            "n": [r["n"] for r in rows],
            "failed": [r["failed"] for r in rows],
            "method": [r["method"] for r in rows],
        }
    )
    readable: Any = frame.style.format(lambda x: words.number(float(str(x))), subset=["value"], na_rep=words.UNDEFINED)
    st.dataframe(readable, hide_index=True, width="stretch")


def provenance(found: Row | None, where: Any) -> None:
    """What would be needed to get the same numbers again."""
    st.subheader("Provenance")
    if found is None:
        st.caption("This run has no record.")
        return
    plan = found["content"]
    hosts = [
        f"{h['host']} ({h['tier'] or 'tier not known'}, {words.count(h['units'], 'unit')})" for h in found["hosts"]
    ]
    given, defaulted = found["arguments_given"], found["arguments_defaulted"]
    versions_of = plan.get("code_versions", {})
    versions = plan.get("data_version", [])
    rows = [
        ("Run", found["run_id"], ""),
        ("Plan", f"{found['plan_id']}, SHA-256 {found['plan_sha256'] or 'not stored'}", ""),
        ("Planned", *_time(found["planned_at"], where)),
        ("Before its trials", _order(found), ""),
        ("Started", *_time(found["started_at"], where)),
        ("Finished", *_time(found["finished_at"], where)),
        ("Started on", found["host"], ""),
        ("Commit", found["code_commit"] + (", with uncommitted changes" if found["dirty"] else ", clean"), ""),
        ("Code of phases", _pairs({p.upper(): versions_of[p] for p in words.TITLES if p in versions_of}), ""),
        ("Data version", ", ".join(map(str, versions)) if isinstance(versions, list) else str(versions), ""),
        ("Model digests", _pairs(plan.get("digests", {})), ""),
        ("Packages", _pairs(found["versions"]), ""),
        ("Hosts", ", ".join(hosts) or "none yet", ""),
        ("Arguments given", json.dumps(given, ensure_ascii=False) if given else "none", ""),
    ]
    doubtful = [*(["Commit"] if found["dirty"] else []), *(["Before its trials"] if found["units_before"] else [])]
    st.html(cards.definitions(rows, tuple(doubtful)))
    for title, content in (("Arguments by default", defaulted), ("The plan, as stored", plan)):
        with st.expander(title):
            st.code(json.dumps(content, indent=2, ensure_ascii=False), language="json", wrap_lines=True, height=400)


def _order(found: Row) -> str:
    """Whether the plan was there before the trials, without which it announced nothing."""
    if not found["units_before"]:
        return "yes, before the first"
    return f"no, {found['units_before']} of {found['units']} units had results of an earlier plan already"


def _time(moment: Any, where: Any) -> tuple[str, str]:
    return (words.local_time(moment, where), words.utc_time(moment)) if moment else ("", "")


def _pairs(values: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items()) if isinstance(values, dict) else str(values)


def report(runs: list[reading.Row]) -> None:
    """The page of one run."""
    where = words.zone(st.context.timezone)
    left, right = st.columns([7, 3], gap="large")
    with right:
        run = choose(runs, where)
    run_id = run["run_id"]
    verdicts = {v["phase"]: v for v in reading.chain(run_id)}
    done = reading.progress(run_id)
    with left:
        rests_on = story.evidence(run, verdicts, reading.host_agreement(run_id))
        header(run, story.tell(run, verdicts, done), rests_on, where)
    last = {phase: words.local_time(at, where) for phase, at in reading.latest_results(run_id).items()}
    st.html(cards.strip(verdicts, done, reading.phase_hosts(run_id), last))
    reasons(verdicts)
    metrics_by_host(run_id, verdicts)
    provenance(reading.provenance(run_id), where)


def show() -> None:
    """The report, or the one sentence that says why there is none."""
    watch(reading.identity())
    state = reading.state()
    if state.kind != "ready":
        return empty(UNREADY[state.kind], state.mend, "" if state.kind == "missing" else state.detail)
    try:
        runs = reading.runs()
        if runs:
            return report(runs)
    except reading.READ_ERRORS as error:  # the file was replaced by another kind, or removed, between two queries
        return empty(UNREADY["unreadable"], "lab collect", str(error).splitlines()[0][:200])
    return empty("There are results on this host, but no run yet.", "lab pipeline --scale demo")


show()
