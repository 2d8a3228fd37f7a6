"""Attempts of an answer by choice: the exact expectation over all orders of guessing, from the options' log-probabilities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.contract import Json, PhaseConfig, Trial
from experiments.data import universe
from experiments.domains import Domain, Problem
from experiments.seeds import generator

CONTENT_FREE = "N/A"  # in place of a problem's text (Zhao et al. 2021, arXiv:2102.09690)


class Attempts(NamedTuple):
    """What guessing without repeating a wrong option costs."""

    expected: float  # guesses until the right one
    first_right: float  # probability that the first is right


def attempts_of(logprobs: Sequence[float], right: int, temperature: float) -> Attempts:
    """Return the exact expectation where options are drawn without replacement from softmax(l / T).

    A wrong option j comes before the right one with probability p_j / (p_j + p_right), whatever the others are
    (Luce 1959), and each that does costs a guess: E = 1 + sum over j of p_j / (p_j + p_right).
    """
    from scipy.special import expit, log_softmax  # here: who only assesses a host imports this module too

    scores = np.asarray(logprobs, dtype=np.float64) / temperature
    before = expit(np.delete(scores, right) - scores[right])
    return Attempts(1.0 + float(before.sum()), float(np.exp(log_softmax(scores)[right])))


def attempts_of_vote(votes: Sequence[str], options: Sequence[str], right: str) -> Attempts:
    """Return the exact expectation where options are guessed in the order of their votes, equal ones in random order.

    An option with more votes than the right one comes before it, one with as many does so half of the time. That is kNN's
    rule of the majority (Cover and Hart 1967) for all guesses instead of the first.
    """
    counts = {option: votes.count(option) for option in options}
    more = sum(n > counts[right] for n in counts.values())
    equal = sum(n == counts[right] for n in counts.values())
    return Attempts(1.0 + more + (equal - 1) / 2, 0.0 if more else 1 / equal)


def ranked(logprobs: Sequence[float]) -> list[int]:
    """Return indices of the options, the most probable first; equal ones keep their order."""
    return [int(i) for i in np.argsort(-np.asarray(logprobs), kind="stable")]


def outcome(domain: Domain, label: str, details: Json, config: PhaseConfig) -> Json:
    """Return attempts, first_right, solved, answer and guesses of a trial from the log-probabilities in its details.

    It is solved if the right option is among the most probable ones that the domain allows as guesses.
    """
    logprobs: Sequence[float] = details["calibrated" if "calibrated" in details else "logprobs"]
    right, order = domain.options.index(label), ranked(logprobs)
    found = attempts_of(logprobs, right, config.temperature)
    return {
        "attempts": found.expected,
        "first_right": found.first_right,
        "solved": order.index(right) < domain.max_attempts,
        "answer": domain.options[order[0]],
        "guesses": [domain.options[i] for i in order],
    }


def with_outcome(trial: Trial, domain: Domain, label: str, details: Json, config: PhaseConfig) -> Trial:
    """Return the trial with these details and what follows from their log-probabilities."""
    found = outcome(domain, label, details, config)
    return replace(
        trial, **{k: v for k, v in found.items() if k != "guesses"}, details={**details, "guesses": found["guesses"]}
    )


def without_bias(logprobs: Sequence[float], bias: Sequence[float]) -> list[float]:
    """Return log-probabilities less those that the prompt alone gives (contextual calibration, Zhao et al. 2021)."""
    return [a - b for a, b in zip(logprobs, bias, strict=True)]


def calibrate_batch(trials: Sequence[Trial], domain: Domain, config: PhaseConfig) -> list[Trial]:
    """Return trials of a unit, calibrated within each condition; as they are unless `calibration` is batch.

    The bias of an option is the logarithm of its mean probability over the batch (Zhou et al. 2023, arXiv:2309.17249).
    """
    if config.calibration != "batch":
        return list(trials)
    from scipy.special import log_softmax

    batches: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for t in trials:
        if "logprobs" in t.details:
            batches[t.condition].append(log_softmax(np.asarray(t.details["logprobs"])))
    bias = {c: np.log(np.exp(rows).mean(axis=0)) for c, rows in batches.items()}
    found = []
    for t in trials:
        if "logprobs" not in t.details:
            found.append(t)
            continue
        details = {**t.details, "calibrated": without_bias(t.details["logprobs"], bias[t.condition].tolist())}
        found.append(with_outcome(t, domain, str(t.truth), details, config))
    return found


def option_order(config: PhaseConfig, domain: Domain, problem: Problem) -> tuple[str, ...]:
    """Return the options in the order in which this problem's prompt lists them; none where answers are guessed.

    Successive problems of a class take the rows of Latin squares (Fisher 1925), each with rows and symbols drawn anew:
    among as many problems as there are options each option stands once at each place. With `option_order` listed or reversed
    all prompts have one order.
    """
    if domain.answers == "guessing":
        return ()
    if config.option_order != "balanced":
        return tuple(domain.options) if config.option_order == "listed" else tuple(reversed(domain.options))
    n = len(domain.options)
    block, row = divmod(universe(config).places.get(problem.problem_id, 0), n)
    rng = generator(config.data_seed, "options", problem.label, block)
    symbols, columns = rng.permutation(n), rng.permutation(n)
    return tuple(domain.options[symbols[(row + c) % n]] for c in columns)
