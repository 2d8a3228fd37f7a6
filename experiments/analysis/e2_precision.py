"""E2's primary outcome: does a tuned model write queries that bring back more memos of the problem's class?

Retrieval precision has one value a problem, the mean over the trainings (experiments.analysis.precision).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from common.outcome import Outcome
from experiments.analysis import attempts
from experiments.analysis.e2_settings import BASE, TUNED_WRITERS, WRITERS, WRITES, AnalysisConfig
from experiments.analysis.precision import by_problem, compared, outcome, precision_of
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Metrics, Trial
from experiments.solving.queries import usable

ANALYSIS = "analysis"  # the analysis itself as the query, without a model


def table_of(trials: Sequence[Trial], conditions: Sequence[str]) -> attempts.Table:
    """Return the retrieval precision of each problem under each condition that searches, and of the analysis as a query."""
    table = {c: precision_of(trials, c) for c in conditions}
    table[ANALYSIS] = by_problem(trials, BASE, lambda t: t.details.get("analysis_match"))
    return {c: values for c, values in table.items() if values}


def rows(trials: Sequence[Trial], table: attempts.Table, config: AnalysisConfig, by: Resampling) -> list[Metric]:
    """Measure precision, votes and empty queries of each condition, and compare tuned writers with the untuned one."""
    found = [attempts.row("retrieval_precision", c, by.mean(values)) for c, values in table.items()]
    for c in table:
        votes = by_problem(trials, c, lambda t: t.details.get("vote_first_right"))
        found += [attempts.row("vote_accuracy", c, by.share(votes))] if votes else []
    for c in WRITES:
        empty = by_problem(trials, c, lambda t: float(not usable(t.details["query"])) if "query" in t.details else None)
        found += [attempts.row("empty_query_share", c, by.share(empty))] if empty else []
    pairs = [(c, BASE) for c in TUNED_WRITERS if c in table and BASE in table]
    found += compared(table, pairs, "greater", by)
    for pair in pairs:
        gain = by.under(attempts.differences(table, *pair), config.precision_margin)
        note = f"; {gain.note}" if gain.note else ""
        method = f"one-sided paired t test that less than {config.precision_margin:g} is gained{note}"
        found.append(Metric("no_gain_p", gain.p, n=gain.n, condition=" - ".join(pair), method=method))
    return [*found, *(_spread(trials, c) for c in WRITES[1:] if c in table)]


def _spread(trials: Sequence[Trial], condition: str) -> Metric:
    """Return the standard deviation of the mean precision over trainings that differ in their seed."""
    seeds = sorted({t.seed for t in trials if t.condition == condition and t.seed is not None})
    own = [precision_of([t for t in trials if t.seed == s], condition) for s in seeds]
    means = [mean(values.values()) for values in own if values]
    if len(means) < 2:
        return Metric("seed_spread", None, n=len(means), condition=condition, method="one training has no spread")
    how = f"standard deviation of the mean precision of {len(means)} trainings: {', '.join(f'{m:.3f}' for m in means)}"
    return Metric("seed_spread", stdev(means), n=len(means), condition=condition, method=how)


class Answer(NamedTuple):
    """The answer by retrieval precision: confirmed, refuted or inconclusive, its number, that as text, and what was empty."""

    word: str
    main: Metric
    text: str
    empty: tuple[str, ...]  # writers whose queries are empty too often


def answer(metrics: Metrics, config: AnalysisConfig) -> Answer | None:
    """Answer whether a tuned model writes better queries than the untuned one; None where nothing could be compared.

    Confirmed by any tuned writer, since Holm's p covers both; refuted if each is shown to gain less than the smallest gain
    worth having. A writer whose queries are empty too often is not judged, nor is any other against an untuned one that
    writes nothing: to search by a line at all is a format, not a retrieval.
    """
    shown = [(pair, d) for c in TUNED_WRITERS if (d := metrics.find("precision_difference", pair := f"{c} - {BASE}"))]
    known = [(pair, d) for pair, d in shown if d.value is not None]
    if not known:
        return None
    empty = tuple(c for c in WRITERS if _value(metrics, "empty_query_share", c, 0.0) > config.empty_limit)
    judged = [(pair, d) for pair, d in known if not {BASE, pair.partition(" - ")[0]} & set(empty)]
    better = [(pair, d) for pair, d in judged if outcome(metrics, pair, config.alpha) is Outcome.MORE]
    pair, main = max(better or judged or known, key=lambda one: one[1].value or 0.0)
    text = f"{main.value:+.2f} retrieval precision, adjusted p {_value(metrics, 'precision_adjusted_p', pair, 1.0):.3g}"
    if better:
        return Answer("confirmed", main, text, empty)
    refuted = len(judged) == len(known) and all(_value(metrics, "no_gain_p", p, 1.0) < config.alpha for p, _ in judged)
    return Answer("refuted" if refuted else "inconclusive", main, text, empty)


def empty_in_words(metrics: Metrics, empty: Sequence[str], config: AnalysisConfig) -> str:
    """Return which writers are not judged, as the end of a reason; "" for none."""
    shares = ", ".join(f"{_value(metrics, 'empty_query_share', c, 0.0):.0%} of {c}" for c in empty)
    return f" Queries that search for nothing: {shares}; at most {config.empty_limit:.0%} may." if empty else ""


def _value(metrics: Metrics, metric: str, condition: str, otherwise: float) -> float:
    found = metrics.find(metric, condition)
    return otherwise if found is None or found.value is None else found.value
