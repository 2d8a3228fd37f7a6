"""Provenance: where do the numbers come from, and can they be believed?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from html import escape

import streamlit as st

from app import format as words
from app.components import cards, filters, origin, shell, tables
from app.phase_names import named
from app.reading import Row, read
from warehouse.queries import checks as reading_checks
from warehouse.queries import snapshot


def headline(doubts: list[str]) -> str:
    """Return in a sentence how many facts weaken the numbers."""
    if not doubts:
        return "Nothing recorded speaks against these numbers"
    return f"{words.count(len(doubts), 'thing')} to know before these numbers are believed"


def doubts_of(
    found: Row, verdicts: Sequence[Row], checks: Row, audits: Sequence[Row], proofs: Sequence[Row] = ()
) -> list[str]:
    """Return each recorded fact that weakens the results, in a sentence."""
    doubts = []
    if found["dirty"]:
        doubts.append("The code had uncommitted changes, so the commit alone does not reproduce it.")
    if found["units_before"]:
        doubts.append(
            f"{found['units_before']:,} of {found['units']:,} units had results of an earlier plan before this one was stored, "
            "so for them the plan came after the results."
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
        doubts.append(f"{words.count(differ, 'unit')} gave another result when run again.")
    faults = sum(p["faults"] for p in holding(proofs))
    if faults:
        doubts.append(f"lab verify found {words.count(faults, 'fault')} in the warehouse; they are listed below.")
    return doubts


def leaks(run_id: str) -> None:
    """List what the leakage gate found before each phase."""
    st.subheader("Leakage")
    rows = read(reading_checks.leakage, run_id)
    if not rows:
        st.caption("Not checked yet: every phase begins with this check.")
        return
    tables.show(
        [
            {
                "phase": named(r["phase"]),
                "equal texts": r["exact"],
                "equal when normalised": r["normalised"],
                "nearly equal": r["near"],
                "texts that name a class": r["named"],
                "pairs compared": r["compared"],
                "allowed because": r["allowed"] or "",
            }
            for r in rows
        ],
        f"{run_id}-leakage",
    )


def exploratory(run_id: str) -> None:
    """List the metrics that the plan does not announce."""
    rows = read(reading_checks.exploratory, run_id)
    st.subheader("Exploratory numbers")
    if not rows:
        st.caption("None: every metric is one that the plan announces.")
        return
    st.caption("The plan does not announce these. They may suggest a question; they decide nothing.")
    shown = [r | {"phase": r["phase"].upper(), "metric": words.words(r["metric"])} for r in rows]
    tables.show(shown, f"{run_id}-exploratory", height=min(360, 38 + 35 * len(rows)))


def bundles(checks: Row, where: tzinfo | None) -> None:
    """Show how the results came in."""
    st.subheader("Results as they came in")

    def number(name: str, key: str, hover: str = "", warns: bool = False) -> cards.Fact:
        return cards.Fact(name, f"{checks[key]:,}" if checks[key] else "none", hover, warns and bool(checks[key]))

    def moment(name: str, at: datetime | None) -> cards.Fact:
        return cards.Fact(name, words.local_time(at, where) if at else "", words.utc_time(at) if at else "")

    rows = [
        number("Units planned so far", "units"),
        number("With a result", "with_result"),
        number("Given up", "given_up"),
        number("Repeats beside them", "repeats", "saved, and not counted"),
        number("Needed another attempt", "retried"),
        cards.Fact("Size", words.size(checks["size_bytes"])),
        moment("First came in", checks["first_at"]),
        moment("Last came in", checks["last_at"]),
        cards.Fact("Trained adapters", checks["files"]),
        number("In quarantine, of any run", "quarantined", "refused bundles", warns=True),
    ]
    st.html(cards.facts(rows))


def holding(proofs: Sequence[Row]) -> list[Row]:
    """Return what lab verify found since, and including, its last check of the whole warehouse; the latest first."""
    whole = next((i for i, p in enumerate(proofs) if p["phase"] is None), len(proofs) - 1)
    return list(proofs[: whole + 1])


def verified(proofs: Sequence[Row], where: tzinfo | None) -> None:
    """Show when the warehouse was last verified, how deep, with what result, and if results came in since."""
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
        st.caption(f"{came} came in after it and {'is' if last['bundles_since'] == 1 else 'are'} not verified yet.")
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


def audited(audits: Sequence[Row], where: tzinfo | None) -> None:
    """Show how many units gave the same when run again, and when."""
    if not audits:
        st.caption("No unit of this run was audited yet.")
        return
    agreeing, units = (sum(a[k] for a in audits) for k in ("agreeing", "units"))
    last = max(a["last_at"] for a in audits)
    st.markdown(
        f"**{agreeing:,} of {words.count(units, 'audited unit')} gave the same again**, the last on {words.local_time(last, where)}."
    )


def verify(run_id: str, audits: Sequence[Row], proofs: Sequence[Row], where: tzinfo | None) -> None:
    """Show verifications and audits, and the commands that check again."""
    st.subheader("Verified and audited")
    verified(proofs, where)
    audited(audits, where)
    left, right = st.columns(2)
    with left:
        shell.step("Check checksums and completeness, and compute every metric again", "lab verify --deep")
    with right:
        shell.step("Run a random share of the units again elsewhere", f"lab audit --run {run_id} --fraction 0.05")


def body(view: filters.View) -> None:
    """Show the page of one run."""
    found = read(snapshot.provenance, view.run_id)
    verdicts = read(snapshot.chain, view.run_id)
    checks = read(reading_checks.results, view.run_id)
    audits = read(snapshot.audits, view.run_id)
    proofs = read(reading_checks.verified)
    doubts = doubts_of(found or {**view.run, "units_before": 0}, verdicts, checks, audits, proofs)
    shell.title("Provenance", headline(doubts), [view.run_id, f"plan {view.run['plan_id']}"])
    if doubts:
        st.html("".join(f'<p class="lab-doubt lab-warns"><i></i><bdi>{escape(d)}</bdi></p>' for d in doubts))
    st.subheader("Run and plan")
    origin.show(found, view.where)
    leaks(view.run_id)
    exploratory(view.run_id)
    bundles(checks, view.where)
    verify(view.run_id, audits, proofs, view.where)


shell.show(body)
