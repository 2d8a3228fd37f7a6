"""How often are verdicts wrong on made-up trials whose truth is known?

    python -m benchmarks.simulated_verdicts --simulations 1000 --seed 17

    {
      "benchmark": "simulated_verdicts",
      "ratio": 0.71,
      "needed": null,
      "seconds": {"processor": 69.095},
      "counts": {"simulations": 100, "cases": 72, "opposite": 0},
      "compared": "the level of 0.05 against the largest share of wrong verdicts, in e2: chance, icc 0.1",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 5.0, "torch": "2.13.0+cpu"},
      "wrong": {"p2: no effect, icc 0.5": 0.01, "e1: no effect, icc 0.1": 0.02, "e1: no effect, icc 0.3": 0.01,
        "e1: ceiling, icc 0": 0.02, "e1: ceiling, icc 0.5": 0.01, "e1: chance, icc 0": 0.02, "e1: chance, icc 0.1":
        0.02, "e1: chance, icc 0.3": 0.02, "e1: chance, icc 0.5": 0.02, "e2: no effect, icc 0": 0.04,
        "e2: no effect, icc 0.1": 0.04, "e2: no effect, icc 0.3": 0.03, "e2: no effect, icc 0.5": 0.06,
        "e2: floor, icc 0.5": 0.01, "e2: chance, icc 0": 0.06, "e2: chance, icc 0.1": 0.07, "e2: chance, icc 0.3":
        0.04, "e2: chance, icc 0.5": 0.05, "e2, stabilization: no effect, icc 0.1": 0.04},
      "opposite": [],
      "found_without_a_difference": {"6 families, icc 0, by problem": 0.0485, "6 families, icc 0, by group": 0.029,
        "6 families, icc 0.1, by problem": 0.097, "6 families, icc 0.1, by group": 0.0325,
        "6 families, icc 0.3, by problem": 0.1825, "6 families, icc 0.3, by group": 0.035,
        "6 families, icc 0.5, by problem": 0.2455, "6 families, icc 0.5, by group": 0.029,
        "10 families, icc 0, by problem": 0.043, "10 families, icc 0, by group": 0.044,
        "10 families, icc 0.1, by problem": 0.0725, "10 families, icc 0.1, by group": 0.0465,
        "10 families, icc 0.3, by problem": 0.1095, "10 families, icc 0.3, by group": 0.045,
        "10 families, icc 0.5, by problem": 0.1655, "10 families, icc 0.5, by group": 0.0465},
      "power": {"p2, 30 problems": 0.802, "e1, 150 problems": 0.8005, "e2, 150 problems": 0.801},
      "outcomes": {"p2: effect for, icc 0.5": {"PASS": 47, "FAIL": 53}, "e1: effect against, icc 0.3": {"correction":
        98, "INCONCLUSIVE": 2}, "e2: no effect, icc 0.5": {"INCONCLUSIVE": 88, "FAIL": 6, "PASS": 6},
        "e2, stabilization: effect against, icc 0.3": {"FAIL": 89, "INCONCLUSIVE": 11}}
    }

The example is of 100 simulations, with four of the 72 outcomes; a share of 0.05 comes out as up to 0.11 there.

Trials of P2, E1 and E2 are drawn from distributions of attempts that are known, and go through the phases' own metrics and
gates. Problems of a family share a part of their attempts under a condition (ICC: 0, 0.1, 0.3, 0.5). The ratio is the
level of 0.05 over the largest share of verdicts that were wrong in any case; verdicts for the opposite of the truth are
counted apart. E2 goes by retrieval precision, a linear function of the attempts drawn; "e2, stabilization" is its second outcome,
by attempts. Numbers that only describe are left out: no gate of these phases reads an accuracy or a bootstrap interval.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import show
from benchmarks.simulated_tests import LEVEL, power_of, type_one, type_one_at_any_look
from experiments import e1_retrieval_strategies as e1
from experiments import e2_finetuned_retrieval as e2
from experiments import p2_retrieval_utility as p2
from experiments import statistics
from experiments.analysis.e2_analysis import STATUSES
from experiments.contract import Metric, PhaseConfig, Status, Trial, Verdict

ICCS = (0.0, 0.1, 0.3, 0.5)
Shares = tuple[float, ...]  # of problems that take 1, 2, ... 6 attempts
USUAL: Shares = (0.30, 0.25, 0.20, 0.12, 0.08, 0.05)  # mean 2.58, better than chance (3.5)
BETTER: Shares = (0.70, 0.20, 0.10, 0.0, 0.0, 0.0)  # mean 1.40
WORSE: Shares = (0.05, 0.10, 0.15, 0.25, 0.25, 0.20)  # mean 4.15, with a smaller coefficient of variation
CHANCE: Shares = (1 / 6,) * 6
CEILING: Shares = (0.96, 0.04, 0.0, 0.0, 0.0, 0.0)
FLOOR: Shares = (0.0, 0.0, 0.0, 0.0, 0.04, 0.96)
STEADY: Shares = (0.15, 0.55, 0.30, 0.0, 0.0, 0.0)  # mean 2.15, half of the variation


class Truth(NamedTuple):
    """What attempts are drawn from: of the condition that is asked about, and of all others."""

    asked: Shares
    others: Shares


TRUTHS = {
    "no effect": Truth(USUAL, USUAL),
    "effect for": Truth(BETTER, USUAL),
    "effect against": Truth(WORSE, USUAL),
    "ceiling": Truth(CEILING, CEILING),
    "floor": Truth(FLOOR, FLOOR),
    "chance": Truth(CHANCE, CHANCE),
}
# Nothing is solved but what stands in the memory: semantic memos carry the right label, and the model copies it.
COPIED = {"copied labels": Truth(BETTER, CHANCE)}
# No effect, above chance, and a standard deviation just under a chance solver's: 1.69 of 1.71 attempts.
WIDE: Shares = (0.40, 0.20, 0.13, 0.10, 0.07, 0.10)
FLAT = ("ceiling", "floor")  # whose attempts hardly vary, with or without families
STEADIER = {"no effect": TRUTHS["no effect"], "effect for": Truth(STEADY, USUAL), "effect against": Truth(WORSE, USUAL)}


@dataclass(frozen=True)
class Gate:
    """A phase's gate, the conditions that it compares, and which of its outcomes are wrong under which truth.

    An outcome is the verdict's status; of a PASS what it found: in P2 the retriever, in E1 the hypothesis. `wrong` lists
    those that are not true, `opposite` those that say the opposite of it.
    """

    conditions: Sequence[str]
    asked: Sequence[str]
    problems: int
    families: int
    truths: Mapping[str, Truth]
    verdict: Callable[[Sequence[Trial]], Verdict]
    wrong: Mapping[str, Sequence[str]]
    opposite: Mapping[str, Sequence[str]]


def _judged(module: object, config: PhaseConfig) -> Callable[[Sequence[Trial]], Verdict]:
    return lambda trials: module.gate(module.metrics(trials, config), config)  # type: ignore[attr-defined]


def _looking(module: object, config: PhaseConfig, every: int) -> Callable[[Sequence[Trial]], Verdict]:
    """Return a gate that is asked after each `every` families, and answers at the first PASS or FAIL."""
    judged = _judged(module, config)

    def verdict(trials: Sequence[Trial]) -> Verdict:
        families = list(dict.fromkeys(t.details["group"] for t in trials))
        for n in range(every, len(families) + 1, every):
            there = set(families[:n])
            found = judged([t for t in trials if t.details["group"] in there])
            if found.status is not Status.INCONCLUSIVE:
                break
        return found

    return verdict


def _of_e2(hypothesis: str, by_attempts: bool = False) -> Callable[[Sequence[Trial]], Verdict]:
    """Return E2's gate, which goes by retrieval precision, or with its second outcome in the verdict's place."""
    judged = _judged(e2, e2.Config())
    fixed = {"hypothesis": hypothesis, "examples": 4, "held": 1, "best_epoch": 1, "adapter_bytes": 9}
    training = [
        Trial("training", f"train_{n}", tokens_in=9, latency_s=9.0, details={**fixed, "validation_loss": []})
        for n in ("s", "r")
    ]

    def verdict(trials: Sequence[Trial]) -> Verdict:
        found = judged([*training, *trials])
        second = found.findings.attempts_verdict if isinstance(found.findings, e2.Findings) else "inconclusive"
        return replace(found, status=STATUSES[second]) if by_attempts else found

    return verdict


NO_PASS = dict.fromkeys(("no effect", "effect against", "ceiling", "floor", "chance"), ("PASS",))
LEADS = ("amplification", "correction")
GATES = {
    "p2": Gate(
        p2.CONDITIONS,
        ("semantic",),
        30,
        10,
        TRUTHS,
        _judged(p2, p2.Config(controls=())),
        dict.fromkeys(NO_PASS, p2.RETRIEVERS),
        {"effect against": ("semantic",)},
    ),
    # Lexical retrieval has the effect, semantic none: each has comparisons of its own, and the gate takes either.
    "p2, lexical": Gate(
        (*p2.CONDITIONS, "lexical"),
        ("lexical",),
        60,  # of ten families one of six comparisons is shown in 17 of 40 studies only
        12,
        TRUTHS,
        _judged(p2, p2.Config(controls=("lexical",))),
        {**dict.fromkeys(NO_PASS, p2.RETRIEVERS), "effect for": ("semantic",)},
        {"effect against": ("lexical",)},
    ),
    # Looked at six times, up to 96 problems of 48 families.
    "p2, looks": Gate(
        p2.CONDITIONS,
        ("semantic",),
        96,
        48,
        TRUTHS,
        _looking(p2, p2.Config(controls=(), n_test=96, look_every=16), 8),
        {**dict.fromkeys(NO_PASS, p2.RETRIEVERS), "effect for": ("FAIL",)},
        {"effect for": ("FAIL",), "effect against": ("semantic",)},
    ),
    "e1": Gate(
        e1.CONDITIONS,
        ("semantic",),
        60,
        12,
        {**TRUTHS, **COPIED, "wide": Truth(WIDE, WIDE)},
        _judged(e1, e1.Config(n_problems=24, n_memory=6, n_test=6)),
        {
            "no effect": (*LEADS, "stabilization"),
            "effect for": ("correction", "awakening", "stabilization"),
            "effect against": ("amplification", "awakening", "stabilization"),
            "ceiling": (*LEADS, "awakening", "stabilization"),
            "floor": (*LEADS, "awakening", "stabilization"),
            "chance": (*LEADS, "awakening", "stabilization"),
            "copied labels": (*LEADS, "awakening", "stabilization"),
            "wide": (*LEADS, "stabilization"),
        },
        {"effect for": ("correction",), "effect against": ("amplification",)},
    ),
    "e2": Gate(
        ("base_query", "tuned_s", "tuned_r"),
        ("tuned_s", "tuned_r"),
        60,
        12,
        TRUTHS,
        _of_e2("weak_signal"),
        {**NO_PASS, "effect for": ("FAIL",)},
        {"effect for": ("FAIL",), "effect against": ("PASS",)},
    ),
    "e2, stabilization": Gate(
        ("base_query", "tuned_s", "tuned_r"),
        ("tuned_s", "tuned_r"),
        60,
        12,
        STEADIER,
        _of_e2("stabilization", by_attempts=True),
        {"no effect": ("PASS", "FAIL"), "effect for": ("FAIL",), "effect against": ("PASS",)},
        {"effect for": ("FAIL",), "effect against": ("PASS",)},
    ),
}


def attempts_of(shares: Shares, latent: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the attempts whose distribution is `shares`, from standard normal numbers (a Gaussian copula)."""
    from scipy.special import ndtr

    return 1 + np.searchsorted(np.cumsum(shares)[:-1], ndtr(latent), side="right")


