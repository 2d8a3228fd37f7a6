"""Provenance: where do the numbers come from, and can they be believed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from app import format as words
from app.components import cards, filters, origin, shell, tables
from app.phase_names import named
from app.reading import read
from warehouse.queries import checks as reading_checks
from warehouse.queries import snapshot

Row = Mapping[str, Any]


def headline(doubts: list[str]) -> str:
    """What speaks against the numbers, in a sentence."""
    if not doubts:
        return "Nothing recorded speaks against these numbers"
    return f"{words.count(len(doubts), 'thing')} to know before these numbers are believed"


def doubts_of(
    found: Row, verdicts: Sequence[Row], checks: Row, audits: Sequence[Row], proofs: Sequence[Row] = ()
) -> list[str]:
    """Each recorded fact that weakens what the run says, in a sentence."""
    doubts = []
    if found["dirty"]:
        doubts.append("The code had uncommitted changes, so the commit alone does not give it again.")
    if found["units_before"]:
        doubts.append(
            f"{found['units_before']:,} of {found['units']:,} units had results of an earlier plan before this one was stored, "
            "so for them it announced nothing."
        )
    over = [v for v in verdicts if v["overridden_by"]]
    if over:
        names = words.listed([v["phase"].upper() for v in over])
        doubts.append(
            f"{names} did not pass and {'was' if len(over) == 1 else 'were'} overridden: {over[0]['why'] or 'no reason given'}"
        )
    leaky = [v["phase"].upper() for v in verdicts if v["leaky"]]
    if leaky:
        doubts.append(f"Data leaked in {words.listed(leaky)}, and the run went on.")
    if checks["failed"]:
        doubts.append(
            f"{checks['failed']:,} of {words.count(checks['trials'], 'trial')} failed; they count as failed, not as zero."
        )
    if checks["given_up"]:
        doubts.append(
            f"{words.count(checks['given_up'], 'unit')} could not be computed and {'was' if checks['given_up'] == 1 else 'were'} given up."
        )
    differ = sum(a["deviating_units"] for a in audits)
    if differ:
        doubts.append(f"{words.count(differ, 'unit')} gave something else when run again.")
    faults = sum(p["faults"] for p in holding(proofs))
    if faults:
        doubts.append(f"lab verify found {words.count(faults, 'fault')} in the warehouse; they are listed below.")
    return doubts


def leaks(run_id: str) -> None:
    """What the leakage gate found before each phase."""
    st.subheader("Leakage")
    rows = read(reading_checks.leakage, run_id)
    if not rows:
        st.caption("Not looked for yet: it is the first thing that a phase does.")
        return
    tables.show(
        [
            {
                "phase": named(r["phase"]),
                "equal texts": r["exact"],
                "equal when normalised": r["normalised"],
                "nearly alike": r["near"],
                "texts that name a class": r["named"],
                "pairs compared": r["compared"],
                "allowed because": r["allowed"] or "",
            }
            for r in rows
        ],
        f"{run_id}-leakage",
    )


def exploratory(run_id: str) -> None:
    """Numbers that the plan did not announce."""
    rows = read(reading_checks.exploratory, run_id)
    st.subheader("Exploratory numbers")
    if not rows:
        st.caption("None: every metric is one that the plan announces.")
        return
    st.caption("These were not announced in the plan; they suggest, and decide nothing.")
    tables.show(
        [
            {"phase": r["phase"].upper(), "metric": words.words(r["metric"]), "conditions": r["conditions"]}
            for r in rows
        ],
        f"{run_id}-exploratory",
        height=min(360, 38 + 35 * len(rows)),
    )


def bundles(checks: Row) -> None:
    """How the results came in."""
    st.subheader("Results as they came in")
    first, last = checks["first_at"], checks["last_at"]
    where = words.zone(st.context.timezone)
    rows = [
        ("Units planned so far", f"{checks['units']:,}", ""),
        ("With a result", f"{checks['with_result']:,}", ""),
        ("Given up", f"{checks['given_up']:,}" if checks["given_up"] else "none", ""),
        ("Repeats beside them", f"{checks['repeats']:,}" if checks["repeats"] else "none", "kept, and not counted"),
        ("Needed another attempt", f"{checks['retried']:,}" if checks["retried"] else "none", ""),
        ("Size", words.size(checks["size_bytes"]), ""),
        ("First came in", words.local_time(first, where) if first else "", words.utc_time(first) if first else ""),
        ("Last came in", words.local_time(last, where) if last else "", words.utc_time(last) if last else ""),
        ("Trained adapters", checks["files"], ""),
        (
            "In quarantine, of any run",
            f"{checks['quarantined']:,}" if checks["quarantined"] else "none",
            "refused bundles",
        ),
    ]
    st.html(cards.definitions(rows, ("In quarantine, of any run",) if checks["quarantined"] else ()))


def holding(proofs: Sequence[Row]) -> list[Row]:
    """Of what lab verify found, the latest first, what still holds: back to the last time that it looked at everything."""
    whole = next((i for i, p in enumerate(proofs) if p["phase"] is None), len(proofs) - 1)
    return list(proofs[: whole + 1])


def verified(proofs: Sequence[Row], where: Any) -> None:
    """When the warehouse was last proved, how deep, how it came out, and whether results came in since."""
    if not proofs:
        st.caption("The warehouse was never verified.")
        return
    last = proofs[0]
    of = named(last["phase"]) if last["phase"] else "the whole warehouse"
    how = "every metric computed again" if last["deep"] else "checksums and completeness"
    found = f"{words.count(last['faults'], 'fault')} found" if last["faults"] else "No fault found"
    st.html(
        f'<p class="lab-doubt{" lab-warns" if last["faults"] else ""}">{"<i></i>" if last["faults"] else ""}'
        f"<strong>{found} by the last lab verify</strong>, of {escape(of)}: {how}, on "
        f'<time title="{words.utc_time(last["verified_at"])}">{words.local_time(last["verified_at"], where)}</time> '
        f"on <bdi>{escape(last['host'])}</bdi>.</p>"
    )
    if last["bundles_since"]:
        came = words.count(last["bundles_since"], "result")
        st.caption(f"{came} came in after it and {'is' if last['bundles_since'] == 1 else 'are'} not proved yet.")
    findings = [
        {"kind": "fault" if f["fault"] else "note", "check": f["check"], "about": f["about"], "what": f["what"]}
        for p in holding(proofs)
        for f in p["findings"]
    ]
    if findings:
        tables.show(findings, "verify-findings")
    if len(proofs) > 1:
        with st.expander(f"The last {len(proofs)} times"):
            rows = [
                {
                    "when": words.local_time(p["verified_at"], where),
                    "host": p["host"],
                    "of": (p["phase"] or "all").upper(),
                    "computed again": "yes" if p["deep"] else "no",
                    "faults": p["faults"],
                    "notes": p["notes"],
                    "results since": p["bundles_since"],
                }
                for p in proofs
            ]
            tables.show(rows, "verify-history")


def audited(audits: Sequence[Row], where: Any) -> None:
    """How many units gave the same when run again, and when the last was."""
    if not audits:
        st.caption("No unit of this run was audited yet.")
        return
    agreeing, units = (sum(a[k] for a in audits) for k in ("agreeing", "units"))
    last = max(a["last_at"] for a in audits)
    st.markdown(
        f"**{agreeing:,} of {words.count(units, 'audited unit')} gave the same again**, the last on {words.local_time(last, where)}."
    )


def verify(run_id: str, audits: Sequence[Row], proofs: Sequence[Row], where: Any) -> None:
    """Whether somebody checked: verify, audits, and the commands that check again."""
    st.subheader("Verified and audited")
    verified(proofs, where)
    audited(audits, where)
    left, right = st.columns(2)
    for place, remark, command in (
        (left, "Checksums, completeness, and every metric computed again from the trials", "lab verify --deep"),
        (right, "A random share of the units, run again elsewhere", f"lab audit --run {run_id} --fraction 0.05"),
    ):
        with place.container(gap="xxsmall"):
            st.html(f'<div class="lab-remark lab-quiet">{escape(remark)}</div>')
            st.code(command, language=None, wrap_lines=True)


def body(view: filters.View) -> None:
    """The page of one run."""
    found = read(snapshot.provenance, view.run_id)
    verdicts = read(snapshot.chain, view.run_id)
    checks = read(reading_checks.results, view.run_id)
    audits = read(snapshot.audits, view.run_id)
    proofs = read(reading_checks.verified)
    doubts = doubts_of(found or view.run | {"units_before": 0}, verdicts, checks, audits, proofs)
    shell.title("Provenance", headline(doubts), [view.run_id, f"plan {view.run['plan_id']}"])
    if doubts:
        st.html("".join(f'<p class="lab-doubt lab-warns"><i></i><bdi>{escape(d)}</bdi></p>' for d in doubts))
    st.subheader("Run and plan")
    origin.show(found, view.where)
    leaks(view.run_id)
    exploratory(view.run_id)
    bundles(checks)
    verify(view.run_id, audits, proofs, view.where)


shell.show(body)
