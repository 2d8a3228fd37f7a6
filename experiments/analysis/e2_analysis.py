"""The analysis of E2: tuned against base, the price of training, the five success criteria, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from common.outcome import Outcome
from experiments.analysis import attempts
from experiments.analysis.ends import ends, ends_in_words, flags_of, scale_of
from experiments.analysis.resampling import Resampling, resampling_of
from experiments.backends.lora import LoraSettings
from experiments.contract import Json, Metric, Metrics, NextStep, PhaseConfig, Status, Trial, Verdict
from experiments.findings import PhaseFindings
from experiments.power import Level
from experiments.protocol import next_steps

CONTROLS = ("tuned_s_random", "tuned_s_none")


# docs/science.md, E2, the conditions of each hypothesis; the first is the base that the tuned conditions are held against.
CONDITIONS = {
    "amplification": ("base_semantic", "base_query", "tuned_s", "tuned_r"),
    "awakening": ("base_query", "base_temporal", "base_semantic", "tuned_s", "tuned_r"),
    "correction": ("base_best", "tuned_s", "tuned_r"),
    "stabilization": ("base_query", "tuned_s", "tuned_r"),
    "weak_signal": ("base_query", "tuned_s", "tuned_r"),
}
# (name, largest time or token ratio S/R, what is bounded, smallest performance ratio S/R), docs/science.md, E2, success criteria.
CRITERIA = (
    ("efficiency_moderate", "time", 0.65, 0.95),
    ("efficiency_strong", "time", 0.50, 0.85),
    ("performance_moderate", "time", 1.5, 1.25),
    ("performance_strong", "time", 2.0, 1.50),
    ("token_efficiency", "tokens", 0.60, 0.90),
)

TUNED = frozenset(("adapter S", "adapter R", "tuned_s", "tuned_r"))
PROTOCOL_LORA = LoraSettings(
    rank=8, alpha=16, dropout=0.1, learning_rate=5e-5, epochs=3, batch_size=4, accumulation=4, warmup=0.1, patience=3
)


class AnalysisConfig(PhaseConfig):
    """The fields of E2's Config that its analysis reads."""

    n_train: int = Field(1500, gt=1, description="memos at most in each dataset")
    lora: LoraSettings = PROTOCOL_LORA
    margin: float = Field(0.25, gt=0, description="attempts; the smallest saving worth having, fixed beforehand")
    alpha: float = Field(0.05, description="level of the one-sided tests, after Holm")


class Findings(PhaseFindings, phase="e2", what="verdict on the hypothesis"):
    """The answer to the hypothesis."""

    hypothesis_verdict: str  # confirmed, refuted or inconclusive
    best_model: str  # condition with the fewest attempts
    criteria: dict[str, bool]  # success criterion -> met

    def doubted(self) -> Self:
        """Return the numbers, without an answer."""
        return self.model_copy(update={"hypothesis_verdict": "inconclusive"})


def metrics(trials: Sequence[Trial], config: AnalysisConfig) -> Metrics:
    """Measure E2: attempts, quality, costs, break-even, the five criteria; the hypothesis in the trials decides the comparisons."""
    hypothesis = next((t.details["hypothesis"] for t in trials if "hypothesis" in t.details), "weak_signal")
    present = {t.condition for t in trials}
    conditions = [c for c in (*CONDITIONS[hypothesis], *CONTROLS) if c in present]
    base = CONDITIONS[hypothesis][0]
    tuned = [c for c in ("tuned_s", "tuned_r") if c in conditions]
    table, by = attempts.median_attempts(trials, conditions), resampling_of(trials, config)
    scale = scale_of(config)
    values = [*attempts.per_condition(trials, table, by), *ends(table, scale, by)]
    if base in table:
        pairs = [(c, base) for c in tuned]
        values += attempts.comparisons(table, pairs, "less", by)
        values += [m for c in tuned for m in _against(table, c, base, by)]
        values += [m for c in tuned for m in _by_margin(table, c, base, config, by)]
        values.append(attempts.smallest_visible(attempts.fewest_pairs(table, pairs), level_of(config)))
    values += _described(trials, conditions, by)
    training, facts = _training(trials)
    values += training
    criteria = _criteria(table, facts)
    if performance_ratio(table) is not None:
        ratio = by.ratio(table["tuned_r"], table["tuned_s"])
        values.append(attempts.row("performance_ratio", "tuned_s / tuned_r", ratio))
    values += [
        Metric("criterion", float(met), n=1, condition=name, method=why, timing="time" in why)
        for name, (met, why) in criteria.items()
    ]
    values += _break_even(table, trials, base)
    return Metrics(
        tuple(values),
        {
            "hypothesis": hypothesis,
            "base": base,
            "tuned": tuned,
            "training": facts,
            "criteria": criteria,
            "best": _best(table, base),
            "missing": _missing(trials, (base, *conditions)),
            "flags": flags_of(table, scale, by),
        },
    )


