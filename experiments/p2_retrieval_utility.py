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

from experiments import attempts, statistics
from experiments.backends.base import Backends, Unavailable
from experiments.contract import Json, Metric, Metrics, PhaseConfig, Sides, Status, Trial, Unit, Verdict
from experiments.data import split, universe
from experiments.domains import Problem, get_domain
from experiments.identity import make_unit
from experiments.memory_bank import Bank, Found
from experiments.retrieval import RetrievalConfig
from experiments.seeds import generator
from experiments.solving import Memo, effort, failed, most_attempts, solve

NAME = "p2"
TITLE = "Retrieval utility"
QUESTION = "Does a memory of solved problems help the solver at all?"
BLOCKING = True
PROFILE = "prerequisites"
NEEDS = ("embedder", "language_model")
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


def units(config: Config, carried: Json, so_far: Sequence[tuple[Unit, Sequence[Trial]]]) -> list[Unit]:
    """One unit for every few test problems, each under all four conditions."""
    if so_far:
        return []
    _, test = split(config, config.n_memory, config.n_test)
    retrieval = RetrievalConfig(
        embedder=carried["embedder"], text_weight=carried["text_weight"], k=config.k
    ).model_dump()
    return [
        make_unit(
            NAME, config, {"problems": [p.problem_id for p in part], "retrieval": retrieval},
            models=[config.model, carried["embedder"]], n_trials=len(part) * len(CONDITIONS) * len(config.run_seeds),
            cost=5.5 * len(part) * effort(config),
        )
        for part in (test[i : i + config.per_unit] for i in range(0, len(test), config.per_unit))
    ]  # fmt: skip


def sides(config: Config, carried: Json) -> Sides:
    """Memory and test."""
    return split(config, config.n_memory, config.n_test)


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Solve each problem under each condition; one forward pass serves all seeds."""
    config, domain = Config(**unit.config), get_domain(unit.config["domain"])
    retrieval = RetrievalConfig(**unit.spec["retrieval"])
    memory, _ = split(config, config.n_memory, config.n_test)
    memos = [Memo(p, p.label, i) for i, p in enumerate(memory)]
    problems = [universe(config).by_id()[i] for i in unit.spec["problems"]]
    try:
        lm = backends.language_model(config.model)
        bank = Bank(domain, memos, backends.embedder(retrieval.embedder), retrieval)
    except Unavailable as error:
        return [t for p in problems for c in CONDITIONS for t in failed(p, c, config.run_seeds, error)]
    trials: list[Trial] = []
    for problem in problems:
        for condition in CONDITIONS:
            found, extra = _ask(bank, condition, problem, config)
            trials += solve(lm, domain, problem, found, config, NAME, condition, extra)
    return trials


def _ask(bank: Bank, condition: str, problem: Problem, config: Config) -> Found:
    if condition == "none":
        return [], {}
    if condition == "random":
        return bank.random(generator(config.data_seed, NAME, problem.problem_id, condition), problem)
    return bank.recent(problem) if condition == "recent" else bank.semantic(problem)


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Attempts and accuracies of each condition, each retrieval against none, and the smallest visible effect."""
    table = attempts.median_attempts(trials, CONDITIONS)
    pairs = [(c, "none") for c in CONDITIONS[1:]]
    values = [*attempts.per_condition(trials, table), *attempts.comparisons(table, pairs)]
    values.append(attempts.smallest_visible(len(table["none"])))
    most = most_attempts(get_domain(config.domain), config)
    return Metrics(tuple(values), {"flags": attempts.ceiling_and_floor(table, most)})


def gate(metrics: Metrics, config: Config) -> Verdict:
    """PASS when some retrieval needs fewer attempts than none with adjusted p < 0.05."""
    names = [f"{c} - none" for c in CONDITIONS[1:]]
    found = [(name, metrics.find("adjusted_p", name), metrics.find("mean_difference", name)) for name in names]
    ranked = sorted(
        (f for f in found if f[1] and f[1].value is not None and f[2] and f[2].value is not None),
        key=lambda f: (f[2].value >= 0, f[1].value),  # type: ignore[union-attr,operator]
    )
    if not ranked:
        nothing = Metric("adjusted_p", None, method="no problem has a result under every condition")
        return Verdict(Status.INCONCLUSIVE, "Too few results to compare.", {}, nothing, config.alpha, ("lab run p2",))
    # The best first: fewer attempts than none, then the smallest p.
    name, p, difference = ranked[0]
    assert p is not None and difference is not None and p.value is not None and difference.value is not None  # noqa: S101
    text = (
        f"{name}: {difference.value:+.2f} attempts, adjusted p {p.value:.3g} (needs < {config.alpha}), n {difference.n}"
    )
    if difference.value < 0 and p.value < config.alpha:
        return Verdict(Status.PASS, f"{text}.", {"retrieval_helps": name.split(" - ")[0]}, p, config.alpha)
    return Verdict(
        Status.FAIL,
        f"No retrieval needs fewer attempts. Nearest: {text}.",
        {},
        p,
        config.alpha,
        _next(metrics, difference),
    )


def _next(metrics: Metrics, difference: Metric) -> tuple[str, ...]:
    """The failure protocol: more problems, as many as the seen effect asks for; another embedder; more memos."""
    steps = []
    spread = (
        (difference.high - difference.low) / 3.92 * difference.n**0.5
        if difference.high is not None and difference.low is not None
        else 0
    )
    needed = statistics.required_n(abs(difference.value or 0) / spread) if spread else None
    if needed and needed > difference.n and (difference.value or 0) < 0:
        steps.append(f"lab run p2 --set n_test={needed}  (the effect seen here needs {needed} problems)")
    elif difference.n < 30:
        steps.append("lab run p2 --scale full  (30 problems against a memory of 100)")
    flags = metrics.facts["flags"]
    if flags["ceiling"]:
        steps.append(f"harder problems: {', '.join(flags['ceiling'])} is solved at the first guess nearly always")
    steps.append("lab run p2 --set k=3  (fewer memos distract a small model less)")
    return tuple(steps)
