"""E2: can fine-tuning teach the model to retrieve better? Conditions, query quality, losses, cost, the five criteria."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import mean

from app import format as words
from app.components import conditions as comparisons
from app.components import phase_page, robustness
from app.plots import phases as plots
from app.plots import style
from app.reading import Row
from common.outcome import Outcome
from warehouse.queries import phases as reading_phases

EXPLAINED = (
    "S is the model tuned on distilled memories (analysis, query, answer), R the one tuned on raw ones; base is the same "
    "model without tuning, which searches with its own query or gets similar or recent memories."
)
NAMES = {"s": "S", "r": "R", "tokens": "equal tokens"}  # of the datasets
ORDER = (
    "base_semantic base_temporal base_best base_query tuned_s tuned_r tuned_tokens tuned_s_random tuned_s_none".split()
)


def body(phase: phase_page.Phase) -> None:
    """Draw what queries find, attempts, tuned against base, queries and losses, then the price and the criteria as tables."""
    phase.note(EXPLAINED)
    attempts = partial(comparisons.attempts, order=ORDER)
    pairs = partial(comparisons.pairs, margin=comparisons.margin_of(phase))
    phase.beside(precision, conditions, against_base, attempts, pairs, queries, losses)
    robustness.draw(phase)
    cost(phase)
    criteria(phase)


def precision(phase: phase_page.Phase) -> None:
    """Draw the share of retrieved memos that are of the problem's class: the primary outcome."""
    rows = phase.of("retrieval_precision")
    if not rows:
        return
    gains = [
        r for r in phase.defined("precision_difference") if phase.find("precision_adjusted_p", str(r["condition"]))
    ]
    decided = [r for r in gains if r["condition"] == phase.main]
    best = max(decided or gains, key=lambda r: float(r["value"]), default=None)
    finding = "Retrieval precision of what each condition searches by"
    if best:
        tuned = str(best["condition"]).split(" - ")[0]
        shown = phase.verdict and phase.verdict["status"] == "PASS" and best["condition"] == phase.main
        what = "finds more of the right class" if shown else "is not shown to find more of the right class"
        finding = f"{tuned} {what}: {words.estimate(best)} against the untuned model's queries"
    basis = f"n {rows[0]['n']:,} problems a condition · share of the memos shown · {rows[0]['method']}"
    phase.draw(plots.rows_with_intervals(rows, finding, basis, "retrieval precision (share of memos)"), "precision")
    empty = [r for r in phase.defined("empty_query_share") if r["value"]]
    if empty:
        shares = ", ".join(f"{100 * r['value']:.0f} % of {r['condition']}" for r in empty)
        phase.note(words.conditions(f"Queries that search for nothing: {shares}."))


def conditions(phase: phase_page.Phase) -> None:
    """Draw the mean attempts of every condition, controls included."""
    rows = [r for r in phase.of("attempts_mean") if r["condition"] in ORDER]
    best = min((r for r in rows if words.defined(r["value"])), key=lambda r: float(r["value"]), default=None)
    if not best:
        return
    finding = f"Fewest attempts: {best['condition']}, {words.estimate(best)}"
    basis = f"n {best['n']:,} problems a condition · {best['method']}"
    phase.draw(plots.rows_with_intervals(rows, finding, basis, "attempts needed (mean)"), "conditions")


def against_base(phase: phase_page.Phase) -> None:
    """Draw the attempts saved by each tuned condition, in percent of its base's."""
    rows, best = phase.of("improvement_percent"), phase.best("improvement_percent")
    if not best:
        return
    p = phase.find("adjusted_p", best["condition"])
    tuned, base = best["condition"].split(" - ", 1)
    chance = f", adjusted p {words.number(p['value'])}" if p else ""
    finding = (
        f"No tuned model is shown to save attempts; nearest: {tuned}, {words.estimate(best)} % of the attempts saved"
    )
    if comparisons.shown(phase, best["condition"]) is Outcome.FEWER:
        finding = f"{tuned} saves {words.estimate(best)} % of the attempts of {base}{chance}"
    elif best["high"] is not None and best["high"] < 0:
        finding = f"{tuned} needs {words.estimate_abs(best)} % more attempts than {base}{chance}"
    basis = f"n {best['n']:,} problems, paired · one-sided Wilcoxon, Holm · {best['method']}"
    colours = {r["condition"]: style.colour(r["condition"].split(" - ")[0]) for r in rows}
    figure = plots.rows_with_intervals(rows, finding, basis, "attempts saved (% of the base's)", colours=colours)
    style.threshold(figure, 0, "no change", solid=True)
    phase.draw(figure, "improvement")