def _missing(trials: Sequence[Trial], conditions: Sequence[str]) -> dict[str, str]:
    """Return the adapters that were not trained and conditions in which every trial failed, each with the cause."""
    why = {}
    for name, condition in (("adapter S", "train_s"), ("adapter R", "train_r"), *((c, c) for c in conditions)):
        mine = [t for t in trials if t.condition == condition]
        if all(t.error is not None for t in mine):
            why[name] = (mine[0].error or "").rstrip(".") if mine else "it has no trial"
    return why


def _best(table: attempts.Table, base: str) -> str:
    """Return the condition with the fewest attempts, each compared with the base on the problems that both have.

    Where no trial is missing that is the lowest mean; else a mean may be low since hard problems failed. "" without any.
    """
    gaps = {c: found for c in table if base in table and (found := attempts.differences(table, c, base))}
    means = {c: float(np.mean(list(v.values()))) for c, v in (gaps or table).items() if v}
    return min(means, key=lambda c: means[c], default="")


def _against(table: attempts.Table, tuned: str, base: str, by: Resampling) -> list[Metric]:
    """Compare a tuned condition with its base: improvement in percent, and ratio of the coefficients of variation."""
    name = f"{tuned} - {base}"
    ratio = by.ratio(table[tuned], table[base])

    def saved(value: float | None) -> float | None:
        return None if value is None else 100.0 * (1.0 - value)

    improvement = replace(ratio, value=saved(ratio.value), low=saved(ratio.high), high=saved(ratio.low))
    both = attempts.whole(table, (tuned, base))
    left, right = (np.array(list(both[c].values())) for c in (tuned, base))

    def variation(i: NDArray[np.intp]) -> float | None:
        own, other = attempts.cv(left[i]), attempts.cv(right[i])
        return own / other if own is not None and other else None

    found = by.positive("ratio of std / mean", variation, list(both[base]))
    if found.value is None:
        found = replace(found, method="attempts of the base do not vary" if len(right) > 1 else "needs two problems")
    return [attempts.row("improvement_percent", name, improvement), attempts.row("cv_ratio", name, found)]


def _by_margin(table: attempts.Table, tuned: str, base: str, config: AnalysisConfig, by: Resampling) -> list[Metric]:
    """Test a tuned condition against the margin: not worse by it, worse by it, and no saving as large."""
    more, saved = attempts.differences(table, tuned, base), attempts.differences(table, base, tuned)
    rows = []
    for metric, values, bound, words in (
        ("noninferiority_p", more, config.margin, f"fewer than {config.margin} more attempts are needed"),
        ("inferiority_p", saved, -config.margin, f"over {config.margin} more attempts are needed"),
        ("no_saving_p", saved, config.margin, f"fewer than {config.margin} attempts are saved"),
    ):
        test = by.under(values, bound)
        note = f"; {test.note}" if test.note else ""
        method = f"one-sided paired t test that {words}{note}"
        rows.append(Metric(metric, test.p, n=test.n, condition=f"{tuned} - {base}", method=method))
    return rows


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


def _training(trials: Sequence[Trial]) -> tuple[list[Metric], Json]:
    rows: list[Metric] = []
    facts: Json = {}
    for t in trials:
        if not t.condition.startswith("train_"):
            continue
        if t.error is not None:
            facts[t.condition] = {"error": t.error}
            continue
        facts[t.condition] = {
            "seconds": t.latency_s,
            "tokens": t.tokens_in,
            **{k: t.details[k] for k in ("examples", "best_epoch", "adapter_bytes")},
        }
        name, tokens, n = t.condition, float(t.tokens_in or 0), t.details["examples"]
        rows += [
            Metric("training_time_s", t.latency_s, n=1, condition=name, method="measured", timing=True),
            Metric("training_tokens", tokens, n=n, condition=name, method="seen in training"),
            Metric("adapter_bytes", float(t.details["adapter_bytes"]), n=1, condition=name, method="file size"),
        ]
        if losses := t.details["validation_loss"]:
            how = f"best epoch; before training {losses[0]:.3f}"
            rows.append(Metric("validation_loss", min(losses), n=t.details["held"], condition=name, method=how))
    return rows, facts


