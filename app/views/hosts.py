"""Hosts: do the machines agree, how fast is each, and what ran where?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

import streamlit as st

from app import format as words
from app import prefect_api
from app.components import by_host, differing, filters, machines, matrix, shell, tables
from app.phase_names import named
from app.plots import hosts as host_figures
from app.plots import style
from app.reading import Row, read
from common.text import printable
from warehouse.queries import hosts as reading_hosts
from warehouse.queries import snapshot
from warehouse.queries.agreement import RunAgreement, in_words

REFRESH_S = 4
AUDIT = "lab audit --fraction 0.05"


def audits(view: filters.View) -> None:
    """Show if units that were run again, elsewhere or in another process, gave the same results."""
    rows = [r for r in read(snapshot.audits, view.run_id) if view.host in (None, r["host"], r["other"])]
    if not rows:
        return shell.hint("No unit was run a second time yet. To run one in twenty again and compare:", AUDIT)
    agreeing, units = (sum(r[k] for r in rows) for k in ("agreeing", "units"))
    unanswered = sum(r["without_result"] for r in rows)
    text = f"{agreeing:,} of {words.count(units, 'unit')} gave the same when run again"
    st.markdown(f"**{text}{f'; {unanswered:,} gave no second result' if unanswered else ''}.**")
    numbers = ("largest difference", "tolerance")
    tables.show(tables.audits(rows, view.where), f"{view.run_id}-audits", numbers)
    found = [d | {"host": r["host"], "run again on": r["other"]} for r in rows for d in r["deviations"]]
    if found:
        st.caption("The first difference of each, or why there is no second result:")
        tables.show(found, f"{view.run_id}-audit-deviations")
    return None


@st.fragment(run_every=REFRESH_S)
def machines_now(view: filters.View, lines: list[machines.Line], known: list[str]) -> None:
    """List the hosts and what each does now, as Prefect's server says; asked again every REFRESH_S seconds."""
    left, now = read(reading_hosts.left, view.run_id), None
    with suppress(prefect_api.AwayError):
        now = prefect_api.look(prefect_api.address())
    at = datetime.now(UTC)
    st.html(machines.rows(lines[: machines.MOST_ROWS], known, now, left, at))
    if rest := lines[machines.MOST_ROWS :]:
        with st.expander(f"{words.count(len(rest), 'more host')}"):
            st.html(machines.rows(rest, known, now, left, at))


def lines_of(
    view: filters.View, found: RunAgreement, known: list[str], seconds: Mapping[tuple[str, str], float]
) -> list[machines.Line]:
    """Return a line for each host, those that differ and those that worked most first where there are many."""
    tiers = {h["host"]: h["tier"] for h in read(snapshot.hosts)}
    reports = {r["host"]: r["report"] for r in read(reading_hosts.reports).hosts}
    speed = machines.speeds(read(reading_hosts.seconds_a_trial, view.run_id), reports)
    whole = sum(seconds.values())
    own = {host: sum(s for (_, h), s in seconds.items() if h == host) for host in known}
    order = matrix.ordered(found, known)
    hosts = [*order, *(h for h in known if h not in order)]
    return [
        machines.Line(h, tiers.get(h, ""), own.get(h, 0.0) / whole if whole else None, speed.get(h))
        for h in hosts
        if view.host in (None, h)
    ]


def agreement(view: filters.View, found: RunAgreement, known: list[str]) -> None:
    """Show the matrix of phases and hosts, and what the reader opens of it."""
    verdicts = {v["phase"]: v for v in read(snapshot.chain, view.run_id)}
    hosts = [h for h in matrix.ordered(found, known) if view.host in (None, h)]
    if not hosts:
        return
    st.subheader("Agreement" if found.compared else "Results by host")
    if text := matrix.basis(found):
        st.caption(f"Basis: {text}")
    main = {
        (phase, r["host"]): r
        for phase, v in verdicts.items()
        for r in read(snapshot.host_comparison, view.run_id, phase)
        if (r["metric"], r["condition"]) == (v["main_metric"], v["main_condition"])
    }
    link = {k: v for k, v in st.query_params.to_dict().items() if k not in ("phase", "with", "differing", "metric")}
    link["run"] = view.run_id
    st.html(matrix.table(found, hosts[: machines.MOST_ROWS], known, main, verdicts, link))
    if rest := hosts[machines.MOST_ROWS :]:
        with st.expander(words.count(len(rest), "more host")):
            st.html(matrix.table(found, rest, known, main, verdicts, link))
    _opened(view, found, known, verdicts)


def _opened(view: filters.View, found: RunAgreement, known: list[str], verdicts: Mapping[str, Row]) -> None:
    """Show the phase and host that the reader chose in the matrix: the differing trials, and the metrics by host."""
    marks = [(sum(m.differing for m in p.deviating.values()), name) for name, p in found.phases.items()]
    most = max(marks)[1] if marks and max(marks)[0] else list(found.phases)[-1]
    asked = filters.asked("phase")
    chosen = asked if asked is not None and asked in found.phases else most
    mark_of = found.of(chosen).marks
    compared = [h for h, m in mark_of.items() if m.kind in ("same", "differs") and view.host in (None, h)]
    st.subheader(f"{named(chosen)} by host", anchor="differences")
    by_host.chosen(view, verdicts, known, "-by-host", default=chosen)
    if compared:
        first = next((h for h in compared if mark_of[h].kind == "differs"), compared[0])
        with st.columns(2)[0]:
            host = filters.choice("Host to compare", compared, "with", first)
        differing.show(view, found, chosen, host, mark_of[host], known)


