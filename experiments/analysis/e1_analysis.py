"""The analysis of E1: attempts, retrieval precision, equivalence and variation; the hypothesis for E2; the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.outcome import LEVEL, Outcome
from experiments import mean_tests, power, statistics
from experiments.analysis import attempts, controls, precision
from experiments.analysis.by_condition import by_class, relevance, tokens
from experiments.analysis.e1_settings import (
    CONDITIONS,
    MEMO,
    PAIR,
    PAIRS,
    WEAK_SIGNAL,
    Config,
    Findings,
    conditions_of,
    level_of,
    margin_of,
)
from experiments.analysis.ends import (
    ENDS,
    Flags,
    Scale,
    ends,
    ends_in_words,
    flags_of,
    margin_row,
    means_in_words,
    scale_of,
)
from experiments.analysis.resampling import Resampling, resampling_of
from experiments.contract import Metric, Metrics, NextStep, Status, Trial, Verdict
from experiments.data import split
from experiments.domains import get_domain
from experiments.protocol import next_steps
from experiments.solving.memory_bank import MemoRecord

NAME = "e1"
AT_CHANCE = "without memory this one is not shown to be better than chance"  # in a next step, of a model


def memos_of(trials: Sequence[Trial], config: Config) -> list[MemoRecord]:
    """Return the memos that the trials leave, in the order of solving."""
    memos = []
    for t in trials:
        if t.condition != MEMO or t.error is not None:
            continue
        # A failure has no right answer of its own: the protocol stores the truth, `drop` leaves the memo out.
        if not t.solved and config.memo_on_failure == "drop":
            continue
        shown = {"problem_id": t.problem_id, "answer": t.truth, "order": t.details["order"]}
        memos.append(
            MemoRecord(**shown, attempts=t.attempts, success=bool(t.solved), guesses=tuple(t.details["guesses"]))
        )
    return sorted(memos, key=lambda m: m.order)


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Measure attempts, pairwise tests, equivalence, variation, retrieval, what the controls explain, classes, tokens."""
    there = {t.condition for t in trials}
    conditions = [c for c in conditions_of(config) if c in CONDITIONS or c in there]
    seen, by, scale = attempts.median_attempts(trials, conditions), resampling_of(trials, config), scale_of(config)
    table = {c: seen[c] for c in CONDITIONS}
    found = {c: precision.precision_of(trials, c) for c in CONDITIONS[1:]}
    done = [t for t in trials if t.condition in conditions and t.error is None]
    values = [
        *attempts.per_condition(trials, seen, by),
        *ends(seen, scale, by),
        *attempts.comparisons(table, PAIRS, by=by),
        *_together(table, config, by),
        *_variation(table, config, by),
        *precision.compared(found, [("semantic", "temporal")], "two-sided", by),
        *controls.rows(done, seen, by),
        *relevance(done, table, CONDITIONS[1:]),
        *by_class(done, get_domain(config.domain).options, CONDITIONS, by),
        *tokens(done, conditions),
        attempts.smallest_visible(attempts.fewest_pairs(table, PAIRS), level_of(config)),
    ]
    memos = memos_of(trials, config)
    solved = [t for t in trials if t.condition == MEMO and t.error is None]
    share = statistics.wilson(sum(bool(t.solved) for t in solved), len(solved))
    values.append(attempts.row("memo_success_rate", MEMO, share, attempts.failed_in(trials, MEMO)))
    _, test = split(config, config.n_memory, config.n_test)
    flags = flags_of(table, scale, by)
    facts = {
        "memos": memos,
        "test": [p.problem_id for p in test],
        "errors": attempts.errors_of(trials)[:3],
        "flags": flags,
        "base_above_chance": bool(table["none"]) and "none" not in flags["floor"],
        "scale": scale,
    }
    return Metrics(tuple(values), facts)