def queries(phase: phase_page.Phase) -> None:
    """Draw the quality of the queries that the model writes."""
    rows = [r for r in phase.of("query_quality") if r["condition"] in ORDER]  # a crossed condition has other problems
    known = [r for r in rows if words.defined(r["value"])]
    if not known:
        return
    best = max(known, key=lambda r: float(r["value"]))
    same = all(r["value"] == best["value"] for r in known)
    which = "All write queries of the same quality," if same else f"{best['condition']} writes the best queries:"
    finding = f"{which} {words.estimate(best)}"
    basis = f"n {best['n']:,} problems · type match, diversity, length, domain terms · {best['method']}"
    phase.draw(plots.rows_with_intervals(rows, finding, basis, "query quality (0 to 1)"), "queries")


def losses(phase: phase_page.Phase) -> None:
    """Draw training and validation loss of both adapters."""
    rows = phase.read(reading_phases.trainings)
    for row in rows:
        if row["error"]:
            phase.note(f"{_which(row)} was not trained: {words.shortened(str(row['error']), 200)}")
    known = [r for r in rows if r["train_loss"]]
    if not known:
        return
    of = {_dataset(r): [other for other in known if _dataset(other) == _dataset(r)] for r in known}
    finding = f"Best validation loss: {'; '.join(f'{NAMES[name]} {_ends(own)}' for name, own in of.items())}"
    basis = " · ".join(
        f"{NAMES[name]}: {own[0]['examples']:,} examples, {own[0]['held'] or 0:,} held out" for name, own in of.items()
    )
    basis += " · S and R predict other texts, so their losses are not compared"
    phase.draw(plots.losses(known, finding, basis), "losses")


def _ends(trainings: Sequence[Row]) -> str:
    """Return the loss before training and the best one, the mean over the trainings of a dataset."""
    losses = [r["validation_loss"] or r["train_loss"] for r in trainings]
    ends = f"{words.number(mean(own[0] for own in losses))} to {words.number(mean(map(min, losses)))}"
    return ends + (f" (mean of {len(losses)} trainings)" if len(losses) > 1 else "")


def _dataset(row: Row) -> str:
    return str(row["condition"]).removeprefix("train_")


def _which(row: Row) -> str:
    return NAMES[_dataset(row)] + ("" if row["seed"] is None else f", seed {row['seed']}")


def cost(phase: phase_page.Phase) -> None:
    """List what each training took, and after how many problems the mean of its dataset's trainings has paid back."""
    trainings = [r for r in phase.read(reading_phases.trainings) if not r["error"]]
    if not trainings:
        return
    rows = []
    for t in trainings:
        tuned = f"tuned_{_dataset(t)}"
        pays = next((r for r in phase.of("break_even_problems") if r["condition"] == tuned), None)
        after = pays["method"] if pays else ""
        if pays and words.defined(pays["value"]):
            after = f"after {pays['value']:,.0f} problems"
        took = {"training time": words.duration(t["seconds"]), "training_s": t["seconds"]}
        read = {"tokens": t["tokens"], "examples": t["examples"]}
        size = words.size(t["adapter_bytes"]) if t["adapter_bytes"] else ""
        pays_back = {"pays back": after, "n": pays["n"] if pays else 0}
        rows.append({"adapter": _which(t), **took, **read, "adapter size": size, **pays_back})
    phase.table("Cost and break-even", rows, "cost", ("training_s",))


def criteria(phase: phase_page.Phase) -> None:
    """List each success criterion: what was measured and needed, and if it is met."""
    rows = phase.of("criterion")
    if not rows:
        return
    met = [words.words(r["condition"]) for r in rows if r["value"]]
    note = "Performance is 1 / mean attempts. Times and tokens are the means of each dataset's trainings."
    if ratio := phase.find("performance_ratio", "tuned_s / tuned_r"):
        note = f"Performance S / R {words.estimate(ratio)}, n {ratio['n']:,} problems. {note}"
    title = f"Success criteria: {len(met)} of {len(rows)} met" + (f" ({words.listed(met)})" if met else "")
    answer = {True: "yes", False: "no"}
    shown = [
        {"criterion": words.words(r["condition"]), "measured": r["method"], "met": answer[bool(r["value"])]}
        for r in rows
    ]
    phase.table(title, shown, "criteria", note=note)


if __name__ == "__main__":  # as Streamlit runs it; a report takes the plots alone
    phase_page.show("e2", body)
