"""Comparison of two results of one unit: which values must be equal, and which agree by tolerance.

Problems, conditions, seeds, answers, labels, attempts, tokens, errors and all text in the details are equal. Numbers with a
fraction, which sums of float32 stand behind, agree within TOLERANCE. Clocks, and the digest of trained weights, are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.contract import Trial

# Nats. Float32 has 24 bits; sums of 30 layers in another order moved a log-probability by at most 4e-5 (measured).
TOLERANCE = 1e-3
CLOCKS = frozenset({"latency_s"})
TRAINED = frozenset({"adapter"})  # the digest of floats, whose last bits are another thread count's
LEFT_OUT = CLOCKS | TRAINED


@dataclass(frozen=True)
class Agreement:
    """Two results of one unit, side by side."""

    trials: int  # of the first
    deviating: int  # trials that differ; missing and surplus ones too
    first: str  # where the first of them differs, "" when none does
    largest: float | None  # difference of two numbers that agree by tolerance or should; None when there are none


def compare(first: Sequence[Trial], second: Sequence[Trial]) -> Agreement:
    """Compare the trials of two runs of one unit, one by one in the order in which the unit gave them."""
    found = [difference(a, b, f"trial {i}") for i, (a, b) in enumerate(zip(plain(first), plain(second), strict=False))]
    found = list(filter(None, found))
    if len(first) != len(second):
        found.append(f"{len(first)} trials and {len(second)}")
    deviating = len(found) - (len(first) != len(second)) + abs(len(first) - len(second))
    return Agreement(len(first), deviating, found[0] if found else "", _largest(plain(first), plain(second)))


def plain(trials: Sequence[Trial]) -> list[Any]:
    """Return trials as they are after JSON."""
    found: list[Any] = json.loads(json.dumps([asdict(t) for t in trials]))
    return found


def difference(one: Any, two: Any, where: str = "") -> str:
    """Return where two plain values differ first, "" where they agree."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        rows = (difference(one[k], two[k], f"{where}.{k}") for k in one if k not in LEFT_OUT)
        return next(filter(None, rows), "")
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        rows = (difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(one, two, strict=True)))
        return next(filter(None, rows), "")
    if isinstance(one, float) and isinstance(two, float):
        return "" if math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE) else f"{where}: {one} {two}"
    return "" if one == two else f"{where}: {one!r:.100} {two!r:.100}"


def _largest(one: Any, two: Any) -> float | None:
    """Return the largest absolute difference of two numbers with a fraction that stand in the same place."""
    if isinstance(one, dict) and isinstance(two, dict):
        inner = [_largest(one[k], two[k]) for k in one.keys() & two.keys() if k not in LEFT_OUT]
    elif isinstance(one, list) and isinstance(two, list):
        inner = [_largest(a, b) for a, b in zip(one, two, strict=False)]
    else:
        return abs(one - two) if isinstance(one, float) and isinstance(two, float) else None
    return max((v for v in inner if v is not None), default=None)