def _together(table: attempts.Table, config: Config, by: Resampling) -> list[Metric]:
    """Friedman over the problems with a result under all conditions; equivalence of the strategies, with its power."""
    complete = attempts.whole(table, CONDITIONS)
    overall = statistics.friedman([[complete[c][p] for c in CONDITIONS] for p in complete["none"]])
    groups = by.of(attempts.differences(table, "semantic", "temporal"))
    margin, scale = margin_of(config), scale_of(config)
    tost = mean_tests.tost_paired(*attempts.paired(table, "semantic", "temporal"), margin, groups)
    chance = power.equivalence(tost.n, margin, scale.spread, config.equivalence_p)
    assumed = (
        f"TOST, margin {margin:.3g} attempts, both truly equal, differences with a standard deviation of {scale.spread:.3g}, "
        "a chance solver's (Phillips 1990); problems of a group that are alike show less"
    )

    def noted(method: str, note: str) -> str:
        return f"{method}; {note}" if note else method

    method = noted(f"TOST, margin {margin:.3g} attempts", tost.note)
    return [
        Metric("friedman_p", overall.p, n=overall.n, method=noted("Friedman", overall.note)),
        margin_row(scale, config.margin),
        Metric("equivalence_p", tost.p, n=tost.n, condition=PAIR, method=method),
        Metric("equivalence_power", chance, n=tost.n, condition=PAIR, method=assumed),
    ]


def _variation(table: attempts.Table, config: Config, by: Resampling) -> list[Metric]:
    """Variation of each condition's attempts: over a chance solver's, and over its mean (protocol 1)."""
    spread, rows = scale_of(config).spread, []
    for condition, values in table.items():
        rows.append(attempts.row("attempts_cv", condition, attempts.variation(values, by)))
        found = np.array(list(values.values()))

        def ratio(i: NDArray[np.intp], found: NDArray[np.float64] = found) -> float | None:
            return float(found[i].std(ddof=1)) / spread if len(i) > 1 else None

        name = f"std over problems / {spread:.3g}, a chance solver's"
        rows.append(attempts.row("attempts_sd_ratio", condition, by.positive(name, ratio, list(values))))
    n, bound = len(table["semantic"]), config.stabilization_ratio
    method = (
        f"smallest attempts_sd_ratio whose interval lies above {bound:g} at 80 % power, for normal attempts; "
        "problems of a group that are alike show less"
    )
    return [*rows, Metric("smallest_ratio", power.smallest_ratio(n, bound), n=n, condition="semantic", method=method)]


class Hypothesis(NamedTuple):
    """The hypothesis for E2, and why."""

    name: str
    why: str


def hypothesis_of(metrics: Metrics, config: Config) -> Hypothesis:
    """Choose the hypothesis for E2 by the protocol's order of rules; all but the first rest on attempts."""
    p, d = metrics.find("adjusted_p", PAIR), metrics.find("mean_difference", PAIR)
    tost = metrics.find("equivalence_p", PAIR)
    if d is None or d.value is None:
        return Hypothesis(WEAK_SIGNAL, "Too few results to compare")
    if not metrics.facts["base_above_chance"]:
        return Hypothesis(WEAK_SIGNAL, "attempts are not judged here, and E2 goes by retrieval precision")
    seen = f"adjusted p {p.value:.3g}" if p and p.value is not None else ""
    if attempts.outcome(metrics, PAIR, config.amplification_p) is Outcome.FEWER:
        return Hypothesis("amplification", f"semantic needs fewer attempts, {seen} < {config.amplification_p}")
    found = attempts.outcome(metrics, PAIR, config.correction_p)
    if found is Outcome.MORE:
        return Hypothesis("correction", f"temporal needs fewer attempts, {seen} < {config.correction_p}")
    if end := _end_of_both(metrics):
        means = means_in_words(metrics, CONDITIONS[1:])
        why = f"temporal and semantic are both at the {end} ({ENDS[end]}): {means}, so equality says nothing"
        return Hypothesis(WEAK_SIGNAL, why)
    if tost and tost.value is not None and tost.value < config.equivalence_p:
        why = f"semantic and temporal are equivalent within {margin_of(config):.3g} attempts, TOST p {tost.value:.3g}"
        return Hypothesis("awakening", why)
    variation, flags = metrics.find("attempts_sd_ratio", "semantic"), metrics.facts["flags"]
    least = config.stabilization_ratio
    wide = variation is not None and variation.low is not None and variation.low > least
    if variation and wide and "semantic" not in flags.get("floor", ()):
        why = f"attempts vary widely, {variation.value:.2f} of a chance solver's standard deviation, at least {variation.low:.2f}"
        return Hypothesis("stabilization", f"{why} > {least:g}")
    if found is Outcome.MIXED:
        return Hypothesis(WEAK_SIGNAL, f"semantic {found.against('temporal')}, {seen}")
    return Hypothesis(WEAK_SIGNAL, "no difference, no equivalence and no wide variation was shown")


