"""E1 - which memos help more: the latest ones of a stream, or the most similar ones?

    lab run e1 --scale demo
    e1  INCONCLUSIVE  precision_difference 0.178 (0.0333 to 0.333), n 18

The baseline solver first fills a memory with memos of what it solved and how. Then every test problem is solved with no
memory, with the five latest memos of a stream and with the five most similar ones. What comes out is the hypothesis for E2.
Only the strategy differs between temporal and semantic: both show k memos, and semantic searches as E0 chose. Controls
say how much of a gain is copying labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from experiments import e0_retrieval_parameters as e0
from experiments.analysis.e1_analysis import gate, hypothesis_of, memos_of, metrics
from experiments.analysis.e1_settings import (
    CONDITIONS,
    MEMO,
    PAIR,
    WEAK_SIGNAL,
    Config,
    Findings,
    conditions_of,
    foretold,
    level_of,
)
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Unavailable
from experiments.contract import Result, Sides, Trial, Unit
from experiments.data import parts, split, universe
from experiments.domains import get_domain
from experiments.expected import Expected, Remembering, Solved, solving, unmeasured
from experiments.findings import Earlier
from experiments.protocol.identity import make_unit
from experiments.seeds import generator
from experiments.solving.choice import calibrate_batch
from experiments.solving.controls import DRAWN, ask
from experiments.solving.memory_bank import Bank, MemoRecord, bank_of
from experiments.solving.replies import failed
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import effort, memo_seeds, planned_seeds, solve

NAME = "e1"
TITLE = "Retrieval strategies"
QUESTION = "Which memos help more: the latest ones of a stream, or the most similar ones?"
BLOCKING = False
PROFILE = "e0_e1"
NEEDS = ("embedder", "language_model")
MEMO_S, PROMPT_S = 0.7, 1.3  # costs of a prompt without and with memos, in seconds on two cores (measured, demo)
# Analyses of the protocol (docs/science.md, E1); what is measured beyond them is marked exploratory.
PLANNED = """
    adjusted_p mean_difference equivalence_p attempts_cv friedman_p attempts_mean p cliffs_delta success_rate
    censoring_rate accuracy relevance_attempts_correlation class_accuracy tokens_mean latency_s
    memo_success_rate ceiling_share floor_share above_chance_p ceiling_p rank_biserial smallest_effect
    gain_share type_match recall_at_k mrr ndcg_at_k
    precision_difference precision_p precision_adjusted_p precision_rank_biserial
    equivalence_margin equivalence_power attempts_sd_ratio smallest_ratio
""".split()
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "n_problems": 96,
        "run_seeds": (100, 200),
        "n_memory": 12,
        "n_test": 4,
        "k": 2,
        "per_unit": 2,
        "memos_per_unit": 6,
        "max_guesses": 3,
        "controls": ("label_only",),
    },
    "demo": {
        "n_problems": 360,
        "run_seeds": (100,),
        "n_memory": 48,
        "n_test": 18,
        "per_unit": 6,
        "memos_per_unit": 24,
        "max_guesses": 6,
        "controls": ("label_only",),
    },
    "full": {},
}


# Of the settings and the analysis; the registry expects them here.
__all__ = ("CONDITIONS", "PAIR", "Config", "Findings", "foretold", "gate", "hypothesis_of", "level_of", "metrics")
READS = (e0.Findings,)
EXPECTED = Findings(hypothesis=WEAK_SIGNAL, best="temporal", memos=(), test=())


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """Return the units that fill the memory; after them, the evaluation on it."""
    memory, test = split(config, config.n_memory, config.n_test)
    unit_of = partial(make_unit, NAME, config)
    if not so_far:
        return [
            unit_of(
                {"role": MEMO, "first_order": i * config.memos_per_unit, "problems": ids},
                models=[config.model],
                n_trials=len(ids),
                cost=MEMO_S * len(ids) * effort(config),
            )
            for i, ids in enumerate(parts(memory, config.memos_per_unit))
        ]
    if any(unit.spec["role"] == "evaluate" for unit, _ in so_far):
        return []
    memos = memos_of([t for _, trials in so_far for t in trials], config)
    retrieval = findings.of(e0.Findings).retrieval.model_copy(update={"k": config.k})
    if len(memos) < config.k:
        return []
    spec = {"role": "evaluate", "memos": [m.shown() for m in memos], "retrieval": retrieval.model_dump()}
    return [
        unit_of(
            {**spec, "problems": ids},
            round=2,
            models=[config.model, retrieval.embedder],
            depends_on=[u.unit_id for u, _ in so_far],
            n_trials=len(ids) * sum(len(planned_seeds(config, c in DRAWN)) for c in conditions_of(config)),
            cost=problem_s(config) * len(ids) * effort(config),
        )
        for ids in parts(test, config.per_unit)
    ]


def problem_s(config: Config) -> float:
    """Return the cost of a test problem, in seconds on two cores."""
    return PROMPT_S * sum(len(memo_seeds(config, c in DRAWN)) for c in conditions_of(config))


def sides(config: Config, findings: Earlier) -> Sides:
    """Memory and test."""
    return Sides(*split(config, config.n_memory, config.n_test))


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Fill memos, or solve test problems under each condition, in an order drawn for each problem."""
    config, domain = Config(**unit.config), get_domain(unit.config["domain"])
    known, spec = universe(config).by_id(), unit.spec
    problems = [known[i] for i in spec["problems"]]
    names = (MEMO,) if spec["role"] == MEMO else conditions_of(config)
    own = config.run_seeds[:1] if spec["role"] == MEMO else None
    try:
        lm = backends.language_model(config.model, precision=config.precision)
        if spec["role"] != MEMO:
            retrieval = RetrievalConfig(**spec["retrieval"])
            memos = bank_of([MemoRecord(**m) for m in spec["memos"]], config)
            bank = Bank(domain, memos, backends.embedder(retrieval.embedder), retrieval, config.topics)
    except Unavailable as error:
        return [t for p in problems for c in names for t in failed(p, c, planned_seeds(config, c in DRAWN, own), error)]
    trials: list[Trial] = []
    for i, problem in enumerate(problems):
        if spec["role"] == MEMO:
            order = {"order": spec["first_order"] + i}
            trials += solve(lm, domain, problem, [], config, NAME, MEMO, order, seeds=own)
            continue
        drawn = generator(config.data_seed, NAME, problem.problem_id, "order").permutation(len(names))
        for condition in (names[j] for j in drawn):
            for seed in memo_seeds(config, condition in DRAWN):
                found = ask(bank, NAME, condition, problem, seed)
                trials += solve(lm, domain, problem, found.memos, config, NAME, condition, found.facts, drawn=seed)
    return calibrate_batch(trials, domain, config)


class Remembered(Solved):
    """Of a trial that leaves a memo, what the analysis reads."""

    order: int


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: one a problem, or one for each seed that draws the memos."""
    config, problems = Config(**unit.config), unit.spec["problems"]
    if unit.spec["role"] == MEMO:
        return solving(config, problems, [MEMO], Remembered, seeds=config.run_seeds[:1])
    return solving(config, problems, conditions_of(config), Remembering, drawn=DRAWN, more=unmeasured)