def performance_ratio(table: attempts.Table) -> float | None:
    """Return the performance of S over that of R, where performance is 1 / mean attempts (docs/science.md, E2).

    Both sums run over the problems that both have, so theirs is the ratio of the means, and 5/4 is exactly 1.25.
    """
    if "tuned_s" not in table or "tuned_r" not in table:
        return None
    ours, theirs = attempts.paired(table, "tuned_s", "tuned_r")
    return sum(theirs) / sum(ours) if ours else None


class Criterion(NamedTuple):
    """A success criterion: whether it is met, and the numbers behind it."""

    met: bool
    why: str


def _criteria(table: attempts.Table, training: Json) -> dict[str, Criterion]:
    """Judge each success criterion, with the ratios S/R behind it; {} when one of the two adapters is missing."""
    s, r = training.get("train_s", {}), training.get("train_r", {})
    gain = performance_ratio(table)
    if gain is None or "seconds" not in s or "seconds" not in r:
        return {}
    ratios = {"time": s["seconds"] / r["seconds"], "tokens": s["tokens"] / r["tokens"]}
    found = {}
    for name, price, most, least in CRITERIA:
        # "performance S/R > 1.25" is strict in the protocol, ">= .95" is not; time bounds likewise differ by direction.
        strict = name.startswith("performance")
        better, cheap = (gain > least, ratios[price] <= most) if strict else (gain >= least, ratios[price] < most)
        needs = ("<=", ">") if strict else ("<", ">=")
        why = f"{price} S/R {ratios[price]:.2f} (needs {needs[0]} {most:g}), "
        found[name] = Criterion(better and cheap, f"{why}performance S/R {gain:.2f} (needs {needs[1]} {least:g})")
    return found


def _break_even(table: attempts.Table, trials: Sequence[Trial], base: str) -> list[Metric]:
    """Estimate after how many problems the attempts saved make up for the training time."""
    rows = []
    # A choice takes one forward pass whatever the attempts; guesses take their time one by one.
    times = [
        t.latency_s / ((t.attempts or 1) if t.details.get("solved_by") == "guessing" else 1)
        for t in trials
        if t.condition == base and t.latency_s is not None
    ]
    for name in ("s", "r"):
        spent = [t.latency_s for t in trials if t.condition == f"train_{name}" and t.latency_s is not None]
        condition = f"tuned_{name}"
        if not spent or not times or condition not in table or base not in table:
            continue
        found = list(attempts.differences(table, base, condition).values())
        saved = float(np.mean(found)) if found else 0.0
        value = spent[0] / (saved * float(np.median(times))) if saved > 0 else None
        method = "no attempts are saved, so it never pays back" if found else "no problem has a result under both"
        method = "training time / (attempts saved x seconds an attempt)" if value else method
        rows.append(Metric("break_even_problems", value, n=len(found), condition=condition, method=method, timing=True))
    return rows


class Compared(NamedTuple):
    """One tuned condition against its base; p and difference have values."""

    p: Metric
    difference: Metric
    shown: Outcome
    variation: Metric | None
    not_worse: bool  # by the margin
    worse: bool  # by the margin
    no_saving: bool  # as large as the margin


def _compared(metrics: Metrics, pair: str, config: AnalysisConfig) -> Compared | None:
    """Return what was measured of a pair, None where it could not be compared."""
    p, d, v = (metrics.find(name, pair) for name in ("adjusted_p", "mean_difference", "cv_ratio"))
    shown = attempts.outcome(metrics, pair, config.alpha)
    if shown is Outcome.UNMEASURED or p is None or d is None:
        return None

    def under(metric: str, level: float) -> bool:
        found = metrics.find(metric, pair)
        return found is not None and found.value is not None and found.value < level

    # That attempts are worse is one of two ways to refute stabilization, so it has half of the level.
    worse, alpha = under("inferiority_p", config.alpha / 2), config.alpha
    return Compared(p, d, shown, v, under("noninferiority_p", alpha), worse, under("no_saving_p", alpha))


def level_of(config: AnalysisConfig) -> Level:
    """Return the level of one comparison: both tuned conditions are tested against the base, on one side."""
    return Level(config.alpha, 2, 1)