def _end_of_both(metrics: Metrics) -> str:
    """The end at which both strategies stand, so that nothing can differ; "" where they can."""
    flags: Flags = metrics.facts["flags"]
    return next((end for end, names in flags.items() if all(c in names for c in CONDITIONS[1:])), "")


def gate(metrics: Metrics, config: Config) -> Verdict:
    """Choose E2's hypothesis; INCONCLUSIVE where the signal is weak or the base is at chance. The chain goes on in any case."""
    main, copied = metrics.find("mean_difference", PAIR), controls.copied(metrics)
    hypothesis, why = hypothesis_of(metrics, config)
    above = metrics.facts["base_above_chance"]
    findings = Findings(
        hypothesis=hypothesis,
        best=_best(metrics),
        memos=metrics.facts["memos"],
        test=metrics.facts["test"],
        labels_copied=copied.value if copied and above else None,
        base_above_chance=above,
    )
    base = "" if above else f"{_base_in_words(metrics)} {_retrieval_in_words(metrics)}"
    if main is None or main.value is None:
        nothing = Metric(
            "mean_difference", None, condition=PAIR, method="no problem has a result under both strategies"
        )
        cause, steps = _without_results(metrics, config)
        reason = f"{base}{why}; the hypothesis is {hypothesis}. {cause}".strip()
        return Verdict(Status.INCONCLUSIVE, reason, findings, nothing, None, _after_base(metrics, steps))
    text = f"{base}{hypothesis}: {why}; {'' if above else 'for information, '}{PAIR} {main.value:+.2f} attempts, n {main.n}."
    text += controls.copying_in_words(metrics) + ends_in_words(metrics.facts["flags"])
    if not above:
        found = metrics.find("precision_difference", PAIR)
        judged = found if found and found.value is not None else main
        steps = next_steps.easier(NAME, config, AT_CHANCE)
        return Verdict(Status.INCONCLUSIVE, text, findings, judged, None, _after_base(metrics, steps))
    if hypothesis != WEAK_SIGNAL:
        return Verdict(Status.PASS, text, findings, main)
    return Verdict(Status.INCONCLUSIVE, text, findings, main, None, _next(main, _end_of_both(metrics), config))


def _base_in_words(metrics: Metrics) -> str:
    """Return that the model without memory is not shown to be better than chance, as the first sentence of a reason."""
    mean, p = metrics.find("attempts_mean", "none"), metrics.find("above_chance_p", "none")
    open_ = "so nothing that rests on attempts is judged."
    if mean is None or mean.value is None:
        return f"Without memory no problem has a result, {open_}"
    scale: Scale = metrics.facts["scale"]
    chance = f", p {p.value:.3g}" if p and p.value is not None else ""
    return (
        f"Without memory the model is not shown to be better than chance ({mean.value:.2f} attempts, chance "
        f"{scale.chance:.2f}{chance}, n {mean.n}), {open_}"
    )


