"""One run as one file: the chain, its plots and tables, to be opened anywhere, with no server and no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from app import format as words
from app.components import cards, filters, story
from app.components.phase_page import Phase
from app.phase_names import named, text_of
from app.plots import forest
from app.plots import hosts as host_figures
from app.views import e0, e1, e2, p1, p2, p3
from warehouse.queries import checks as reading_checks
from warehouse.queries import hosts as reading_hosts
from warehouse.queries import phases, snapshot

Row = Mapping[str, Any]
HERE = Path(__file__).resolve().parent
MOST_ROWS = 400  # of a table; the rest stays in the warehouse
PAGES = {"p1": p1, "p2": p2, "p3": p3, "e0": e0, "e1": e1, "e2": e2}


@dataclass(frozen=True)
class Drawn(Phase):
    """A phase whose plots are kept for a file instead of being put on a page."""

    kept: list[go.Figure] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def draw(self, figure: Any, what: str) -> None:
        """Keep the figure; `what` names it on a page only."""
        self.kept.append(figure)

    def say(self, text: str) -> None:
        """Keep the line."""
        self.said.append(text)


def page(run_id: str) -> str:
    """The whole file as HTML; every text of the snapshot in it is shown as text.

    Raises:
        KeyError: there is no such run.
        duckdb.Error, OSError: the snapshot cannot be read (reading.READ_ERRORS).
    """
    run = next((r for r in snapshot.runs() if r["run_id"] == run_id), None)
    if run is None:
        raise KeyError(run_id)
    verdicts = {v["phase"]: v for v in snapshot.chain(run_id)}
    done = snapshot.progress(run_id)
    parts = [
        _head(run, verdicts, done),
        cards.strip(verdicts, done, snapshot.phase_hosts(run_id), _last(run_id)),
        _section("Reasons", "".join(cards.reason(p, v) for p, v in verdicts.items()) or "<p>No verdict yet.</p>"),
    ]
    known = [h["host"] for h in snapshot.hosts()]
    for phase in snapshot.measured_phases(run_id):
        parts.append(_phase(run, phase, verdicts.get(phase), known))
    parts += [_hosts(run_id), _provenance(run_id)]
    return _file(f"{run_id}: {words.shortened(story.tell(run, verdicts, done).sentence, 120)}", "".join(parts))


def _last(run_id: str) -> dict[str, str]:
    return {phase: words.local_time(at, None) for phase, at in snapshot.latest_results(run_id).items()}


def _head(run: Row, verdicts: Mapping[str, Row], done: Mapping[str, tuple[int, int]]) -> str:
    told = story.tell(run, verdicts, done)
    quiet = " · ".join(escape(str(run[k])) for k in ("run_id", "domain", "model", "scale"))
    quiet += f" · started {_time(run['started_at'])} · written {_time(datetime.now(UTC))}"
    rests = story.evidence(run, verdicts, snapshot.host_agreement(str(run["run_id"])))
    return cards.head(quiet, told.sentence, told.then, told.command, rests).replace(
        "<strong>Overview", "<strong>Report"
    )


def _time(moment: datetime) -> str:
    return f'<time title="{words.utc_time(moment)}">{words.local_time(moment, None)}</time>'


def _phase(run: Row, phase: str, verdict: Row | None, known: Sequence[str]) -> str:
    """A phase's question, plots and numbers."""
    rows = snapshot.phase_metrics(str(run["run_id"]), phase)
    view = filters.View(dict(run), [dict(run)], None, None)
    drawn = Drawn(phase, view, rows, phases.config(str(run["run_id"]), phase), verdict)
    PAGES[phase].in_report(drawn)
    drawn.kept.extend(_by_host(run, drawn, known))
    plotted = "".join(_plot(figure) for figure in drawn.kept)
    notes = "".join(f'<p class="lab-quiet"><bdi>{escape(text)}</bdi></p>' for text in drawn.said)
    criteria = e2.criteria_rows(drawn.of("criterion"))
    asked = f"<h3>Success criteria</h3>{_table(criteria)}" if criteria else ""
    whole = f"{len(rows):,} numbers" if len(rows) <= MOST_ROWS else f"the first {MOST_ROWS} of {len(rows):,} numbers"
    numbers = _table(
        [
            {
                "metric": words.words(r["metric"]),
                "of": r["condition"],
                "value": words.with_interval(r["value"], r["low"], r["high"]),
                "n": r["n"],
                "failed": r["failed"],
                "method": r["method"],
            }
            for r in rows[:MOST_ROWS]
        ]
    )
    return _section(
        named(phase),
        f'<p class="lab-quiet">{escape(text_of(phase).question)}</p><div class="plots">{plotted}</div>{notes}{asked}'
        f"<details><summary>{whole}</summary>{numbers}</details>",
    )


