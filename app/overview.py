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


@st.fragment(run_every=REFRESH_S)
def watch(seen: reading.Identity | None) -> None:
    """Run the page again when the collector has published another snapshot, and only then."""
    if reading.identity() != seen:
        st.rerun()


def empty(sentence: str, command: str, detail: str = "") -> None:
    """One sentence and one command to copy."""
    st.html(f'<div class="lab-head"><h1>{escape(sentence)}</h1></div>')
    if detail:
        st.html(f'<p class="lab-quiet" style="overflow-wrap:anywhere;margin:0">{escape(detail)}</p>')
    if command:
        st.code(command, language="bash")


def choose(runs: list[reading.Row]) -> reading.Row:
    """The run that ?run= names, else the latest; a choice is written back to the address."""
    ids = [r["run_id"] for r in runs]
    asked = st.query_params.get("run")
    if st.session_state.get("run") not in ids:
        st.session_state["run"] = asked if asked in ids else ids[0]
    picked = st.selectbox("Run", ids, key="run")
    if picked != asked:
        st.query_params["run"] = picked
    return runs[ids.index(picked)]


def header(run: Row, told: story.Story, where: Any) -> None:
    """Which run, how far, what next."""
    started = run["started_at"]
    quiet = " · ".join(escape(str(run[k])) for k in ("domain", "model")) + f" · {escape(run['scale'])} scale · started "
    quiet += f'<time title="{words.utc_time(started)}">{words.local_time(started, where)}</time>'
    st.html(cards.head(quiet, told.sentence, told.then, told.command))


def reasons(verdicts: Mapping[str, Row]) -> None:
    """Why each verdict, and what to try."""
    st.subheader("Reasons and next steps")
    if not verdicts:
        st.caption("No verdict yet.")
    for phase, verdict in verdicts.items():
        st.html(cards.reason(phase, verdict))
        for step in verdict["next_steps"]:
            command, remark = words.command_and_remark(str(step))
            if remark:
                st.html(f'<div class="lab-quiet" style="font-size:0.875rem">{escape(remark)}</div>')
            st.code(command, language="bash", wrap_lines=True)


def metrics_by_host(rows: list[reading.Row], verdicts: Mapping[str, Row]) -> None:
    """Phase and metric, the forest plot, the table."""
    st.subheader("Metrics by host")
    if not rows:
        st.caption("No metric yet: they are computed when a phase is decided.")
        return
    left, right = st.columns(2)
    phase = left.selectbox("Phase", list(dict.fromkeys(r["phase"] for r in rows)), format_func=words.named)
    of_phase = [r for r in rows if r["phase"] == phase]
    verdict = verdicts.get(phase)
    names = list(dict.fromkeys(r["metric"] for r in of_phase))
    main = names.index(verdict["main_metric"]) if verdict and verdict["main_metric"] in names else 0
    metric = right.selectbox("Metric", names, index=main, format_func=words.words, key=f"metric-{phase}")
    shown = [r for r in of_phase if r["metric"] == metric]
    keep = len(charts.chosen_conditions(shown, verdict["main_condition"] if verdict else None))
    st.html(
        f'<div class="lab-reason"><p><strong>{escape(charts.finding(shown, verdict))}</strong><br>'
        f'<span class="lab-quiet" style="font-size:0.875rem">{escape(charts.basis(shown, keep))}</span></p></div>'
    )
    if any(words.defined(r["value"]) for r in shown):
        known = [h["host"] for h in reading.hosts()]
        st.plotly_chart(charts.forest(shown, known, verdict), config={"displayModeBar": False})
    table(shown)


def table(rows: list[reading.Row]) -> None:
    """The rows behind the plot; numbers stay numbers, so that a click on a column sorts them."""
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
    given = found["arguments_given"]
    versions = plan.get("data_version", [])
    rows = [
        ("Run", found["run_id"], ""),
        ("Plan", f"{found['plan_id']}, SHA-256 {found['plan_sha256'] or 'not stored'}", ""),
        ("Planned", *_time(found["planned_at"], where)),
        ("Started", *_time(found["started_at"], where)),
        ("Finished", *_time(found["finished_at"], where)),
        ("Started on", found["host"], ""),
        ("Commit", found["code_commit"] + (", with uncommitted changes" if found["dirty"] else ", clean"), ""),
        ("Data version", ", ".join(map(str, versions)) if isinstance(versions, list) else str(versions), ""),
        ("Model digests", _pairs(plan.get("digests", {})), ""),
        ("Packages", _pairs(found["versions"]), ""),
        ("Hosts", ", ".join(hosts) or "none yet", ""),
        ("Arguments given", json.dumps(given, ensure_ascii=False) if given else "none", ""),
    ]
    st.html(cards.definitions(rows))
    with st.expander("Arguments by default"):
        st.code(
            json.dumps(found["arguments_defaulted"], indent=2, ensure_ascii=False), language="json", wrap_lines=True
        )


def _time(moment: Any, where: Any) -> tuple[str, str]:
    return (words.local_time(moment, where), words.utc_time(moment)) if moment else ("", "")


def _pairs(values: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items()) if isinstance(values, dict) else str(values)


def show() -> None:
    """The whole page."""
    seen = reading.identity()
    watch(seen)
    state = reading.state()
    if state.kind == "missing":
        return empty("There are no results on this host yet.", "make demo")
    if state.kind == "schema":
        return empty(
            "The results were written by another version of this project.", "git pull && make setup", state.detail
        )
    if state.kind == "unreadable":
        return empty("The results cannot be read.", state.mend or "lab collect", state.detail)
    runs = reading.runs()
    if not runs:
        return empty("There are results on this host, but no run yet.", "lab pipeline --scale demo")
    where = words.zone(st.context.timezone)
    left, right = st.columns([4, 1], gap="large")
    with right:
        run = choose(runs)
    verdicts = {v["phase"]: v for v in reading.chain(run["run_id"])}
    done = reading.progress(run["run_id"])
    with left:
        header(run, story.tell(run, verdicts, done), where)
    st.html(cards.strip(verdicts, done, reading.phase_hosts(run["run_id"])))
    reasons(verdicts)
    metrics_by_host(reading.metrics(run["run_id"]), verdicts)
    provenance(reading.provenance(run["run_id"]), where)
    return None


show()
