"""Analysis of attempts that P2, E1 and E2 share: one value a problem and condition, then paired comparisons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from experiments import statistics
from experiments.contract import Metric, Trial

BOOTSTRAP_SEED = 42  # SCIENCE, Seeds: 42 makes what is not a run
Table = dict[str, dict[str, float]]  # condition -> problem id -> median attempts over the seeds


def median_attempts(trials: Sequence[Trial], conditions: Sequence[str]) -> Table:
    """Per-problem median attempts; a problem counts only where every condition has a result, so that all pairs are whole."""
    seen: dict[str, dict[str, list[int]]] = {c: defaultdict(list) for c in conditions}
    for t in trials:
        if t.condition in seen and t.attempts is not None:
            seen[t.condition][t.problem_id].append(t.attempts)
    whole = set.intersection(*(set(by_problem) for by_problem in seen.values())) if seen else set()
    return {c: {p: float(np.median(seen[c][p])) for p in sorted(whole)} for c in conditions}


def failed_in(trials: Sequence[Trial], condition: str) -> int:
    return sum(1 for t in trials if t.condition == condition and t.error is not None)


def paired(table: Table, first: str, second: str) -> tuple[list[float], list[float]]:
    """Values of two conditions in the same order of problems."""
    problems = list(table[first])
    return [table[first][p] for p in problems], [table[second][p] for p in problems]


def per_condition(trials: Sequence[Trial], table: Table) -> list[Metric]:
    """attempts_mean, accuracy, success_rate and censoring_rate of each condition."""
    rows = []
    for condition, values in table.items():
        done = [t for t in trials if t.condition == condition and t.attempts is not None]
        lost = failed_in(trials, condition)
        mean = statistics.bootstrap_mean(list(values.values()), BOOTSTRAP_SEED)
        rows.append(_row("attempts_mean", condition, mean, lost))
        for metric, hits in (
            ("accuracy", sum(t.attempts == 1 for t in done)),
            ("success_rate", sum(bool(t.solved) for t in done)),
        ):
            share = statistics.wilson(hits, len(done))
            rows.append(
                _row(metric, condition, share, lost, note="; n counts trials, seeds of a problem are not independent")
            )
        censored = statistics.wilson(sum(not t.solved for t in done), len(done))
        rows.append(_row("censoring_rate", condition, censored, lost))
    return rows


def _row(metric: str, condition: str, interval: statistics.Interval, failed: int = 0, note: str = "") -> Metric:
    return Metric(
        metric, interval.value, interval.low, interval.high, interval.n, failed, condition, interval.method + note
    )


def row(metric: str, condition: str, interval: statistics.Interval, failed: int = 0) -> Metric:
    """A Metric from an interval."""
    return _row(metric, condition, interval, failed)


def comparisons(table: Table, pairs: Sequence[tuple[str, str]], alternative: str = "two-sided") -> list[Metric]:
    """For each pair (first, second): p, Holm and Bonferroni over all pairs, effect sizes, mean difference first - second.

    A negative difference means that the first needs fewer attempts.
    """
    tests = [statistics.wilcoxon_paired(*paired(table, a, b), alternative=alternative) for a, b in pairs]
    holm, bonferroni = statistics.holm([t.p for t in tests]), statistics.bonferroni([t.p for t in tests])
    rows = []
    for (a, b), test, by_holm, by_bonferroni in zip(pairs, tests, holm, bonferroni, strict=True):
        name, (x, y) = f"{a} - {b}", paired(table, a, b)
        note = f"; {test.note}" if test.note else ""
        method = f"Wilcoxon signed-rank, {alternative}{note}"
        difference = statistics.bootstrap_mean(list(np.subtract(x, y)), BOOTSTRAP_SEED)
        rows += [
            _row("mean_difference", name, difference),
            Metric("p", test.p, n=test.n, condition=name, method=method),
            Metric("adjusted_p", by_holm, n=test.n, condition=name, method=f"{method}, Holm over {len(pairs)}"),
            Metric(
                "bonferroni_p",
                by_bonferroni,
                n=test.n,
                condition=name,
                method=f"{method}, Bonferroni over {len(pairs)}",
            ),
            Metric("cliffs_delta", statistics.cliffs_delta(x, y), n=test.n, condition=name, method="Cliff 1993"),
            Metric(
                "rank_biserial", statistics.rank_biserial_paired(x, y), n=test.n, condition=name, method="matched pairs"
            ),
        ]
    return rows


def ceiling_and_floor(table: Table, most: int) -> dict[str, list[str]]:
    """Conditions where a difference can hardly show: nearly all problems at one attempt, or at the most there are."""
    flags: dict[str, list[str]] = {"ceiling": [], "floor": []}
    for condition, values in table.items():
        found = np.array(list(values.values()))
        if len(found) and float(np.mean(found == 1)) >= 0.9:  # nine of ten: the usual mark for a ceiling
            flags["ceiling"].append(condition)
        if len(found) and float(np.mean(found >= most)) >= 0.9:
            flags["floor"].append(condition)
    return flags


def smallest_visible(n: int) -> Metric:
    """The smallest standardised paired difference seen at 80 % power with n problems."""
    return Metric(
        "smallest_effect", statistics.smallest_effect(n), n=n,
        method="Cohen's dz at 80 % power, two-sided 5 %, paired t with Wilcoxon's relative efficiency 3/pi",
    )  # fmt: skip


def cv(values: Mapping[str, float]) -> float | None:
    """Coefficient of variation of per-problem attempts; None with fewer than two problems."""
    found = np.array(list(values.values()))
    return float(found.std(ddof=1) / found.mean()) if len(found) > 1 else None
