"""Comparisons of attempts in a study that is looked at several times and ends once it is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments import sequential, statistics
from experiments.analysis import attempts
from experiments.analysis.ends import Scale
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Metrics

ONCE = "; holds for one look at a fixed number of problems, and this study has several"


def comparisons(table: attempts.Table, pairs: Sequence[attempts.Pair], by: Resampling, scale: Scale) -> list[Metric]:
    """Compare as `attempts.comparisons` does, with p and interval that hold at every look (experiments.sequential).

    Holm's adjustment holds as well: at the moment of any look each p is under a level no more often than that level.
    """
    gaps = {pair: attempts.differences(table, *pair) for pair in pairs}
    tests = {pair: sequential.zero_mean(list(d.values()), scale.most - 1.0, by.of(d)) for pair, d in gaps.items()}
    ps = [t.p for t in tests.values()]
    holm, bonferroni = statistics.adjusted(ps, "holm"), statistics.adjusted(ps, "bonferroni")
    known, rows = len(ps) - ps.count(None), list[Metric]()
    for (pair, test), by_holm, by_bonferroni in zip(tests.items(), holm, bonferroni, strict=True):
        name, n = " - ".join(pair), len(gaps[pair])
        what = f"betting, two-sided, valid at every look, {test.n} {'problems' if by.groups is None else 'groups'}"
        method = f"{what}; {test.note}" if test.note else what
        rows += [
            Metric(
                "mean_difference", test.mean, test.low, test.high, n, 0, name, f"mean, confidence sequence, {method}"
            ),
            Metric("p", test.p, n=n, condition=name, method=method),
            Metric("adjusted_p", by_holm, n=n, condition=name, method=f"{method}, Holm over {known}"),
            Metric("bonferroni_p", by_bonferroni, n=n, condition=name, method=f"{method}, Bonferroni over {known}"),
            *_effect_sizes(name, attempts.paired(table, *pair)),
        ]
    return rows


def _effect_sizes(name: str, pairs: attempts.Pairs) -> list[Metric]:
    n, delta, ranks = len(pairs.first), statistics.cliffs_delta(*pairs), statistics.rank_biserial_paired(*pairs)
    return [
        Metric("cliffs_delta", delta, n=n, condition=name, method="Cliff 1993"),
        Metric("rank_biserial", ranks, n=n, condition=name, method="matched pairs"),
    ]


def marked(rows: Sequence[Metric]) -> list[Metric]:
    """Return rows whose p or interval holds for one look, with that in their method."""
    return [replace(m, method=m.method + ONCE) if m.low is not None or m.metric.endswith("p") else m for m in rows]


def saves_nothing(metrics: Metrics, pair: str, scale: Scale) -> bool:
    """Return True if a pair's first condition is shown to save less than the smallest saving worth having."""
    difference = metrics.find("mean_difference", pair)
    return difference is not None and difference.low is not None and difference.low > -scale.room
