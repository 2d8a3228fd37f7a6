"""Comparison of two results of one unit: which values must be equal, which agree by tolerance, and what is a near tie.

Problems, conditions, seeds, answers, labels, attempts, tokens, errors and all text in the details are equal. Numbers with a
fraction, which sums of floating point stand behind, agree within the tolerance of the unit's own precision. Clocks, the
digest of trained weights, and what device and exact version computed, are left out.

Attempts, the first guess and the order of the guesses follow from the options' log-probabilities. Where these agree within the
tolerance and what follows does not, two options are a near tie. It is counted as one, not as a difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from experiments.contract import PhaseConfig, Trial, Unit
from experiments.domains import get_domain
from experiments.precision import Precision
from experiments.solving.choice import outcome


class Tolerance(NamedTuple):
    """How far two numbers may be apart: the larger of both bounds counts."""

    nats: float  # absolute
    share: float  # of the larger one


# By the precision of the unit's language model; docs/science.md, "Precision", has the measurements.
TOLERANCES: Mapping[Precision, Tolerance] = {
    # 24 bits; sums of 30 layers in another order moved a log-probability by at most 4e-5 (measured).
    Precision.FLOAT32: Tolerance(1e-3, 1e-3),
    # 8 bits; another processor's kernels moved a log-probability by at most 0.41 (measured); twice that.
    Precision.BFLOAT16: Tolerance(0.8, 0.02),
    # Not measured between processors: as bfloat16, since activations are rounded to 8 bits, or the engine is another's.
    Precision.INT8: Tolerance(0.8, 0.02),
    Precision.STORED: Tolerance(0.8, 0.02),
    # Weights are rounded once, the same everywhere, and multiplied in float32.
    Precision.FOUR_BIT: Tolerance(1e-3, 1e-3),
}
EXACT = Tolerance(0, 0)
SAME_NUMBERS = Tolerance(1e-9, 1e-9)  # of what is computed twice from the same numbers
FOLLOWING = ("attempts", "first_right", "solved", "answer")  # of a trial, from its log-probabilities
CLOCKS = frozenset({"latency_s"})
TRAINED = frozenset({"adapter"})  # the digest of floats, whose last bits are another thread count's
COMPUTED_BY = frozenset({"device", "version", "torch", "mlx"})  # of "engine": releases are in the id, devices agree
COUNTED = frozenset({"histogram"})  # of cosines, for a plot: a last bit moves one over the edge of a bin
LEFT_OUT = CLOCKS | TRAINED | COMPUTED_BY | COUNTED


class Outcome(StrEnum):
    """How far two trials of one unit agree."""

    EQUAL = "equal"
    WITHIN_TOLERANCE = "within tolerance"
    NEAR_TIE = "near tie"
    DIFFERENT = "different"


class Compared(NamedTuple):
    """The comparison of two trials."""

    outcome: Outcome
    where: str = ""  # the first place where they differ by more than the tolerance


@dataclass(frozen=True)
class Agreement:
    """Two results of one unit, side by side."""

    trials: int  # of the first
    deviating: int  # trials that differ; missing and surplus ones too
    ties: int  # trials that differ by near ties alone
    first: str  # where the first of those that deviate differs, "" when none does
    largest: float | None  # difference of two numbers that agree by tolerance or should; None when there are none
    tolerance: float  # nats


def precision_of(unit: Unit) -> Precision:
    """Return the precision behind a unit's numbers: of its language model, float32 without one and in older plans."""
    from experiments.backends.catalog import is_language_model

    if not any(map(is_language_model, unit.identity["models"])):
        return Precision.FLOAT32
    return Precision(unit.config.get("precision", Precision.FLOAT32))


def compare(first: Sequence[Trial], second: Sequence[Trial], unit: Unit) -> Agreement:
    """Compare the trials of two runs of one unit, one by one in the order in which the unit gave them."""
    tolerance = TOLERANCES[precision_of(unit)]
    each = compare_trials(first, second, unit)
    found = [f"trial {i}{one.where}" for i, one in enumerate(each) if one.outcome is Outcome.DIFFERENT]
    ties = sum(one.outcome is Outcome.NEAR_TIE for one in each)
    if len(first) != len(second):
        found.append(f"{len(first)} trials and {len(second)}")
    deviating = len(found) - (len(first) != len(second)) + abs(len(first) - len(second))
    largest = _largest(plain(first), plain(second))
    return Agreement(len(first), deviating, ties, found[0] if found else "", largest, tolerance.nats)