def timeline(view: filters.View, known: list[str], seconds: Mapping[tuple[str, str], float]) -> None:
    """Show the share of each host, and what ran where and when."""
    st.subheader("Who did what")
    if bars := matrix.shares(seconds, known):
        st.html(bars)
    found = read(reading_hosts.timeline, view.run_id)
    rows = [s for s in found.stretches if view.host in (None, s["host"])]
    if not rows:
        st.caption(f"No result of this run was computed{f' on {view.host}' if view.host else ''}.")
    else:
        style.draw(host_figures.gantt(rows, view.where), f"{view.run_id}-what-ran-where")
    if found.reused:
        st.caption(
            f"{words.count(found.reused, 'result')} of an earlier run were used again; they took no time and are not drawn."
        )
    busy = host_figures.busy_by_host(found.stretches)
    done = [w for w in read(reading_hosts.work, view.run_id) if view.host in (None, w["host"])]
    if done:
        shown = {"host": "host", "units": "units", "counted": "of which count", "trials": "trials", "failed": "failed"}
        table = [{**{shown[k]: w[k] for k in shown}, "work": words.duration(busy.get(w["host"]))} for w in done]
        tables.show(table, f"{view.run_id}-work-by-host")


def speeds(view: filters.View) -> None:
    """Show in one table what lab assess measured on each host, and the seconds that its trials took in this run."""
    st.subheader("Speed")
    reports = {r["host"]: r["report"] for r in read(reading_hosts.reports).hosts}
    means = read(reading_hosts.seconds_a_trial, view.run_id)
    phases = list(dict.fromkeys(r["phase"] for r in means))
    hosts = [h for h in dict.fromkeys([*reports, *(r["host"] for r in means)]) if view.host in (None, h)]
    measured = {m: s for m, s in host_figures.SPEEDS.items() if any(reports[h][m] is not None for h in reports)}
    if not measured:
        shell.hint("No speed was measured yet. On each machine, while it does nothing else:", "lab assess")
    if not (measured or phases) or not hosts:
        return
    rows = []
    for host in hosts:
        took = {r["phase"]: r["mean_s"] for r in means if r["host"] == host}
        assessed = {s.column: reports[host][m] if host in reports else None for m, s in measured.items()}
        rows.append({"host": host, **assessed, **{f"{p.upper()}, s a trial": took.get(p) for p in phases}})
    st.caption("Measured by lab assess; then the mean seconds of a trial in this run, by phase.")
    tables.show(rows, f"{view.run_id}-speed", numbers=[c for c in rows[0] if c != "host"], missing="\u2013")


def hardware(view: filters.View) -> None:
    """List what lab assess found on each host."""
    found = read(reading_hosts.reports)
    for problem in found.problems:
        shell.step(f"Left out, since its report cannot be read: {printable(problem)}. On that machine:", "lab assess")
    if rows := [_machine(r) for r in found.hosts if view.host in (None, r["host"])]:
        tables.show(rows, "hosts", numbers=("memory GB",))


def _machine(row: Row) -> Row:
    report = row["report"]
    return {
        "host": row["host"],
        "tier": row["tier"],
        "cores": report["cores_logical"],
        "memory GB": report["ram_total_gb"],
        "GPU": "not known" if report["gpus"] is None else ", ".join(report["gpus"]) or "none",
        "Python": row["python"],
        "system": report["os"],
        "remarks": "; ".join(report["reasons"]) or "none",
    }


def predictions(view: filters.View) -> None:
    """Compare the plan's durations with the actual ones."""
    rows = read(reading_hosts.predictions, view.run_id)
    if not rows:
        plan = f"lab plan --scale {view.run['scale']}"
        return shell.hint("No phase that was planned has ended yet. To see the plan before a run:", plan)
    style.draw(host_figures.predicted(rows), f"{view.run_id}-predicted-against-actual")
    shown = [{**r, "phase": r["phase"].upper(), "actual / predicted": r["actual_s"] / r["predicted_s"]} for r in rows]
    numbers = ("predicted_s", "actual_s", "actual / predicted")
    tables.show(shown, f"{view.run_id}-predicted-against-actual", numbers)
    return None


def body(view: filters.View) -> None:
    """Show the page of one run."""
    known = [h["host"] for h in read(snapshot.hosts)]
    found = read(snapshot.agreement, view.run_id)
    seconds: dict[tuple[str, str], float] = {}
    for s in read(reading_hosts.timeline, view.run_id).stretches:
        seconds[s["phase"], s["host"]] = seconds.get((s["phase"], s["host"]), 0.0) + s["work_s"]
    shell.title("Hosts", in_words(found), [words.count(len(known), "host known", "hosts known")])
    machines_now(view, lines_of(view, found, known, seconds), known)
    agreement(view, found, known)
    timeline(view, known, seconds)
    speeds(view)
    for title, part in (("Predicted against actual", predictions), ("Audits", audits), ("Hardware", hardware)):
        with st.expander(title):
            part(view)


shell.show(body)
