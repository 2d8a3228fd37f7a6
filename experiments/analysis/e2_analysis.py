"""The analysis of E2: queries first, attempts second, the price of training, the verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.analysis import attempts, e2_attempts, e2_precision, e2_price
from experiments.analysis.e2_settings import (
    BASE,
    BY_TOKENS,
    CONDITIONS,
    CONTROLS,
    CROSSED,
    TUNED_WRITERS,
    WRITERS,
    AnalysisConfig,
    Findings,
    level_of,
)
from experiments.analysis.ends import ends, ends_in_words, flags_of, scale_of
from experiments.analysis.resampling import Resampling, resampling_of
from experiments.contract import Metric, Metrics, NextStep, Status, Trial, Verdict
from experiments.protocol import next_steps

ADAPTERS = {"s": "adapter S", "r": "adapter R", "tokens": "adapter by tokens"}  # dataset -> its name in a reason
TUNED = frozenset(("adapter S", "adapter R", *TUNED_WRITERS))
STATUSES = {"confirmed": Status.PASS, "refuted": Status.FAIL, "inconclusive": Status.INCONCLUSIVE}


def metrics(trials: Sequence[Trial], config: AnalysisConfig) -> Metrics:
    """Measure E2: retrieval precision, attempts, quality, costs; the hypothesis in the trials decides the base of attempts."""
    hypothesis = next((t.details["hypothesis"] for t in trials if "hypothesis" in t.details), "weak_signal")
    present = {t.condition for t in trials}
    conditions = [c for c in (*CONDITIONS[hypothesis], *CONTROLS, BY_TOKENS) if c in present]
    crossed = [c for c in CROSSED if c in present]
    base = CONDITIONS[hypothesis][0]
    tuned = [c for c in TUNED_WRITERS if c in conditions]
    table, by = attempts.median_attempts(trials, [*conditions, *crossed]), resampling_of(trials, config)
    precision = e2_precision.table_of(trials, conditions)
    values = e2_precision.rows(trials, precision, config, by)
    values += attempts.per_condition(trials, table, by)
    main, scale = {c: table[c] for c in conditions}, scale_of(config)
    values += ends(main, scale, by)
    if base in main:
        values += e2_attempts.rows(main, tuned, base, config, by)
    written = [(c, BASE) for c in tuned if c in precision and BASE in precision]
    values.append(attempts.smallest_visible(attempts.fewest_pairs(precision, written), level_of(config)))
    values += [*e2_attempts.crossed(trials, config, by), *_described(trials, [*conditions, *crossed], by)]
    training, facts = e2_price.training(trials)
    values += training
    criteria = e2_price.criteria(main, facts)
    for ours, theirs in _s_and_r(trials, main):
        ratio = by.ratio(main[theirs], main[ours])
        values.append(attempts.row("performance_ratio", f"{ours} / {theirs}", ratio))
        if ours in precision and theirs in precision:
            more = by.mean(attempts.differences(precision, ours, theirs))
            values.append(attempts.row("precision_difference", f"{ours} - {theirs}", more))
    values += [
        Metric("criterion", float(met), n=1, condition=name, method=why, timing="time" in why)
        for name, (met, why) in criteria.items()
    ]
    values += e2_price.break_even(main, trials, base)
    return Metrics(
        tuple(values),
        {
            "hypothesis": hypothesis,
            "base": base,
            "tuned": tuned,
            "training": facts,
            "trainings": _trainings(trials),
            "criteria": criteria,
            "best": _best(main, base),
            "missing": _missing(trials, (base, *conditions), config),
            "flags": flags_of(main, scale, by),
        },
    )


def _trainings(trials: Sequence[Trial]) -> int:
    """Return how many trainings S and R had, of those that were trained at all, the fewer."""
    seeds: dict[str, set[int | None]] = {}
    for t in trials:
        # The dataset that is cut to equal tokens is a control, trained on fewer seeds by its setting.
        if t.condition in ("train_s", "train_r") and t.error is None:
            seeds.setdefault(t.condition, set()).add(t.seed)
    return min(map(len, seeds.values()), default=0)


def _s_and_r(trials: Sequence[Trial], table: attempts.Table) -> list[tuple[str, str]]:
    """Return the conditions of S and R that learned from as many examples, and from as many tokens, where both answered."""
    cut = next((t.details["of"] for t in trials if t.condition == "train_tokens" and t.error is None), None)
    by_tokens = {"s": [(BY_TOKENS, "tuned_r")], "r": [("tuned_s", BY_TOKENS)]}.get(cut or "", [])
    return [pair for pair in (TUNED_WRITERS, *by_tokens) if all(table.get(c) for c in pair)]


def _missing(trials: Sequence[Trial], conditions: Sequence[str], config: AnalysisConfig) -> dict[str, str]:
    """Return the trainings that failed, conditions in which every trial failed, and crossed ones that were not asked."""
    why, trained = dict[str, str](), {""}
    for dataset, name in ADAPTERS.items():
        mine = [t for t in trials if t.condition == f"train_{dataset}"]
        lost = [t for t in mine if t.error is not None]
        if len(lost) < len(mine):
            trained.add(dataset)
            why |= {f"{name} with seed {t.seed}": _cause(t) for t in lost}
        elif lost or dataset in WRITERS.values():
            why[name] = _cause(*lost[:1])
    for condition in conditions:
        mine = [t for t in trials if t.condition == condition]
        if all(t.error is not None for t in mine):
            why[condition] = _cause(*mine[:1])
    there = {t.condition for t in trials}
    for condition, own in CROSSED.items() if config.n_crossed else ():
        if condition not in there and {WRITERS[own.writer], own.solver} <= trained:
            why[condition] = f"{own.writer} wrote no query for it"
    return why


def _cause(*failed: Trial) -> str:
    return (failed[0].error or "").rstrip(".") if failed else "it has no trial"


def _best(table: attempts.Table, base: str) -> str:
    """Return the condition with the fewest attempts, each compared with the base on the problems that both have.

    Where no trial is missing that is the lowest mean; else a mean may be low since hard problems failed. "" without any.
    """
    gaps = {c: found for c in table if base in table and (found := attempts.differences(table, c, base))}
    means = {c: float(np.mean(list(v.values()))) for c, v in (gaps or table).items() if v}
    return min(means, key=lambda c: means[c], default="")


def _described(trials: Sequence[Trial], conditions: Sequence[str], by: Resampling) -> list[Metric]:
    """Measure query quality, hypothesis quality and tokens of each condition."""
    rows = []
    for condition in conditions:
        done = [t for t in trials if t.condition == condition and t.error is None]
        first = list({t.problem_id: t for t in reversed(done)}.values())
        for metric in ("query_quality", "hypothesis_quality"):
            found = {t.problem_id: float(t.details[metric]) for t in first if metric in t.details}
            if found:
                rows.append(attempts.row(metric, condition, by.mean(found)))
        if first:
            tokens = [(t.tokens_in or 0) + (t.tokens_out or 0) + t.details.get("query_tokens", 0) for t in first]
            mean, how = float(np.mean(tokens)), "in, out and query, by the tokenizer"
            rows.append(Metric("tokens_mean", mean, n=len(first), condition=condition, method=how))
    return rows


def gate(metrics: Metrics, config: AnalysisConfig) -> Verdict:
    """Return PASS where tuned queries are shown to find more, FAIL where they are shown not to, else INCONCLUSIVE.

    Attempts are the second outcome: they are reported with an answer of their own, and decide nothing.
    """
    hypothesis, base, tuned = (metrics.facts[k] for k in ("hypothesis", "base", "tuned"))
    missing = "".join(f" {name} is missing: {why}." for name, why in metrics.facts["missing"].items())
    found = e2_precision.answer(metrics, config)
    if found is None:
        nothing = Metric("precision_difference", None, method="a tuned writer and the untuned one need results")
        reason = f"{hypothesis}: nothing to compare.{missing}"
        return Verdict(Status.INCONCLUSIVE, reason, None, nothing, None, _next_without_results(metrics, config))
    second = e2_attempts.answer(metrics, hypothesis, base, tuned, config)
    incomplete = not TUNED.isdisjoint(metrics.facts["missing"])
    # What could not be tried is not refuted.
    word, by_attempts = (
        "inconclusive" if answer == "refuted" and incomplete else answer for answer in (found.word, second.word)
    )
    best = metrics.facts["best"]
    criteria = {k: ok for k, (ok, _) in metrics.facts["criteria"].items()}
    met = ", ".join(k for k, ok in criteria.items() if ok)
    trainings = metrics.facts["trainings"]
    reason = (
        f"better retrieval {word}: {found.main.condition} {found.text}, n {found.main.n}"
        f"{', one training of each adapter, whose spread is unknown' if trainings == 1 else ''}."
        f" Attempts {by_attempts}: {second.text}, hypothesis {hypothesis}."
        f" Use {best} (fewest attempts). Success criteria met: {met or 'none'}."
        f"{e2_precision.empty_in_words(metrics, found.empty, config)}{ends_in_words(metrics.facts['flags'])}{missing}"
    )
    findings = Findings(
        hypothesis_verdict=word,
        attempts_verdict=by_attempts,
        best_model=best,
        criteria=criteria,
        training_seeds=trainings,
    )
    steps = () if word == "confirmed" else _next(found, word == "refuted", config)
    return Verdict(STATUSES[word], reason, findings, found.main, None, steps)


def _next(found: e2_precision.Answer, refuted: bool, config: AnalysisConfig) -> tuple[NextStep, ...]:
    """The failure protocol: a model that writes; a new study as large as power asks for; a gentler training."""
    steps: tuple[NextStep, ...] = ()
    if found.empty:
        steps = (next_steps.larger_model("e2", "it writes queries"),)
    elif not refuted and found.main.value is not None and found.main.value > 0:
        # A gain was seen but not shown. The memory is E1's, and about as large as what is learnt from it.
        steps = next_steps.new_study("e2", config, found.main, level_of(config), config.n_train, ("e1",))
    return (*steps, *next_steps.gentler("e2", config.lora))


def _next_without_results(metrics: Metrics, config: AnalysisConfig) -> tuple[NextStep, ...]:
    """Return steps where nothing could be compared: install what is missing; problems that are solved, for S to learn from."""
    causes: dict[str, str] = metrics.facts["missing"]
    install = next_steps.install(causes.values(), next_steps.STRONG)
    if "adapter S" not in causes or next_steps.INSTALL.search(causes["adapter S"]):
        return (install,)
    return (*next_steps.easier("e2", config, "adapter S learns from what is solved"), install)
