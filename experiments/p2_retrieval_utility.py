"""P2 - does a memory of solved problems help the solver at all?

    lab run p2 --scale demo
    p2  FAIL  adjusted_p 0.21 (needs < 0.05)   semantic - none: -0.25 attempts (-0.67 to 0.17), n 12

The same test problems are solved with no memory, with five random memos, the five most recent, and the five most
similar. Every retrieval is compared with none, problem by problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from experiments import p1_embedding_validity as p1
from experiments.analysis import attempts
from experiments.analysis.resampling import resampling_of
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Unavailable
from experiments.contract import Metric, Metrics, NextStep, PhaseConfig, Result, Sides, Status, Trial, Unit, Verdict
from experiments.data import parts, split, universe
from experiments.domains import Problem, get_domain
from experiments.expected import Expected, solving
from experiments.findings import Earlier, PhaseFindings
from experiments.protocol import next_steps
from experiments.protocol.identity import make_unit
from experiments.seeds import generator
from experiments.solving.memory_bank import NOTHING, Bank, Found
from experiments.solving.replies import failed
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo, effort, most_attempts, solve

NAME = "p2"
TITLE = "Retrieval utility"
QUESTION = "Does a memory of solved problems help the solver at all?"
BLOCKING = True
PROFILE = "prerequisites"
NEEDS = ("embedder", "language_model")
# Analyses of the protocol (docs/science.md, P2); what is measured beyond them is marked exploratory.
PLANNED = """
    adjusted_p mean_difference attempts_mean accuracy p bonferroni_p cliffs_delta rank_biserial ceiling_share
    floor_share smallest_effect
""".split()
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"n_problems": 96, "n_memory": 12, "n_test": 4, "k": 2, "per_unit": 2, "max_guesses": 3},
    "demo": {"n_problems": 360, "n_memory": 30, "n_test": 12, "per_unit": 4, "max_guesses": 6},
    "full": {},
}
CONDITIONS = ("none", "random", "recent", "semantic")


class Config(PhaseConfig):
    """P2's protocol."""

    n_memory: int = Field(100, gt=0, description="solved problems in memory, with their right answers")
    n_test: int = Field(30, gt=1, description="problems to solve")
    k: int = Field(5, gt=0, description="memos shown")
    per_unit: int = Field(5, gt=0, description="test problems a unit")
    alpha: float = Field(0.05, description="the gate's level, after Holm")


class Findings(PhaseFindings, phase=NAME, what="condition that helps"):
    """The condition that needs fewer attempts than no memory."""

    retrieval_helps: str


READS = (p1.Findings,)
EXPECTED = None


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """One unit for every few test problems, each under all four conditions."""
    if so_far:
        return []
    _, test = split(config, config.n_memory, config.n_test)
    best = findings.of(p1.Findings)
    retrieval = RetrievalConfig(embedder=best.embedder, text_weight=best.text_weight, k=config.k).model_dump()
    return [
        make_unit(
            NAME,
            config,
            {"problems": ids, "retrieval": retrieval},
            models=[config.model, best.embedder],
            n_trials=len(ids) * len(CONDITIONS) * len(config.run_seeds),
            cost=5.5 * len(ids) * effort(config),
        )
        for ids in parts(test, config.per_unit)
    ]


def sides(config: Config, findings: Earlier) -> Sides:
    """Memory and test."""
    return Sides(*split(config, config.n_memory, config.n_test))


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Solve each problem under each condition; one forward pass serves all seeds."""
    config, domain = Config(**unit.config), get_domain(unit.config["domain"])
    retrieval = RetrievalConfig(**unit.spec["retrieval"])
    memory, _ = split(config, config.n_memory, config.n_test)
    memos = [Memo(p, p.label, i) for i, p in enumerate(memory)]
    problems = [universe(config).by_id()[i] for i in unit.spec["problems"]]
    try:
        lm = backends.language_model(config.model, precision=config.precision)
        bank = Bank(domain, memos, backends.embedder(retrieval.embedder), retrieval)
    except Unavailable as error:
        return [t for p in problems for c in CONDITIONS for t in failed(p, c, config.run_seeds, error)]
    trials: list[Trial] = []
    for problem in problems:
        for condition in CONDITIONS:
            found = _ask(bank, condition, problem, config)
            trials += solve(lm, domain, problem, found.memos, config, NAME, condition, found.facts)
    return trials


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: one a problem, condition and seed."""
    config = Config(**unit.config)
    return solving(config, unit.spec["problems"], CONDITIONS, config.run_seeds)