def gate(metrics: Metrics, config: AnalysisConfig) -> Verdict:
    """Return PASS where the hypothesis is confirmed, FAIL where it is refuted, else INCONCLUSIVE."""
    hypothesis, base, tuned = (metrics.facts[k] for k in ("hypothesis", "base", "tuned"))
    known = [row for c in tuned if (row := _compared(metrics, f"{c} - {base}", config))]
    missing = "".join(f" {name} is missing: {why}." for name, why in metrics.facts["missing"].items())
    if not known:
        nothing = Metric("mean_difference", None, method="a tuned condition and its base need results")
        reason = f"{hypothesis}: nothing to compare.{missing}"
        return Verdict(Status.INCONCLUSIVE, reason, None, nothing, None, _next_without_results(metrics, config))
    word, main, text = _by_variation(known, config) if hypothesis == "stabilization" else _by_attempts(known)
    if word == "refuted" and not TUNED.isdisjoint(metrics.facts["missing"]):
        word = "inconclusive"  # what could not be tried is not refuted
    best = metrics.facts["best"]
    criteria = {k: ok for k, (ok, _) in metrics.facts["criteria"].items()}
    met = ", ".join(k for k, ok in criteria.items() if ok)
    advice = f"Use {best} (fewest attempts). Success criteria met: {met or 'none'}."
    ends = ends_in_words(metrics.facts["flags"])
    reason = f"{hypothesis} {word}: {main.condition} {text}, n {main.n}. {advice}{ends}{missing}"
    findings = Findings(hypothesis_verdict=word, best_model=best, criteria=criteria)
    status = {"confirmed": Status.PASS, "refuted": Status.FAIL, "inconclusive": Status.INCONCLUSIVE}[word]
    steps = () if word == "confirmed" else _next(main, word == "refuted", config)
    return Verdict(status, reason, findings, main, None, steps)


class Answer(NamedTuple):
    """The answer to the hypothesis: confirmed, refuted or inconclusive, the number that it rests on, and that as text."""

    word: str
    main: Metric
    text: str


def _by_attempts(rows: Sequence[Compared]) -> Answer:
    """Answer by attempts saved; any tuned condition confirms, since Holm's p covers all of them."""
    better = [r for r in rows if r.shown is Outcome.FEWER]
    best = min(better or rows, key=lambda r: _number(r.difference))
    text = f"{_number(best.difference):+.2f} attempts, adjusted p {_number(best.p):.3g}"
    if better:
        return Answer("confirmed", best.difference, text)
    # Refuted: each is shown not to save as much as the smallest saving worth having.
    refuted = all(r.no_saving for r in rows)
    return Answer("refuted" if refuted else "inconclusive", best.difference, text)


def _by_variation(rows: Sequence[Compared], config: AnalysisConfig) -> Answer:
    """Answer by the ratio of the coefficients of variation, tuned to base, against 1, where attempts are not worse.

    A model that fails everywhere is steady too. Each interval is one of two at 95 %, so both together hold 5 % on one side.
    """
    found = [(r, r.variation) for r in rows if r.variation is not None and r.variation.value is not None]
    if not found:
        nothing = rows[0].variation or Metric("cv_ratio", None, condition=rows[0].difference.condition)
        return Answer("inconclusive", nothing, f"CV ratio undefined, {nothing.method}")
    steadier = [(r, m) for r, m in found if m.high is not None and m.high < 1.0]
    confirmed = [(r, m) for r, m in steadier if r.not_worse]
    row, best = min(confirmed or steadier or found, key=lambda pair: _number(pair[1]))
    worse = "" if row.not_worse else f", not shown to be within {config.margin}"
    text = f"CV ratio {_number(best):.2f}, {_number(row.difference):+.2f} attempts{worse}"
    refuted = all(r.worse or (m.low is not None and m.low > 1.0) for r, m in found)
    return Answer("confirmed" if confirmed else "refuted" if refuted else "inconclusive", best, text)


def _number(metric: Metric) -> float:
    assert metric.value is not None  # noqa: S101
    return metric.value


def _next(main: Metric, refuted: bool, config: AnalysisConfig) -> tuple[NextStep, ...]:
    """The failure protocol: a new study as large as power asks for, unless it is refuted; a gentler training."""
    steps: tuple[NextStep, ...] = ()
    # A saving was seen but not shown. The memory is E1's, and about as large as what is learnt from it.
    if main.metric == "mean_difference" and main.value is not None and main.value < 0:
        steps = next_steps.new_study("e2", config, main, level_of(config), config.n_train, ("e1",))
    return (*(() if refuted else steps), *next_steps.gentler("e2", config.lora))


def _next_without_results(metrics: Metrics, config: AnalysisConfig) -> tuple[NextStep, ...]:
    """Return steps where nothing could be compared: install what is missing; problems that are solved, for S to learn from."""
    causes: dict[str, str] = metrics.facts["missing"]
    install = next_steps.install(causes.values(), next_steps.STRONG)
    if "adapter S" not in causes or next_steps.INSTALL.search(causes["adapter S"]):
        return (install,)
    return (*next_steps.easier("e2", config, "adapter S learns from what is solved"), install)
