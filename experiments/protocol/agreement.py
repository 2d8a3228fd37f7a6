"""Comparison of two results of one unit: which values must be equal, which agree by tolerance, and what is a near tie.

Problems, conditions, seeds, answers, labels, attempts, tokens, errors and all text in the details are equal. Numbers with a
fraction, which sums of floating point stand behind, agree within the tolerance of the unit's own precision. Clocks, the
digest of trained weights, and what device and exact version computed, are left out.

A seed guesses options in the order of their log-probabilities with noise. Two options may be closer than the tolerance there:
then their order, and with it the attempts, are a near tie. It is counted as one, not as a difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import combinations
from typing import Any, NamedTuple

from experiments.contract import Trial, Unit
from experiments.domains import get_domain
from experiments.precision import Precision
from experiments.seeds import generator


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
CLOCKS = frozenset({"latency_s"})
TRAINED = frozenset({"adapter"})  # the digest of floats, whose last bits are another thread count's
COMPUTED_BY = frozenset({"device", "version", "torch", "mlx"})  # of "engine": releases are in the id, devices agree
LEFT_OUT = CLOCKS | TRAINED | COMPUTED_BY


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
    """Return True if two trials differ only in the order of options that are closer than the tolerance, noise included."""
    if not {"domain", "temperature"} <= unit.config.keys():
        return False  # a unit that guesses nothing
    domain, temperature = get_domain(unit.config["domain"]), float(unit.config["temperature"])
    options, orders = list(domain.options), [list(t.details.get("guesses", [])) for t in (one, two)]
    if one.seed is None or not all(_follows(t, options, domain.max_attempts) for t in (one, two)):
        return False
    # All else agrees once the first trial's order stands in both.
    same = replace(two, attempts=one.attempts, solved=one.solved, answer=one.answer)
    same = replace(same, details={**two.details, "guesses": orders[0]})
    if difference(plain([one]), plain([same]), "", tolerance):
        return False
    # The noise of this trial, drawn as experiments.solving.solving draws it.
    noise = generator(one.seed, unit.phase, one.problem_id, one.condition).gumbel(size=len(options))
    logprobs = one.details["logprobs"]
    width = 2 * max(tolerance.nats, tolerance.share * max(map(abs, logprobs))) / temperature
    ranked = dict(zip(options, (p / temperature + n for p, n in zip(logprobs, noise, strict=True)), strict=True))
    turned = [
        (a, b) for a, b in combinations(options, 2) if len({order.index(a) < order.index(b) for order in orders}) > 1
    ]
    return all(abs(ranked[a] - ranked[b]) <= width for a, b in turned)


def _follows(trial: Trial, options: Sequence[str], most: int) -> bool:
    """Return True if a trial ranked all options by log-probabilities, and its values are those of its order."""
    order, logprobs = list(trial.details.get("guesses", [])), trial.details.get("logprobs", [])
    if len(logprobs) != len(options) or not all(isinstance(p, float) for p in logprobs):
        return False
    if sorted(map(str, order)) != sorted(options) or trial.truth not in order:
        return False
    attempts = order.index(trial.truth) + 1
    return (trial.attempts, trial.solved, trial.answer) == (attempts, attempts <= most, order[0])


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
        inner = [_largest(one[k], two[k]) for k in one.keys() & two.keys() if k not in LEFT_OUT]
    elif isinstance(one, list) and isinstance(two, list):
        inner = [_largest(a, b) for a, b in zip(one, two, strict=False)]
    else:
        return abs(one - two) if isinstance(one, float) and isinstance(two, float) else None
    return max((v for v in inner if v is not None), default=None)