def _ask(bank: Bank, condition: str, problem: Problem, config: Config) -> Found:
    if condition == "none":
        return NOTHING
    if condition == "random":
        return bank.random(generator(config.data_seed, NAME, problem.problem_id, condition), problem)
    return bank.recent(problem) if condition == "recent" else bank.semantic(problem)


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Attempts and accuracies of each condition, each retrieval against none, and the smallest visible effect."""
    table, by = attempts.median_attempts(trials, CONDITIONS), resampling_of(trials, config)
    pairs = [(c, "none") for c in CONDITIONS[1:]]
    most = most_attempts(get_domain(config.domain), config)
    values = [
        *attempts.per_condition(trials, table, by),
        *attempts.ends(table, most),
        *attempts.comparisons(table, pairs, by=by),
        attempts.smallest_visible(attempts.fewest_pairs(table, pairs)),
    ]
    errors = attempts.errors_of(trials)
    return Metrics(tuple(values), {"flags": attempts.ceiling_and_floor(table, most), "errors": errors[:3]})


def gate(metrics: Metrics, config: Config) -> Verdict:
    """PASS when some retrieval needs fewer attempts than none with adjusted p < 0.05; FAIL when none does, all measured."""
    names = [f"{c} - none" for c in CONDITIONS[1:]]
    found = [(metrics.find("adjusted_p", name), metrics.find("mean_difference", name)) for name in names]
    known = [(p, d) for p, d in found if p and d and p.value is not None and d.value is not None]
    errors: list[str] = metrics.facts["errors"]
    failures, install = attempts.failures_in_words(errors), next_steps.install(errors, next_steps.WEAK)
    if not known:
        nothing = Metric("adjusted_p", None, method="no problem has a result with and without a memory")
        why = f"Too few results to compare.{failures}"
        return Verdict(Status.INCONCLUSIVE, why, None, nothing, config.alpha, (install,))
    # The best first: fewer attempts than none, then the smallest p.
    p, difference = min(known, key=lambda f: (f[1].value >= 0, f[0].value))  # type: ignore[operator]
    assert p.value is not None and difference.value is not None  # noqa: S101
    text = (
        f"{p.condition}: {difference.value:+.2f} attempts, adjusted p {p.value:.3g} (needs < {config.alpha}), "
        f"n {difference.n}"
    )
    if difference.value < 0 and p.value < config.alpha:
        return Verdict(Status.PASS, f"{text}.", Findings(retrieval_helps=p.condition.split(" - ")[0]), p, config.alpha)
    nearest = f"Nearest: {text}.{attempts.ends_in_words(metrics.facts['flags'])}"
    steps = _next(metrics, difference, config)
    missing = [name for name in names if name not in {d.condition for _, d in known}]
    if not missing:
        return Verdict(Status.FAIL, f"No retrieval needs fewer attempts. {nearest}", None, p, config.alpha, steps)
    # What was not measured may be the one that helps.
    reason = (
        f"{', '.join(missing)} could not be compared, and no other retrieval needs fewer attempts. {nearest}{failures}"
    )
    return Verdict(Status.INCONCLUSIVE, reason, None, p, config.alpha, (install, *steps))


def _next(metrics: Metrics, difference: Metric, config: Config) -> tuple[NextStep, ...]:
    """The failure protocol: more problems, as many as the seen effect asks for; other problems; another embedder."""
    steps: tuple[NextStep, ...] = ()
    if (difference.value or 0) < 0:
        steps = next_steps.more_problems(NAME, config, difference, config.n_memory)
    steps = steps or next_steps.doubled(NAME, config, "n_test", "more problems see smaller effects", config.n_memory)
    for end, other in (("ceiling", next_steps.harder), ("floor", next_steps.easier)):
        if names := metrics.facts["flags"][end]:
            steps += other(NAME, config, f"{', '.join(names)} at the {end}")
    # The embedder is what P1 found the best of its own, so the choice is P1's.
    steps += next_steps.other_embedders("p1", next_steps.EMBEDDERS[:1])
    if config.k > 1:
        fewer = {"k": max(1, config.k - 2)}
        steps += (next_steps.command(NAME, fewer, "fewer memos distract a small model less"),)
    return steps
