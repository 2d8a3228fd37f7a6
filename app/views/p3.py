"""P3: does fine-tuning leave other abilities intact? Retention by category against its thresholds, scores, losses."""

from __future__ import annotations

from app import format as words
from app.components import phase_page
from app.plots import phases as plots
from app.plots import style
from warehouse.queries import phases as reading_phases

WIDEST = 220  # percent; a category of few prompts has an interval to several hundred, which would hide the thresholds


def body(phase: phase_page.Phase) -> None:
    """Draw retention, scores before and after, training loss, perplexity."""
    phase.beside(retention, scores, losses, perplexity)


def retention(phase: phase_page.Phase) -> None:
    """Draw tuned / base of each category and overall, in percent, with both thresholds."""
    rows = words.percent(phase.of("retention"))
    if not rows:
        return
    overall = next((r for r in rows if r["condition"] == "overall"), None)
    known = [r for r in rows if r["condition"] != "overall" and words.defined(r["value"])]
    finding = "Nothing can be retained where the base model solves nothing"
    if overall and words.defined(overall["value"]):
        between = words.interval(overall["low"], overall["high"])
        finding = f"{overall['value']:.0f} % retained" + (f" ({between})" if between else "")
        if known:
            lowest = min(known, key=lambda r: float(r["value"]))
            finding += f"; the least in {lowest['condition']}, {lowest['value']:.0f} %"
    sizes = sorted({r["n"] for r in rows if r["condition"] != "overall"})
    basis = f"n {sizes[0] if sizes else 0} prompts a category · tuned / base, paired bootstrap 95 %"
    colours = {r["condition"]: style.BLUE if r["condition"] == "overall" else style.GREEN for r in rows}
    figure = plots.rows_with_intervals(rows, finding, basis, "retention (% of the base model's score)", colours=colours)
    for which, name, place in (("overall", "overall", "top right"), ("category", "each", "top left")):
        if needed := phase.setting(f"{which}_threshold"):
            style.threshold(figure, 100 * needed, f"{name} {100 * needed:.0f} %", place=place)
    widest = max((r["high"] for r in rows if words.defined(r["high"])), default=0)
    style.within(figure, 0, min(max(widest, 120) * 1.05, WIDEST))
    phase.draw(figure, "retention")


def scores(phase: phase_page.Phase) -> None:
    """Draw the share of prompts solved, base and tuned."""
    rows = phase.of("score")
    if not rows:
        return
    base, tuned = (
        [r for r in rows if r["condition"].endswith(f" {which}") and words.defined(r["value"])]
        for which in ("base", "tuned")
    )
    finding = "Scores before and after the training"
    if base and tuned:
        before, after = (
            sum(r["value"] * r["n"] for r in part) / max(1, sum(r["n"] for r in part)) for part in (base, tuned)
        )
        finding = f"The base model solves {100 * before:.0f} % of the prompts, the tuned one {100 * after:.0f} %"
    basis = f"n {rows[0]['n']:,} prompts each · judged by a program · Wilson 95 %"
    colours = {r["condition"]: style.colour(r["condition"].rpartition(" ")[2]) for r in rows}
    figure = plots.rows_with_intervals(rows, finding, basis, "prompts solved (share)", colours=colours)
    figure.update_xaxes(range=[-0.02, 1.02])
    phase.draw(figure, "scores")


def losses(phase: phase_page.Phase) -> None:
    """Draw the training's loss by epoch."""
    rows = [r for r in phase.read(reading_phases.trainings) if r["train_loss"]]
    if not rows:
        return
    first, last = rows[0]["train_loss"][0], rows[0]["train_loss"][-1]
    finding = f"Training loss falls from {words.number(first)} to {words.number(last)}"
    if last >= first:
        finding = f"Training loss does not fall: {words.number(first)} to {words.number(last)}"
    took = f"took {words.duration(rows[0]['seconds'])}, {rows[0]['tokens']:,} tokens"
    basis = f"n {rows[0]['examples']:,} examples · {took}"
    phase.draw(plots.losses(rows, finding, basis), "loss")


def perplexity(phase: phase_page.Phase) -> None:
    """Draw the perplexity of held-out text, before and after."""
    rows = phase.of("perplexity")
    if len(rows) < 2:
        return
    ratio = phase.find("perplexity_ratio", "tuned / base")
    change = f": {100 * (ratio['value'] - 1):+.1f} %" if ratio else ""
    finding = f"Perplexity of other text {'rises' if ratio and ratio['value'] > 1 else 'does not rise'}{change}"
    basis = f"n {rows[0]['n']:,} held-out paragraphs · lower is better"
    figure = plots.rows_with_intervals(rows, finding, basis, "perplexity (no unit)")
    figure.update_xaxes(rangemode="tozero")
    phase.draw(figure, "perplexity")


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("p3", body)
