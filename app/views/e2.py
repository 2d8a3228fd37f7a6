"""E2: can fine-tuning teach the model to retrieve better? Conditions, query quality, losses, cost, the five criteria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import format as words
from app.components import conditions as comparisons
from app.components import phase_page, tables
from app.plots import phases as plots
from app.plots import style
from warehouse.queries import phases as reading_phases

Row = Mapping[str, Any]
ORDER = (
    "base_semantic",
    "base_temporal",
    "base_best",
    "base_query",
    "tuned_s",
    "tuned_r",
    "tuned_s_random",
    "tuned_s_none",
)
# What each asks, S / R (docs/science.md, E2); the measured ratios come with the metric.
CRITERIA = {
    "efficiency_moderate": "time < 0.65, performance at least 0.95",
    "efficiency_strong": "time < 0.50, performance at least 0.85",
    "performance_moderate": "performance > 1.25, time at most 1.5",
    "performance_strong": "performance > 1.50, time at most 2.0",
    "token_efficiency": "tokens < 0.60, performance at least 0.90",
}


def body(phase: phase_page.Phase) -> None:
    """Attempts, tuned against base, queries, losses; then the price and the criteria as tables."""
    left, right = phase_page.pair()
    with left:
        conditions(phase)
    with right:
        against_base(phase)
    left, right = phase_page.pair()
    with left:
        comparisons.attempts(phase, ORDER)
    with right:
        pairs = [r["condition"] for r in phase.of("mean_difference")]
        if pairs:
            main = phase.verdict["main_condition"] if phase.verdict else None
            comparisons.chosen_pair(phase, pairs, main, float(phase.config.get("margin", 0.25)))
    left, right = phase_page.pair()
    with left:
        queries(phase)
    with right:
        losses(phase)
    cost(phase)
    criteria(phase)


def in_report(phase: phase_page.Phase) -> None:
    """Every plot, the differences of the main pair."""
    conditions(phase)
    against_base(phase)
    comparisons.attempts(phase, ORDER)
    pairs = [r["condition"] for r in phase.of("mean_difference")]
    main = str(phase.verdict["main_condition"]) if phase.verdict else ""
    if pairs:
        first, second = str(main if main in pairs else pairs[0]).split(" - ", 1)
        comparisons.differences(phase, first, second, float(phase.config.get("margin", 0.25)))
    queries(phase)
    losses(phase)


def conditions(phase: phase_page.Phase) -> None:
    """Mean attempts of every condition, controls among them."""
    rows = phase.of("attempts_mean")
    known = [r for r in rows if words.defined(r["value"])]
    if not known:
        return
    best = min(known, key=lambda r: float(r["value"]))
    said = words.with_interval(best["value"], best["low"], best["high"])
    finding = f"Fewest attempts: {best['condition']}, {said}"
    basis = f"n {best['n']:,} problems a condition · {best['method']}"
    phase.draw(plots.rows_with_intervals(rows, finding, basis, "attempts needed (mean)"), "conditions")


def against_base(phase: phase_page.Phase) -> None:
    """Attempts saved by each tuned condition, in percent of its base's."""
    rows = phase.of("improvement_percent")
    known = [r for r in rows if words.defined(r["value"])]
    if not known:
        return
    best = max(known, key=lambda r: float(r["value"]))
    p = phase.find("adjusted_p", best["condition"])
    tuned, base = best["condition"].split(" - ", 1)
    verb = "saves" if best["value"] > 0 else "costs"
    said = words.with_interval_abs(best["value"], best["low"], best["high"])
    finding = f"{tuned} {verb} {said} % of the attempts of {base}" + (
        f", adjusted p {words.number(p['value'])}" if p else ""
    )
    if words.holds_zero(best["low"], best["high"]):
        said = words.with_interval(best["value"], best["low"], best["high"])
        finding = f"No tuned model is told apart from its base; nearest: {tuned}, {said} % of the attempts saved"
    basis = f"n {best['n']:,} problems, paired · one-sided Wilcoxon, Holm · {best['method']}"
    colours = {r["condition"]: style.colour(r["condition"].split(" - ")[0]) for r in rows}
    figure = plots.rows_with_intervals(rows, finding, basis, "attempts saved (% of the base's)", colours=colours)
    style.threshold(figure, 0, "no change", solid=True)
    phase.draw(figure, "improvement")


