"""One run as one HTML file: the chain, its plots and tables. It opens anywhere, without a server or a network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from app import format as words
from app.components import card_parts, cards, filters, found, origin, story, tables
from app.components.phase_page import Phase
from app.phase_names import ORDER, named, text_of
from app.plots import forest, style
from app.plots import hosts as host_figures
from app.reading import Row
from app.views import e0, e1, e2, p1, p2, p3
from warehouse.queries import checks as reading_checks
from warehouse.queries import hosts as reading_hosts
from warehouse.queries import phases, snapshot
from warehouse.queries.agreement import in_words

HERE = Path(__file__).resolve().parent
RIGHT = ' class="number"'  # of a cell
MOST_ROWS = 400  # of a table; the rest is in the warehouse
PAGES = {"p1": p1, "p2": p2, "p3": p3, "e0": e0, "e1": e1, "e2": e2}


@dataclass(frozen=True)
class Drawn(Phase):
    """A phase whose plots, notes and tables are collected for a file instead of being put on a page."""

    figures: list[go.Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    def draw(self, figure: Any, what: str) -> None:
        """Collect the figure; `what` names it on a page only."""
        self.figures.append(figure)

    def note(self, text: str) -> None:
        """Collect the line."""
        self.notes.append(text)

    def suggest(self, text: str, command: str) -> None:
        """Leave it out: a file cannot change."""

    def table(self, title: str, rows: Sequence[Row], what: str, numbers: Sequence[str] = (), note: str = "") -> None:
        """Collect the table; `what` names it on a page only."""
        self.tables.append(f"<h3>{escape(title)}</h3>{_quiet(note)}{_table(rows, numbers)}")

    def beside(self, *plots: Callable[[Phase], None]) -> None:
        """Draw the plots one after another."""
        for plot in plots:
            plot(self)

    def choose(self, label: str, options: Sequence[str], name: str, default: str | None) -> str:
        """Return the default, since a file asks nothing."""
        return default if default is not None and default in options else options[0]

    def choose_each(self, options: Mapping[str, Sequence[str]], defaults: Mapping[str, str]) -> dict[str, str]:
        """Return the defaults."""
        return dict(defaults)

    def one_of(self, label: str, options: Sequence[str], default: str | None, plot: Callable[[str], None]) -> None:
        """Draw every option."""
        for option in options:
            plot(option)


def page(run_id: str, note: str = "") -> str:
    """Return the whole file as HTML; every text of the snapshot in it is escaped.

    Args:
        note: a sentence for the head of the file, such as where its numbers come from.

    Raises:
        KeyError: there is no such run.
        duckdb.Error, OSError: the snapshot cannot be read (snapshot.READ_ERRORS).
    """
    run = next((r for r in snapshot.runs() if r["run_id"] == run_id), None)
    if run is None:
        raise KeyError(run_id)
    verdicts = {v["phase"]: v for v in snapshot.chain(run_id)}
    done = snapshot.progress(run_id)
    state = story.story_of(run, verdicts, done)
    last = {phase: words.local_time(at, None) for phase, at in snapshot.latest_results(run_id).items()}
    known = [h["host"] for h in snapshot.hosts()]
    decided = {phase: card_parts.deciding(run_id, v) for phase, v in verdicts.items()}
    origins, measured = snapshot.provenance(run_id), snapshot.measured_phases(run_id)
    plan = origins["content"] if origins else None
    shown = [p for p in ORDER if p in verdicts or p in measured]
    content = {p: _phase(run, p, verdicts.get(p), known, plan) for p in shown}
    more = {"hosts": _hosts(run_id), "provenance": _provenance(run_id, origins)}
    content |= {name: text for name, text in more.items() if text}
    parts = [
        _head(run, verdicts, state),
        _quiet(note),
        cards.strip(decided, done, card_parts.by_host(snapshot.agreement(run_id), known), last),
        _contents(list(content), verdicts, done),
        *(_section(name, text) for name, text in content.items()),
    ]
    return _file(f"{run_id}: {words.shortened(state.sentence, 120)}", "".join(parts))


def _head(run: Row, verdicts: Mapping[str, Row], state: story.Story) -> str:
    quiet = [escape(str(run[k])) for k in ("run_id", "domain", "model", "scale")]
    quiet += [f"started {_time(run['started_at'])}"] if run["started_at"] else []
    quiet.append(f"written {_time(datetime.now(UTC))}")
    rests = story.evidence(run, verdicts, snapshot.agreement(str(run["run_id"])))
    said = found.of_run(str(run["run_id"]), verdicts)
    return story.head(" · ".join(quiet), said, state, rests, "Report")


def _contents(sections: Sequence[str], verdicts: Mapping[str, Row], done: Mapping[str, cards.Progress]) -> str:
    """Return links to the sections, those of phases with their verdicts."""
    lines = (
        f'<li><a href="#{name}">{escape(_title(name))}</a>'
        + (cards.pill(cards.status_of(verdicts.get(name), done.get(name))) if name in ORDER else "")
        + "</li>"
        for name in sections
    )
    return f'<nav aria-label="Contents"><h2>Contents</h2><ol>{"".join(lines)}</ol></nav>'


def _title(section: str) -> str:
    return named(section) if section in ORDER else section.capitalize()


def _time(moment: datetime) -> str:
    return f'<time title="{words.utc_time(moment)}">{words.local_time(moment, None)}</time>'


def _quiet(text: str) -> str:
    return f'<p class="lab-quiet"><bdi>{escape(text)}</bdi></p>' if text else ""


def _phase(run: Row, phase: str, verdict: Row | None, known: Sequence[str], plan: Row | None) -> str:
    """Return a phase's question, its verdict with the reason, plots and numbers."""
    run_id = str(run["run_id"])
    rows = snapshot.phase_metrics(run_id, phase)
    drawn = Drawn(phase, filters.View(run, None, None), rows, phases.config(run_id, phase), verdict)
    PAGES[phase].body(drawn)
    by_host = snapshot.host_comparison(run_id, phase)
    main = [r for r in [*rows, *by_host] if verdict and r["metric"] == verdict["main_metric"]]
    if len({r["host"] for r in by_host}) > 1 and any(words.defined(r["value"]) for r in main):
        drawn.figures.append(forest.forest(main, known, verdict))
    if verdict and not verdict["trials"]:
        drawn.note("The trials of this phase are not in this file, so the plots that need them are left out.")
    whole = f"{len(rows):,} numbers" if len(rows) <= MOST_ROWS else f"the first {MOST_ROWS} of {len(rows):,} numbers"
    numbers = _table(tables.metric_rows(rows[:MOST_ROWS]), ("value",))
    return (
        f'<p class="question">{escape(text_of(phase).question)}</p>{_verdict(phase, verdict, plan)}'
        f'<div class="plots">{"".join(map(_plot, drawn.figures))}</div>'
        f"{''.join(map(_quiet, drawn.notes))}{''.join(drawn.tables)}"
        f"<details><summary>{whole}</summary>{numbers}</details>"
    )