def _retrieval_in_words(metrics: Metrics) -> str:
    """Return what semantic retrieval found against temporal, as a sentence with a blank behind it; "" if nothing."""
    d, p = metrics.find("precision_difference", PAIR), metrics.find("precision_adjusted_p", PAIR)
    if d is None or p is None or d.value is None or p.value is None:
        return ""
    between = "" if d.low is None or d.high is None else f" ({d.low:+.2f} to {d.high:+.2f})"
    verb = {
        Outcome.MORE: "finds more memos of the problem's class than temporal",
        Outcome.FEWER: "finds fewer memos of the problem's class than temporal",
        Outcome.MIXED: "differs from temporal in what it finds, but mean and signed ranks do not point the same way",
    }.get(precision.outcome(metrics, PAIR, LEVEL), "is not shown to find other memos than temporal")
    return f"Semantic retrieval {verb}: type match {d.value:+z.2f}{between}, p {p.value:.3g}, n {d.n}. "


def _after_base(metrics: Metrics, steps: tuple[NextStep, ...]) -> tuple[NextStep, ...]:
    """Put a larger model before other steps where the base was measured at chance; what failed, where it was not measured."""
    if metrics.facts["base_above_chance"]:
        return steps
    mean, errors = metrics.find("attempts_mean", "none"), metrics.facts["errors"]
    first = next_steps.larger_model(NAME, AT_CHANCE)
    if mean is None or mean.value is None:
        if not errors:
            return steps
        first = next_steps.install(errors, next_steps.WEAK)
    return (first, *(s for s in steps if s.command != first.command))


def _without_results(metrics: Metrics, config: Config) -> tuple[str, tuple[NextStep, ...]]:
    """(why there is nothing to compare, what to try)."""
    errors, memos = metrics.facts["errors"], metrics.facts["memos"]
    if errors or len(memos) >= config.k:
        return attempts.failures_in_words(errors).strip(), (next_steps.install(errors, next_steps.WEAK),)
    cause = f"The memory has {len(memos)} memos, and {config.k} are shown."
    steps: tuple[NextStep, ...] = ()
    if config.memo_on_failure == "drop":
        steps += (next_steps.command(NAME, {"memo_on_failure": "truth"}, "a failure leaves a memo as well"),)
    steps += next_steps.doubled(NAME, config, "n_memory", "more problems to remember", config.n_test)
    return cause, (*steps, *next_steps.easier(NAME, config, "the solver solves too little"))


def _best(metrics: Metrics) -> Literal["temporal", "semantic"]:
    """The strategy with fewer attempts on the problems that both solved; temporal when they are even.

    Where the base is not above chance, the one that finds more memos of the problem's class.
    """
    if not metrics.facts["base_above_chance"]:
        found = metrics.find("precision_difference", PAIR)
        return "semantic" if found and found.value is not None and found.value > 0 else "temporal"
    both = metrics.find("mean_difference", PAIR)
    if both is not None and both.value is not None:
        return "semantic" if both.value < 0 else "temporal"
    temporal, semantic = (metrics.find("attempts_mean", c) for c in ("temporal", "semantic"))
    if semantic is None or semantic.value is None:
        return "temporal"
    return "semantic" if not temporal or temporal.value is None or semantic.value < temporal.value else "temporal"


def _next(main: Metric, end: str, config: Config) -> tuple[NextStep, ...]:
    """Other problems where nothing can differ; else a new study, as large as the seen effect asks for; another embedder."""
    if end:
        other = next_steps.easier if end == "floor" else next_steps.harder
        return other(NAME, config, f"both strategies are at the {end}")
    more = next_steps.new_study(NAME, config, main, level_of(config), config.n_memory)
    # Semantic retrieval is as E0 chose it.
    return (*more, *next_steps.other_embedders("e0", next_steps.EMBEDDERS[:1]))