def queries(phase: phase_page.Phase) -> None:
    """Quality of the queries that the model writes."""
    rows = phase.of("query_quality")
    known = [r for r in rows if words.defined(r["value"])]
    if not known:
        return
    best = max(known, key=lambda r: float(r["value"]))
    if all(r["value"] == best["value"] for r in known):
        finding = (
            f"All write queries of the same quality, {words.with_interval(best['value'], best['low'], best['high'])}"
        )
    else:
        finding = f"{best['condition']} writes the best queries: {words.with_interval(best['value'], best['low'], best['high'])}"
    basis = f"n {best['n']:,} problems · type match, diversity, length, domain terms · {best['method']}"
    phase.draw(plots.rows_with_intervals(rows, finding, basis, "query quality (0 to 1)"), "queries")


def losses(phase: phase_page.Phase) -> None:
    """Training and validation loss of both adapters."""
    rows = phase.read(reading_phases.trainings)
    for row in rows:
        if row["error"]:
            phase.say(f"{row['condition']} was not trained: {words.shortened(str(row['error']), 200)}")
    known = [r for r in rows if r["train_loss"]]
    if not known:
        return
    ends = [
        f"{_which(r)} {words.number((r['validation_loss'] or r['train_loss'])[0])} to "
        f"{words.number(min(r['validation_loss'] or r['train_loss']))}"
        for r in known
    ]
    finding = f"Best validation loss: {'; '.join(ends)}"
    basis = " · ".join(f"{_which(r)}: {r['examples']:,} examples, {r['held'] or 0:,} held out" for r in known)
    basis += " · S and R predict other texts, so their losses are not compared"
    phase.draw(plots.losses(known, finding, basis), "losses")


def _which(row: Row) -> str:
    return str(row["condition"]).removeprefix("train_").upper()


def cost(phase: phase_page.Phase) -> None:
    """What each training took, and after how many problems it has paid."""
    trainings = [r for r in phase.read(reading_phases.trainings) if not r["error"]]
    if not trainings:
        return
    st.subheader("Cost and break-even")
    rows = []
    for t in trainings:
        tuned = f"tuned_{_which(t).lower()}"
        pays = next((r for r in phase.of("break_even_problems") if r["condition"] == tuned), None)
        after = (
            f"after {pays['value']:,.0f} problems"
            if pays and words.defined(pays["value"])
            else pays["method"]
            if pays
            else ""
        )
        rows.append(
            {
                "adapter": _which(t),
                "training time": words.duration(t["seconds"]),
                "training_s": t["seconds"],
                "tokens": t["tokens"],
                "examples": t["examples"],
                "adapter size": words.size(t["adapter_bytes"]) if t["adapter_bytes"] else "",
                "pays back": after,
                "n": pays["n"] if pays else 0,
            }
        )
    tables.show(rows, f"{phase.view.run_id}-e2-cost", numbers=("training_s",))


def criteria(phase: phase_page.Phase) -> None:
    """Each success criterion: what it asks, what was measured, whether it is met."""
    rows = phase.of("criterion")
    if not rows:
        return
    met = [words.words(r["condition"]) for r in rows if r["value"]]
    st.subheader(f"Success criteria: {len(met)} of {len(rows)} met" + (f" ({words.listed(met)})" if met else ""))
    ratio = phase.find("performance_ratio", "tuned_s / tuned_r")
    if ratio:
        st.caption(
            f"Performance S / R {words.with_interval(ratio['value'], ratio['low'], ratio['high'])}, n {ratio['n']:,} problems; "
            "performance is 1 / mean attempts. Times and tokens are those of one training each, so they have no interval."
        )
    tables.show(criteria_rows(rows), f"{phase.view.run_id}-e2-criteria")


def criteria_rows(rows: Sequence[Row]) -> list[Row]:
    """A criterion a row: what it asks, what was measured, whether it is met."""
    return [
        {
            "criterion": words.words(r["condition"]),
            "asks of S / R": CRITERIA.get(r["condition"], ""),
            "measured": r["method"],
            "met": "yes" if r["value"] else "no",
        }
        for r in rows
    ]


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("e2", body)