def _verdict(phase: str, verdict: Row | None, plan: Row | None) -> str:
    """Return the verdict of a phase, its reason, the facts behind it and what to try next."""
    facts = origin.facts_of_phase(phase, verdict, plan, None)
    if verdict is None:
        return f"<p>Not decided yet.</p>{_quiet(' · '.join(facts))}"
    steps = "".join(
        f"<li><code>{escape(str(step.command))}</code>{f' ({escape(step.reason)})' if step.reason else ''}</li>"
        for step in verdict["next_steps"]
    )
    return (
        f"<p>{cards.pill(verdict['status'])} {escape(words.reason(verdict['reason']))}</p>{_quiet(' · '.join(facts))}"
        + (f"<h3>Next steps</h3><ul>{steps}</ul>" if steps else "")
    )


def _hosts(run_id: str) -> str:
    """Return what ran where, predicted against actual durations, and audits; nothing for a run without results."""
    stretches, predictions = reading_hosts.timeline(run_id).stretches, reading_hosts.predictions(run_id)
    figures = [host_figures.gantt(stretches, None)] if stretches else []
    figures += [host_figures.predicted(predictions)] if predictions else []
    work = [{k: w[k] for k in ("host", "units", "counted", "trials", "failed")} for w in reading_hosts.work(run_id)]
    if not work:
        return ""
    audits = tables.audits(snapshot.audits(run_id), None)
    compared = "<p>No unit was run a second time.</p>"
    if audits:
        compared = f"<h3>Audits</h3>{_table(audits, ('largest difference', 'tolerance'))}"
    said = f"<p>{escape(in_words(snapshot.agreement(run_id)))}</p>"
    return f'{said}<div class="plots">{"".join(map(_plot, figures))}</div>{_table(work)}{compared}'