def _by_host(run: Row, drawn: Drawn, known: Sequence[str]) -> Iterator[go.Figure]:
    """The main metric by host, where more than one host has it."""
    by_host = snapshot.host_comparison(str(run["run_id"]), drawn.name)
    main = drawn.verdict["main_metric"] if drawn.verdict else ""
    rows = [r for r in [*drawn.rows, *by_host] if r["metric"] == main]
    if len({r["host"] for r in by_host}) > 1 and any(words.defined(r["value"]) for r in rows):
        yield forest.forest(rows, known, drawn.verdict)


def _hosts(run_id: str) -> str:
    """What ran where, predicted against actual, and audits."""
    stretches, predictions = reading_hosts.timeline(run_id).stretches, reading_hosts.predictions(run_id)
    figures = [host_figures.gantt(stretches, None)] if stretches else []
    figures += [host_figures.predicted(predictions)] if predictions else []
    work = [{k: w[k] for k in ("host", "units", "trials", "failed")} for w in reading_hosts.work(run_id)]
    audits = [
        {
            "host": a["host"],
            "run again on": a["other"],
            "units": a["units"],
            "agree": a["agreeing"],
            "differ": a["deviating_units"],
            "no second result": a["without_result"],
        }
        for a in snapshot.audits(run_id)
    ]
    return _section(
        "Hosts",
        f'<div class="plots">{"".join(map(_plot, figures))}</div>{_table(work)}'
        + (f"<h3>Audits</h3>{_table(audits)}" if audits else "<p>No unit was run a second time.</p>"),
    )


def _provenance(run_id: str) -> str:
    """What would be needed to get the same numbers again."""
    found = snapshot.provenance(run_id)
    if found is None:
        return ""
    checks, plan = reading_checks.results(run_id), found["content"]
    order = (
        "before its first trial" if not found["units_before"] else f"after {found['units_before']:,} units had results"
    )
    rows = [
        ("Run", found["run_id"], ""),
        ("Plan", f"{found['plan_id']}, stored {order}", ""),
        ("SHA-256 of the plan", found["plan_sha256"] or "not stored", ""),
        ("Commit", found["code_commit"] + (", with uncommitted changes" if found["dirty"] else ", clean"), ""),
        ("Data version", json.dumps(plan.get("data_version", ""), ensure_ascii=False), ""),
        ("Model digests", json.dumps(plan.get("digests", {}), ensure_ascii=False), ""),
        ("Packages", ", ".join(f"{k} {v}" for k, v in found["versions"].items()), ""),
        ("Arguments given", json.dumps(found["arguments_given"], ensure_ascii=False), ""),
        ("Verified", _verified(), ""),
        (
            "Results",
            f"{checks['with_result']:,} of {checks['units']:,} units, {checks['trials']:,} trials, "
            f"{checks['failed']:,} failed, {checks['given_up']:,} given up",
            "",
        ),
    ]
    whole = escape(json.dumps(plan, indent=1, ensure_ascii=False))
    return _section(
        "Provenance",
        f"{cards.definitions(rows)}<details><summary>The plan, as stored</summary><pre>{whole}</pre></details>",
    )


def _verified() -> str:
    """When lab verify last looked at the warehouse, and what it found."""
    last = next(iter(reading_checks.verified(1)), None)
    if last is None:
        return "never"
    faults = words.count(last["faults"], "fault") if last["faults"] else "no fault"
    return (
        f"{words.utc_time(last['verified_at'])} on {last['host']}, of {last['phase'] or 'everything'}: {faults}; "
        f"{words.count(last['bundles_since'], 'result')} since"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _plot(figure: go.Figure) -> str:
    """A place for a figure, and the figure as data that no markup can leave."""
    content = figure.update_layout(template="none").to_json().replace("<", "\\u003c")
    return f'<div class="plot" style="height:{int(figure.layout.height or 360)}px"><script type="application/json">{content}</script></div>'


def _table(rows: Sequence[Row]) -> str:
    """A table of text, with a link that saves it as CSV."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    lines = "".join(
        "<tr>" + "".join(f"<td{_right(v)}><bdi>{escape(_said(v))}</bdi></td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
        '<button class="csv" type="button">CSV</button>'
    )


def _right(value: Any) -> str:
    return ' class="number"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _file(title: str, body: str) -> str:
    """The frame: a policy that forbids every request, the styles, plotly once, and the script that draws."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
    style = (HERE.parent / "style.css").read_text(encoding="utf-8") + (HERE / "report.css").read_text(encoding="utf-8")
    draw = (HERE / "report.js").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main>"
        f"<script>{get_plotlyjs()}</script><script>{draw}</script></body></html>\n"
    )