def trials_of(gate: Gate, truth: Truth, icc: float, rng: np.random.Generator) -> list[Trial]:
    """Draw one trial a problem and condition.

    A third of the variance is the problem's own, alike under all conditions. Of the rest the share `icc` is the family's
    under that condition, so that differences of a family's problems correlate by `icc`.
    """
    own = rng.normal(size=gate.problems)
    family = np.arange(gate.problems) % gate.families
    trials = []
    for condition in gate.conditions:
        shared, single = rng.normal(size=gate.families)[family], rng.normal(size=gate.problems)
        rest = np.sqrt(icc) * shared + np.sqrt(1 - icc) * single
        shares = truth.asked if condition in gate.asked else truth.others
        numbers = attempts_of(shares, np.sqrt(1 / 3) * own + np.sqrt(2 / 3) * rest)
        trials += [
            Trial(
                f"q{i}",
                condition,
                100,
                int(n),
                bool(n <= 3),
                "O(1)",
                "O(n)",
                latency_s=0.5,
                details={
                    "group": f"f{family[i]}",
                    "relevance": 0.1 * (i % 7),
                    "hypothesis_quality": 0.5,
                    # One attempt fewer is one memo of five more of the right class: E2's precision has the same truths.
                    "query": "a loop",
                    "type_match": (6 - int(n)) / 5,
                },
            )
            for i, n in enumerate(numbers)
        ]
    return trials