def _provenance(run_id: str, found: Row | None) -> str:
    """Return what is needed to compute the same numbers again."""
    if found is None:
        return ""
    checks, rows = reading_checks.results(run_id), origin.facts_of(found, None)
    if checks["trials"]:
        results = (
            f"{checks['with_result']:,} of {checks['units']:,} units, {checks['trials']:,} trials, "
            f"{checks['failed']:,} failed, {checks['given_up']:,} given up"
        )
        rows += [cards.Fact("Verified", _verified()), cards.Fact("Results", results)]
    plan = ""
    if found["plan_sha256"]:
        content = escape(json.dumps(found["content"], indent=1, ensure_ascii=False))
        plan = f"<details><summary>The plan, as stored</summary><pre>{content}</pre></details>"
    return cards.facts(rows) + plan


def _verified() -> str:
    """Return when lab verify last checked the warehouse, and its result."""
    for last in reading_checks.verified(1):
        faults = words.count(last["faults"], "fault") if last["faults"] else "no fault"
        since = words.count(last["bundles_since"], "result")
        checked = f"{words.utc_time(last['verified_at'])} on {last['host']}, checked {last['phase'] or 'everything'}"
        return f"{checked}: {faults}; {since} arrived since then"
    return "never"


def _section(name: str, content: str) -> str:
    return f'<section id="{name}"><h2>{escape(_title(name))}</h2>{content}</section>'


def _plot(figure: go.Figure) -> str:
    """Return a figure's title, the element that it is drawn in, and the figure as data, in which nothing can end the script."""
    shown = style.drawing(figure)
    content = shown.plot.update_layout(template="none").to_json().replace("<", "\\u003c")
    return (
        f'<div class="drawing">{shown.head}<div class="plot" style="height:{int(shown.plot.layout.height or 360)}px">'
        f'<script type="application/json">{content}</script></div></div>'
    )


def _table(rows: Sequence[Row], numbers: Sequence[str] = ()) -> str:
    """Return a table of text, with a button that saves it as CSV; `numbers` have three significant digits."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    lines = "".join(f"<tr>{''.join(_cell(v, name in numbers) for name, v in row.items())}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
        '<button class="csv" type="button">CSV</button>'
    )


def _cell(value: Any, measured: bool) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    text = words.number(value) if measured else f"{value:,}" if whole else str(value)
    return f"<td{RIGHT if measured or whole else ''}><bdi>{escape(text)}</bdi></td>"


def _file(title: str, body: str) -> str:
    """Return the file: a policy that forbids every request, the styles, plotly once (compressed), and the script that draws."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
    look = "".join((HERE / name).read_text(encoding="utf-8") for name in ("../style.css", "report.css"))
    draw = "".join(f"{(HERE / name).read_text(encoding='utf-8')}\n" for name in ("report.js", "../plots/save.js"))
    plotly = base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{look}</style></head><body><main>{body}</main>"
        f'<script id="plotly" type="text/plain">{plotly}</script><script>{draw}</script></body></html>\n'
    )
