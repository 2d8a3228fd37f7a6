"""The specification curve of P2, E1 and E2: in how many other choices, and on which hosts, a verdict stays."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from app import format as words
from app.components.phase_page import Phase
from app.phase_names import ORDER
from app.plots import phases as plots
from app.plots import style
from app.reading import Row, read
from common.settings import set_options
from common.text import value_text
from warehouse.queries import robustness

NAMES = {
    "option_order": "options",
    "calibration": "calibration",
    "memory_draw": "other memory",
    "run_seeds": "seeds",
    "precision": "precision",
    "k": "memos",
    "topics": "families at a time",
}
MOST_ROWS = 24  # of specifications with a name each; more are drawn as a curve


def draw(phase: Phase) -> None:
    """Draw the effect in each specification, and say in how many the conclusion stays; or the command that runs them."""
    rows = read(robustness.specifications, phase.view.run_id, phase.name)
    if not rows:
        return
    if len(rows) == 1:
        phase.suggest("Whether this verdict survives other choices has not been tried:", _command(phase))
    else:
        _curve(phase, rows)
    hosts = read(robustness.by_host, phase.view.run_id, phase.name)
    if len(hosts) > 1:
        own = rows[0]["conclusion"]
        same = sum(h["conclusion"] == own for h in hosts)
        said = "; ".join(f"{h['host']} {words.conditions(h['conclusion'])}" for h in hosts)
        phase.note(f"By the results of each host alone, the verdict stays on {same} of {len(hosts)}: {said}.")


def name_of(row: Row) -> str:
    """Return a specification as a reader has it: what differs from the plan."""
    parts = (f"{NAMES.get(k, k)} {words.words(value_text(v))}" for k, v in row["settings"].items())
    return ", ".join(parts) or "as planned"


def finding(rows: Sequence[Row]) -> str:
    """Summarise the specifications in a sentence."""
    same, effects = sum(r["same"] for r in rows), [r["value"] for r in rows if words.defined(r["value"])]
    said = f"{words.conditions(rows[0]['conclusion'])} stays in {same} of {len(rows)} specifications"
    return f"{said}; the effect is {min(effects):+.2f} to {max(effects):+.2f}" if effects else said


def _curve(phase: Phase, rows: Sequence[Row]) -> None:
    first = rows[0]
    basis = f"{words.words(first['metric'])}, {words.conditions(first['condition'])} · each with its own interval · exploratory"
    title = words.axis(str(first["metric"]))
    if len(rows) <= MOST_ROWS:
        named = [{**r, "condition": f"{name_of(r)}: {words.conditions(r['conclusion'])}"} for r in rows]
        colours = {n["condition"]: style.BLUE if n["same"] else style.RED for n in named}
        figure = plots.rows_with_intervals(named, finding(rows), basis, title, colours=colours)
        style.threshold(figure, 0, "no difference", solid=True)
    else:
        figure = plots.curve(sorted(rows, key=_effect), finding(rows), basis, title, name_of)
    phase.draw(figure, "specifications")


def _effect(row: Row) -> float:
    return float(row["value"]) if words.defined(row["value"]) else float("inf")


def _command(phase: Phase) -> str:
    given = phase.view.run["arguments_given"].get("config") or {}
    return shlex.join(
        ["lab", "robust", phase.name, "--scale", str(phase.view.run["scale"]), *set_options(given, ORDER)]
    )
