"""Parts of a card: the number that decided, and which hosts did how much and if they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from app import format as words
from app.plots import style
from app.reading import Row, read
from warehouse.queries import phases
from warehouse.queries.agreement import Mark, RunAgreement

THRESHOLD = "_threshold"  # ends the name of a setting; what is before it begins the name of a metric


def deciding(run_id: str, verdict: Row) -> Row:
    """Return the verdict with the number that decided: of a FAIL whose main metric is met, the first one that is not.

    Such a gate has more than one threshold, as P1's of protocol 1, whose setting knn_threshold is that of knn_accuracy.
    """
    value, needed = verdict["value"], verdict["threshold"]
    if verdict["status"] != "FAIL" or not words.defined(value) or not words.defined(needed):
        return verdict
    if not words.met(verdict["main_metric"], value, needed):
        return verdict
    rows = read(phases.metrics, run_id, verdict["phase"])
    for name, threshold in read(phases.config, run_id, verdict["phase"]).items():
        if not name.endswith(THRESHOLD) or not isinstance(threshold, (int, float)):
            continue
        row = _metric(rows, name.removesuffix(THRESHOLD), verdict["main_condition"])
        if row is not None and not words.met(row["metric"], row["value"], threshold):
            numbers = {k: row[k] for k in ("value", "low", "high", "n")}
            return {**verdict, **numbers, "main_metric": row["metric"], "threshold": float(threshold)}
    return verdict


def _metric(rows: Sequence[Row], beginning: str, condition: str) -> Row | None:
    named = [r for r in rows if r["metric"].startswith(f"{beginning}_") and r["condition"] == condition]
    return next((r for r in named if words.defined(r["value"])), None)


def by_host(found: RunAgreement, known: Sequence[str]) -> dict[str, str]:
    """Return for each phase a bar with each host's share of the units, and if the hosts agree, as HTML."""
    return {phase: _by_host(found, phase, known) for phase in found.phases}


def _by_host(found: RunAgreement, phase: str, known: Sequence[str]) -> str:
    own = [w for w in found.work if w.phase == phase]
    whole = sum(w.units for w in own)
    parts = "".join(
        f'<i title="{escape(w.host)}: {words.count(w.units, "unit")}" '
        f'style="width:{100 * w.units / whole:.2f}%;background:{style.colour(w.host, known)}"></i>'
        for w in sorted(own, key=lambda w: -w.units)
    )
    mark = agreement_mark(found.of(phase).marks)
    names = words.listed([w.host for w in own]) if len(own) < 4 else f"{len(own)} hosts"
    return (
        f'<div class="lab-by"><div class="lab-strip">{parts}</div><div>{escape(names)}</div>'
        f'<span class="lab-mark lab-{mark.kind}"><i></i>{escape(mark.text)}</span></div>'
    )


class PhaseMark(NamedTuple):
    """The class of a phase's mark in the style sheet, and its words."""

    kind: str
    text: str


def agreement_mark(marks: Mapping[str, Mark]) -> PhaseMark:
    """Return if the hosts of a phase agree."""
    differ = [host for host, mark in marks.items() if mark.kind == "differs"]
    if differ:
        text = f"{words.listed(differ)} differs" if len(differ) == 1 else f"{len(differ)} hosts differ"
        return PhaseMark("differs", text)
    if any(mark.kind == "same" for mark in marks.values()):
        return PhaseMark("same", "hosts agree")
    return PhaseMark("apart", "split, not compared") if len(marks) > 1 else PhaseMark("absent", "one host")