def outcomes(gate: Gate, truth: str, icc: float, simulations: int, seed: int) -> Counter[str]:
    """Count the outcomes of a gate over simulations."""
    rng = np.random.default_rng([seed, list(gate.truths).index(truth), round(100 * icc), gate.families])
    found: Counter[str] = Counter()
    for _ in range(simulations):
        found[_outcome(gate.verdict(trials_of(gate, gate.truths[truth], icc, rng)))] += 1
    return found


def _outcome(verdict: Verdict) -> str:
    if verdict.status is Status.PASS and isinstance(verdict.findings, p2.Findings):
        return verdict.findings.retrieval_helps
    if verdict.status is Status.PASS and isinstance(verdict.findings, e1.Findings):
        return verdict.findings.hypothesis
    return verdict.status.value


# What describes and decides nothing in these gates is left out, for it takes most of the time.
DESCRIBING: Mapping[str, object] = {
    "experiments.statistics.RESAMPLES": 2,
    "experiments.analysis.attempts.per_condition": lambda *_: [],
    "experiments.analysis.attempts._first_guesses": lambda name, *_: Metric("mcnemar_p", None, condition=name),
    "experiments.analysis.ends.Resampling.share": lambda *_: statistics.Interval(None, None, None, 0, "left out"),
    "experiments.analysis.e1_analysis.by_class": lambda *_: [],
    "experiments.analysis.e1_analysis.relevance": lambda *_: [],
    "experiments.analysis.e1_analysis.tokens": lambda *_: [],
    "experiments.analysis.e1_analysis.split": lambda *_: ([], []),
    "experiments.analysis.e2_analysis._described": lambda *_: [],
}


