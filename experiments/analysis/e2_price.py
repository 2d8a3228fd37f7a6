"""The price of E2's trainings: time, tokens and size, the five success criteria, and when a training has paid back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.analysis import attempts
from experiments.analysis.e2_settings import CRITERIA
from experiments.contract import Json, Metric, Trial


def training(trials: Sequence[Trial]) -> tuple[list[Metric], Json]:
    """Return what a training of each dataset took, the mean over its training seeds, as metrics and as facts."""
    rows: list[Metric] = []
    facts: Json = {}
    for name in dict.fromkeys(t.condition for t in trials if t.condition.startswith("train_")):
        own = [t for t in trials if t.condition == name]
        done = [t for t in own if t.error is None]
        if not done:
            facts[name] = {"error": own[0].error}
            continue
        n, examples, of = len(done), done[0].details["examples"], f"mean of {len(done)} trainings; " if done[1:] else ""

        def mean(values: Iterable[float], n: int = n) -> float:
            return float(sum(values)) / n

        seconds, tokens = mean(t.latency_s or 0.0 for t in done), mean(t.tokens_in or 0 for t in done)
        size = mean(t.details["adapter_bytes"] for t in done)
        facts[name] = {"seconds": seconds, "tokens": tokens, "examples": examples}
        rows += [
            Metric("training_time_s", seconds, n=n, condition=name, method=f"{of}measured", timing=True),
            Metric("training_tokens", tokens, n=examples, condition=name, method=f"{of}seen in training"),
            Metric("adapter_bytes", size, n=n, condition=name, method=f"{of}file size"),
        ]
        if all(t.details["validation_loss"] for t in done):
            how = f"{of}best epoch; before training {mean(t.details['validation_loss'][0] for t in done):.3f}"
            loss, held = mean(min(t.details["validation_loss"]) for t in done), done[0].details["held"]
            rows.append(Metric("validation_loss", loss, n=held, condition=name, method=how))
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


def criteria(table: attempts.Table, training: Json) -> dict[str, Criterion]:
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


def break_even(table: attempts.Table, trials: Sequence[Trial], base: str) -> list[Metric]:
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
        value = float(np.mean(spent)) / (saved * float(np.median(times))) if saved > 0 else None
        method = "no attempts are saved, so it never pays back" if found else "no problem has a result under both"
        method = "training time / (attempts saved x seconds an attempt)" if value else method
        rows.append(Metric("break_even_problems", value, n=len(found), condition=condition, method=method, timing=True))
    return rows
