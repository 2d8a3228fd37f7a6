"""Hosts: do the machines agree, how fast is each, and what ran where?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app import format as words
from app.components import by_host, filters, shell, tables
from app.plots import hosts as host_figures
from app.plots import style
from app.reading import Row, read
from common.text import printable
from warehouse.queries import hosts as reading_hosts
from warehouse.queries import snapshot

AUDIT = "lab audit --fraction 0.05"


def audits(view: filters.View) -> None:
    """Show if units that were run again, elsewhere or in another process, gave the same results."""
    st.subheader("Audits")
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


def headline(run_id: str, hosts: Sequence[str]) -> str:
    """Return in a sentence if the hosts agree."""
    if not hosts:
        return "No host has worked on this run yet"
    if len(hosts) == 1:
        return f"Everything ran on {hosts[0]}, so there is nothing to compare"
    meeting, compared = read(snapshot.host_agreement, run_id)
    if not compared:
        return f"{words.listed(list(hosts))} worked on this run; they share no metric with an interval"
    if meeting == compared:
        return f"The hosts agree: their intervals meet in all {compared:,} comparisons"
    return f"The hosts' intervals meet in {meeting:,} of {compared:,} comparisons"


def agreement(view: filters.View, known: list[str]) -> None:
    """Show one metric of one phase by host, with intervals, and its table."""
    verdicts = {v["phase"]: v for v in read(snapshot.chain, view.run_id)}
    found = by_host.chosen(view, verdicts, known, "-by-host")
    if found is None:
        return
    columns = "condition host value low high n failed method".split()
    rows = [{k: r[k] for k in columns} for r in found.shown]
    tables.show(rows, f"{view.run_id}-{found.phase}-{found.metric}-by-host", numbers=("value", "low", "high"))


def disagreements(view: filters.View) -> None:
    """List the comparisons in which two hosts' intervals do not meet."""
    rows = read(reading_hosts.apart, view.run_id)
    rows = [r for r in rows if view.host in (None, r["host"], r["other"])]
    if not rows:
        return
    st.subheader("Where the hosts do not agree")
    st.caption(
        f"{words.count(len(rows), 'comparison')} of two hosts whose 95 % intervals do not meet. "
        "Among many comparisons a few such are expected; the same metric in several conditions is not."
    )
    tables.show(
        [
            {
                "phase": r["phase"].upper(),
                "metric": words.words(r["metric"]),
                "condition": r["condition"],
                "host": r["host"],
                "value": words.estimate(r),
                "other host": r["other"],
                "other value": words.with_interval(r["other_value"], r["other_low"], r["other_high"]),
            }
            for r in rows
        ],
        f"{view.run_id}-disagreements",
    )


def timeline(view: filters.View) -> None:
    """Show what ran where, and how much each host did."""
    st.subheader("What ran where")
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
        shown = ("host", "units", "trials", "failed")
        rows = [{**{k: w[k] for k in shown}, "work": words.duration(busy.get(w["host"]))} for w in done]
        tables.show(rows, f"{view.run_id}-work-by-host")


def speeds(view: filters.View) -> None:
    """Show what lab assess measured on each host."""
    st.subheader("Speed")
    found = read(reading_hosts.reports)
    reports, known = [r for r in found.hosts if view.host in (None, r["host"])], [r["host"] for r in found.hosts]
    for problem in found.problems:
        shell.step(f"Left out, since its report cannot be read: {printable(problem)}. On that machine:", "lab assess")
    drawn = [(m, f) for m in host_figures.SPEEDS if (f := host_figures.speed(reports, m, known))]
    if not drawn:
        shell.hint("No speed was measured yet. On each machine, while it does nothing else:", "lab assess")
    for start in range(0, len(drawn), 2):
        for column, (measure, figure) in zip(st.columns(2), drawn[start : start + 2], strict=False):
            with column:
                style.draw(figure, f"speed-{measure}")
    if reports:
        measured = {
            m: s.column for m, s in host_figures.SPEEDS.items() if any(r["report"][m] is not None for r in reports)
        }
        rows = [_machine(r, measured) for r in reports]
        tables.show(rows, "hosts", numbers=("memory GB", *measured.values()))


def _machine(row: Row, measured: Mapping[str, str]) -> Row:
    report = row["report"]
    return {
        "host": row["host"],
        "tier": row["tier"],
        "cores": report["cores_logical"],
        "memory GB": report["ram_total_gb"],
        "GPU": ", ".join(report["gpus"]) or "none",
        **{short: report[m] for m, short in measured.items()},
        "Python": row["python"],
        "system": report["os"],
        "remarks": "; ".join(report["reasons"]) or "none",
    }


def predictions(view: filters.View) -> None:
    """Compare the plan's durations with the actual ones."""
    st.subheader("Predicted against actual")
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
    per_phase = read(snapshot.phase_hosts, view.run_id)
    hosts = sorted({h for own in per_phase.values() for h in own})
    known = [h["host"] for h in read(snapshot.hosts)]
    shell.title("Hosts", headline(view.run_id, hosts), [words.count(len(known), "host known", "hosts known")])
    agreement(view, known)
    disagreements(view)
    audits(view)
    timeline(view)
    speeds(view)
    predictions(view)


shell.show(body)