def compare_trials(first: Sequence[Trial], second: Sequence[Trial], unit: Unit) -> list[Compared]:
    """Compare the trials of two runs of one unit, one by one in the order in which the unit gave them.

    Args:
        first, second: trials of the unit; of a longer one, those that have no partner are left out.

    Returns:
        One outcome for each pair of trials.
    """
    tolerance, found = TOLERANCES[precision_of(unit)], []
    for a, b, one, two in zip(first, second, plain(first), plain(second), strict=False):
        if not difference(one, two, "", EXACT):
            found.append(Compared(Outcome.EQUAL))
        elif not (where := difference(one, two, "", tolerance)):
            found.append(Compared(Outcome.WITHIN_TOLERANCE))
        elif near_tie(a, b, unit, tolerance):
            found.append(Compared(Outcome.NEAR_TIE, where))
        else:
            found.append(Compared(Outcome.DIFFERENT, where))
    return found


def near_tie(one: Trial, two: Trial, unit: Unit, tolerance: Tolerance) -> bool:
    """Return True if two trials differ only in what follows from log-probabilities that agree within the tolerance."""
    if not {"domain", "temperature", "calibration"} <= unit.config.keys():
        return False  # a unit that guesses nothing
    if not all(_follows(t, unit) for t in (one, two)):
        return False
    # All else agrees once what follows from the first trial's numbers stands in both.
    same = replace(two, **{name: getattr(one, name) for name in FOLLOWING})
    same = replace(same, details={**two.details, "guesses": one.details["guesses"]})
    return not difference(plain([one]), plain([same]), "", tolerance)


def _follows(trial: Trial, unit: Unit) -> bool:
    """Return True if a trial's outcome is that of its log-probabilities."""
    domain, config = get_domain(unit.config["domain"]), PhaseConfig(temperature=unit.config["temperature"])
    known = [trial.details[name] for name in ("logprobs", "calibrated") if name in trial.details]
    if not known or trial.truth not in domain.options:
        return False
    if not all(isinstance(row, list) and len(row) == len(domain.options) for row in known):
        return False
    if not all(isinstance(p, float) for row in known for p in row):
        return False
    wanted = outcome(domain, trial.truth, trial.details, config)
    found = {name: getattr(trial, name) for name in FOLLOWING} | {"guesses": trial.details.get("guesses")}
    return not difference(wanted, found, "", SAME_NUMBERS)


def plain(trials: Sequence[Trial]) -> list[Any]:
    """Return trials as they are after JSON."""
    found: list[Any] = json.loads(json.dumps([asdict(t) for t in trials]))
    return found


def difference(one: Any, two: Any, where: str = "", tolerance: Tolerance = TOLERANCES[Precision.FLOAT32]) -> str:
    """Return where two plain values differ first, "" where they agree."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        rows = (difference(one[k], two[k], f"{where}.{k}", tolerance) for k in one if k not in LEFT_OUT)
        return next(filter(None, rows), "")
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        rows = (difference(a, b, f"{where}[{i}]", tolerance) for i, (a, b) in enumerate(zip(one, two, strict=True)))
        return next(filter(None, rows), "")
    if isinstance(one, float) and isinstance(two, float):
        close = math.isclose(one, two, rel_tol=tolerance.share, abs_tol=tolerance.nats)
        return "" if close else f"{where}: {one} {two}"
    return "" if one == two else f"{where}: {one!r:.100} {two!r:.100}"


def _largest(one: Any, two: Any) -> float | None:
    """Return the largest absolute difference of two numbers with a fraction that stand in the same place."""
    if isinstance(one, dict) and isinstance(two, dict):
        shared = (one.keys() & two.keys()) - LEFT_OUT - frozenset(FOLLOWING)
        inner = [_largest(one[k], two[k]) for k in shared]
    elif isinstance(one, list) and isinstance(two, list):
        inner = [_largest(a, b) for a, b in zip(one, two, strict=False)]
    else:
        return abs(one - two) if isinstance(one, float) and isinstance(two, float) else None
    return max((v for v in inner if v is not None), default=None)
