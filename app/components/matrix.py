"""The matrix of phases and hosts: the main metric of each, and whether the host gave the same answers. HTML, escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import urlencode

from app import format as words
from app.components.machines import dot
from app.phase_names import ORDER, text_of
from app.plots import style
from app.reading import Row
from warehouse.queries.agreement import NOT_A_TEST, Mark, RunAgreement

SAME_BASIS = "the same trials, compared one by one with the host marked as reference"


class Cell(NamedTuple):
    """The text of a cell: the number, its interval, the mark's class, shape and words."""

    value: str
    interval: str
    kind: str
    word: str


def phases_of(found: RunAgreement) -> list[str]:
    """Return the phases in which a host did something, in order."""
    return [p for p in ORDER if found.of(p).marks]


def table(
    found: RunAgreement,
    hosts: Sequence[str],
    known: Sequence[str],
    main: Mapping[tuple[str, str], Row],
    decided: Mapping[str, Row],
    link: Mapping[str, str],
) -> str:
    """Return the table of some hosts.

    Args:
        main: the main metric by phase and host.
        decided: verdicts by phase.
        link: what the address of a cell holds beside phase and host.
    """
    shown = phases_of(found)
    heads = "".join(
        f'<th scope="col">{p.upper()}<span class="lab-quiet">{escape(text_of(p).title)}</span></th>' for p in shown
    )
    lines = []
    for host in hosts:
        cells = []
        for phase in shown:
            cell = _cell(found, phase, host, main.get((phase, host)), phase in decided)
            inner = f'<b>{escape(cell.value)}</b><span class="lab-quiet">{escape(cell.interval)}</span>'
            inner += f'<span class="lab-mark lab-{cell.kind}"><i></i>{escape(cell.word)}</span>'
            if cell.kind != "absent":
                address = escape(urlencode({**link, "phase": phase, "with": host}))
                inner = f'<a href="?{address}#differences">{inner}</a>'
            cells.append(f'<td data-phase="{phase.upper()}">{inner}</td>')
        lines.append(f'<tr><th scope="row">{dot(host, known)}{escape(host)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="lab-wide"><table class="lab-matrix"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(found: RunAgreement, phase: str, host: str, row: Row | None, decided: bool) -> Cell:
    mark = found.of(phase).marks.get(host)
    if mark is None:
        return Cell("", "", "absent", "none")
    value = words.number(row["value"]) if row and words.defined(row["value"]) else ""
    between = words.interval(row["low"], row["high"]) if row and value else ""
    between = f"({between})" if between else ""
    if decided:
        return Cell(value, between, mark.kind, _word(found, phase, host, mark))
    if mark.kind in ("apart", "reference"):
        return Cell(value, between, "running", "running")
    return Cell(value, between, mark.kind, f"{_word(found, phase, host, mark)} so far")


def _word(found: RunAgreement, phase: str, host: str, mark: Mark) -> str:
    if mark.kind == "differs":
        return f"{mark.differing:,} of {mark.trials:,} differ"
    if mark.kind == "apart":
        work = next(w for w in found.work if (w.phase, w.host) == (phase, host))
        return f"{work.units:,} of {words.count(work.asked, 'unit')}"
    return mark.kind


def basis(found: RunAgreement) -> str:
    """Return what the marks rest on, by phase where phases differ."""
    shared = [p for p in phases_of(found) if any(m.kind != "apart" for m in found.of(p).marks.values())]
    apart = [p for p in phases_of(found) if p not in shared and len(found.of(p).marks) > 1]
    if not apart:
        return f"{SAME_BASIS}." if shared else ""
    if not shared:
        return f"{NOT_A_TEST}; the share of the units stands in place of a verdict."
    names = words.listed([p.upper() for p in apart])
    return f"{SAME_BASIS}; in {names}, {NOT_A_TEST}."


def ordered(found: RunAgreement, known: Sequence[str]) -> list[str]:
    """Return the hosts that did something: as they were first seen, those that differ first where there are many."""
    hosts = [h for h in known if h in found.hosts] + [h for h in found.hosts if h not in known]
    differ = {h for p in found.phases.values() for h in p.deviating}
    return hosts if len(hosts) <= 12 else sorted(hosts, key=lambda h: h not in differ)


def shares(seconds: Mapping[tuple[str, str], float], known: Sequence[str]) -> str:
    """Return a bar for each phase, with each host's share of its seconds of work."""
    lines = []
    for phase in ORDER:
        own = {host: s for (p, host), s in seconds.items() if p == phase and s > 0}
        if not own:
            continue
        whole = sum(own.values())
        parts = []
        for host in sorted(own, key=lambda h: (-own[h], h)):
            percent = 100 * own[host] / whole
            text = f"{escape(host)} {percent:.0f} %"
            inside = text if percent >= 18 else ""
            own_style = f"width:{percent:.2f}%;--own:{style.colour(host, known)}"
            title = f"{text}, {words.duration(own[host])}"
            parts.append(
                f'<span title="{title}" style="{own_style}">{dot(host, known) if inside else ""}{inside}</span>'
            )
        lines.append(
            f'<div class="lab-who"><strong>{phase.upper()}</strong><div class="lab-parts">{"".join(parts)}</div>'
            f'<span class="lab-quiet">{words.duration(whole)}</span></div>'
        )
    return f'<div class="lab-did">{"".join(lines)}</div>' if lines else ""