class Case(NamedTuple):
    """The outcomes of one gate under one truth."""

    name: str
    outcomes: Mapping[str, int]
    wrong: float  # share
    opposite: float


def outcomes_of(name: str, truth: str, icc: float, simulations: int, seed: int) -> Case:
    """Simulate one gate under one truth and ICC."""
    gate = GATES[name]
    with ExitStack() as stack:
        for target, plain in DESCRIBING.items():
            stack.enter_context(patch(target, plain))
        seen = outcomes(gate, truth, icc, simulations, seed)
    wrong, opposite = (sum(seen[o] for o in of.get(truth, ())) / simulations for of in (gate.wrong, gate.opposite))
    return Case(f"{name}: {truth}, icc {icc:g}", seen, wrong, opposite)


def cases(simulations: int, seed: int) -> Iterator[Case]:
    """Simulate all gates under each truth and ICC."""
    for name, gate in GATES.items():
        for truth in gate.truths:
            for icc in (0.0, 0.5) if truth in FLAT else ICCS:
                yield outcomes_of(name, truth, icc, simulations, seed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000, help="of each gate, truth and ICC")
    parser.add_argument("--seed", type=int, default=17)
    given = parser.parse_args(arguments)
    started = time.process_time()
    found = []
    for case in cases(given.simulations, given.seed):
        print(case.name, dict(case.outcomes), file=sys.stderr, flush=True)
        found.append(case)
    worst = max(found, key=lambda c: c.wrong)
    show(
        "simulated_verdicts",
        LEVEL / max(worst.wrong, 1 / given.simulations),
        None,
        {"processor": time.process_time() - started},
        {"simulations": given.simulations, "cases": len(found), "opposite": sum(c.opposite > 0 for c in found)},
        f"the level of {LEVEL} against the largest share of wrong verdicts, in {worst.name}",
        wrong={c.name: c.wrong for c in found if c.wrong},
        opposite=[c.name for c in found if c.opposite],
        found_without_a_difference={
            f"{families} families, icc {icc:g}, {'by group' if by_group else 'by problem'}": type_one(
                by_group, icc, families, 2000, given.seed
            )
            for families in (6, 10)
            for icc in ICCS
            for by_group in (False, True)
        },
        found_at_any_look={
            f"icc {icc:g}": type_one_at_any_look(icc, given.simulations, given.seed)._asdict() for icc in ICCS
        },
        power={
            name: power_of(level, n, 2000, given.seed)
            for name, level, n in (
                ("p2, 30 problems", p2.level_of(p2.Config()), 30),
                ("e1, 150 problems", e1.level_of(e1.Config()), 150),
                ("e2, 150 problems", e2.level_of(e2.Config()), 150),
            )
        },
        outcomes={c.name: c.outcomes for c in found},
    )


if __name__ == "__main__":
    main()
