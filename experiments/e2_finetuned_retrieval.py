"""E2 - can fine-tuning teach the model to retrieve better from its memory of solved problems?

    lab run e2 --scale demo
    e2  INCONCLUSIVE  precision_difference 0.05 (-0.03 to 0.13)   tuned_s - base_query, n 12: weak_signal inconclusive

Adapters are trained on E1's memos: S on distilled solutions, R on raw trajectories. The model then writes its own
retrieval query, which is compared with the analyses of the memos; what it brings back is what the solver sees.
The first question is whether a tuned model's queries bring back more memos of the right class than the untuned model's, the
second whether it then needs fewer attempts than the base conditions of E1's hypothesis. Writers and solvers are crossed on
some problems; tuned_s with random and with no retrieval are the controls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field

from common.errors import LabError
from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments.analysis.e2_analysis import gate, metrics
from experiments.analysis.e2_settings import (
    BY_TOKENS,
    CONDITIONS,
    CONTROLS,
    CROSSED,
    PROTOCOL_LORA,
    TUNED_WRITERS,
    WRITERS,
    WRITES,
    AnalysisConfig,
    Findings,
    first_trained,
    level_of,
    solver_of,
)
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import LanguageModel, Reply, Unavailable
from experiments.contract import Json, Result, Sides, Trial, Unit
from experiments.data import universe
from experiments.domains import Problem, get_domain
from experiments.expected import Details, Expected, Key, Number, Share, Solved, solving, without_costs
from experiments.findings import Earlier
from experiments.protocol.identity import make_unit
from experiments.seeds import generator
from experiments.solving.adapters import Recipe, train_adapter, untrained
from experiments.solving.choice import calibrate_batch
from experiments.solving.distillation import query_quality
from experiments.solving.memory_bank import NOTHING, Bank, Found, MemoRecord, analysis_of, bank_of
from experiments.solving.queries import written
from experiments.solving.replies import failed
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import effort, planned_seeds, solve

NAME = "e2"
TITLE = "Fine-tuned retrieval"
QUESTION = "Can fine-tuning teach the model to retrieve better from its memory of solved problems?"
BLOCKING = False
PROFILE = "e2"
NEEDS = ("embedder", "language_model", "lora")
# Costs of a memo and epoch, and of a problem, in seconds on two cores (measured at demo scale).
TRAINING_S, EVALUATION_S = 3.0, 2.2
# Analyses of the protocol (docs/science.md, E2); what is measured beyond them is marked exploratory.
PLANNED = """
    retrieval_precision vote_accuracy empty_query_share precision_difference precision_adjusted_p precision_p
    precision_rank_biserial no_gain_p seed_spread crossed_difference adjusted_p mean_difference
    improvement_percent cv_ratio attempts_mean p success_rate censoring_rate accuracy query_quality
    hypothesis_quality tokens_mean training_time_s training_tokens adapter_bytes break_even_problems criterion
    ceiling_share floor_share above_chance_p ceiling_p rank_biserial noninferiority_p
    inferiority_p no_saving_p equivalence_margin smallest_effect
""".split()
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "n_problems": 96,
        "run_seeds": (100, 200),
        "n_test": 3,
        "n_train": 4,
        "train_seeds": (42,),
        "n_by_tokens": 0,
        "n_crossed": 1,
        "k": 2,
        "per_unit": 3,
        "max_guesses": 3,
        "lora": PROTOCOL_LORA.model_copy(update={"epochs": 1}),
    },
    "demo": {
        "n_problems": 360,
        "run_seeds": (100,),
        "n_test": 12,
        "n_train": 20,
        "train_seeds": (42,),
        "n_by_tokens": 0,
        "n_crossed": 2,
        "per_unit": 6,
        "max_guesses": 6,
        "lora": PROTOCOL_LORA.model_copy(update={"epochs": 2}),
    },
    "full": {},
}


READS, EXPECTED = (e0.Findings, e1.Findings), None
__all__ = ("CONDITIONS", "Findings", "gate", "level_of", "metrics")  # of the analysis; the registry expects them here


class Config(AnalysisConfig):
    """E2's protocol."""

    n_test: int = Field(150, gt=1, description="of E1's test problems, solved under every condition")
    n_by_tokens: int = Field(
        3, ge=0, description="of train_seeds, repeated with as many tokens for S and R instead of examples"
    )
    k: int = Field(5, gt=0, description="memos shown")
    validation: float = Field(0.2, gt=0, lt=1, description="share of each dataset")
    query_tokens: int = Field(24, gt=0, description="tokens of a query at most")
    per_unit: int = Field(10, gt=0, description="test problems a unit")


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """Return the trainings; after them every condition of the hypothesis and the controls; then the crossed ones.

    Raises:
        LabError: E1 has no memos.
    """
    found = findings.of(e1.Findings)
    if not found.memos:
        raise LabError("e2 needs memos, and e1 has none", "lab run e1")
    retrieval = findings.of(e0.Findings).retrieval.model_copy(update={"k": config.k}).model_dump()
    base = {
        "hypothesis": found.hypothesis,
        "memos": [m.model_dump(mode="json") for m in found.memos],
        "retrieval": retrieval,
    }
    ask = partial(make_unit, NAME, config, models=[config.model, retrieval["embedder"]])
    if not so_far:
        cost = TRAINING_S * config.n_train * config.lora.epochs
        trainings = [{"dataset": d, "seed": seed} for seed in config.train_seeds for d in ("s", "r")]
        trainings += [{"dataset": "tokens", "seed": seed} for seed in config.train_seeds[: config.n_by_tokens]]
        return [ask({**base, "role": "train", **one}, cost=cost) for one in trainings]
    roles = {unit.spec["role"] for unit, _ in so_far}
    if "cross" in roles:
        return []
    trained = [(u.spec, t[0]) for u, t in so_far if u.spec["role"] == "train" and t[0].error is None]
    adapters = {(spec["dataset"], spec["seed"]): trial.details["adapter"] for spec, trial in trained}
    slim = {**base, "memos": [m.shown() for m in found.memos], "best": found.best}
    make = partial(_solving, ask, config, slim, found.test[: config.n_test], adapters)
    if "evaluate" not in roles:
        return make(asked(config, found.hypothesis), so_far)
    return make([(c, None) for c in CROSSED], so_far)


def asked(config: Config, hypothesis: str) -> list[tuple[str, int | None]]:
    """Return the conditions, with the training seed where each training of an adapter is asked: not for the controls."""
    found = [
        (c, seed)
        for c in (*CONDITIONS[hypothesis], *CONTROLS)
        for seed in (config.train_seeds if c in TUNED_WRITERS else (None,))
    ]
    return [*found, *((BY_TOKENS, seed) for seed in config.train_seeds[: config.n_by_tokens])]


def _solving(
    ask: Callable[..., Unit],
    config: Config,
    spec: Json,
    test: Sequence[str],
    adapters: Mapping[tuple[str, int | None], str],
    asked: Sequence[tuple[str, int | None]],
    so_far: Sequence[Result],
) -> list[Unit]:
    """Return the units that solve the test problems under these conditions, where their adapter was trained."""
    made = []
    first = {c: first_trained(config, (s for d, s in adapters if d == name)) for c, name in WRITERS.items()}
    queries = _queries_of(so_far, first)
    for condition, seed in asked:
        solver = solver_of(condition)
        adapter = adapters.get((solver, first[f"tuned_{solver}"] if seed is None else seed), "") if solver else ""
        if solver and not adapter:
            continue
        own = {**spec, "role": "evaluate", "condition": condition, "seed": seed, "adapter": adapter}
        taken, ids = {}, list(test)
        if condition in CROSSED:
            taken = queries.get(CROSSED[condition].writer, {})
            own["role"], ids = "cross", [p for p in test[: config.n_crossed] if p in taken]
        for part in (ids[i : i + config.per_unit] for i in range(0, len(ids), config.per_unit)):
            given = {"queries": [taken[p] for p in part]} if taken else {}
            made.append(
                ask(
                    {**own, "problems": part, **given},
                    round=3 if taken else 2,
                    depends_on=[u.unit_id for u, _ in so_far if u.spec["role"] == ("evaluate" if taken else "train")],
                    files=[adapter] if adapter else [],
                    n_trials=len(part) * len(_seeds(config, own)),
                    cost=EVALUATION_S * len(part) * effort(config),
                )
            )
    return made


def _queries_of(so_far: Sequence[Result], first: Mapping[str, int | None]) -> dict[str, dict[str, str]]:
    """Return the queries that were written, by condition and problem; of several trainings those of the `first` seed."""
    found: dict[str, dict[str, str]] = {}
    for unit, trials in so_far:
        condition = unit.spec.get("condition")
        if condition in WRITERS and unit.spec["seed"] == first[condition]:
            own = found.setdefault(condition, {})
            own |= {t.problem_id: t.details["query"] for t in trials if "query" in t.details}
    return found


def _seeds(config: Config, spec: Json) -> tuple[int | None, ...]:
    """Return the seeds of a problem's trials: of the training, or the run seeds where they draw, else (None,)."""
    return planned_seeds(config, *_drawn(spec))


def _drawn(spec: Json) -> tuple[bool, Sequence[int] | None]:
    """Return whether seeds make a problem's trials, and which if they are not the run seeds."""
    if spec["seed"] is not None:
        return True, (spec["seed"],)
    drawn = spec["condition"] in ("base_temporal", "tuned_s_random")
    return drawn or (spec["condition"], spec["best"]) == ("base_best", "temporal"), None


def sides(config: Config, findings: Earlier) -> Sides:
    """E1's memory, from which the adapters learn, and those of its test problems that are solved."""
    known = universe(config).by_id()
    found = findings.of(e1.Findings)
    return Sides([known[m.problem_id] for m in found.memos], [known[i] for i in found.test[: config.n_test]])


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Train one adapter, or solve some problems under one condition."""
    config, domain, spec = Config(**unit.config), get_domain(unit.config["domain"]), unit.spec
    retrieval = RetrievalConfig(**spec["retrieval"])
    train = spec["role"] == "train"
    memos = [MemoRecord(**m) for m in spec["memos"]]
    problems = [] if train else [universe(config).by_id()[i] for i in spec["problems"]]
    try:
        bank = Bank(domain, bank_of(memos, config), backends.embedder(retrieval.embedder), retrieval, config.topics)
        if train:
            recipe = Recipe(config.n_train, config.validation, config.lora)
            return [train_adapter(spec, config, recipe, memos, bank, backends)]
        lm = backends.language_model(config.model, spec["adapter"], config.precision)
    except Unavailable as error:
        if train:
            return [untrained(spec, str(error))]
        return [t for p in problems for t in failed(p, spec["condition"], _seeds(config, spec), error)]
    trials: list[Trial] = []
    by_model = written(problems, config.query_tokens, config, lm, domain) if spec["condition"] in WRITES else {}
    given = dict(zip(spec["problems"], spec["queries"], strict=True)) if "queries" in spec else {}
    for problem in problems:
        reply = by_model.get(problem.problem_id)
        if isinstance(reply, Exception):
            trials += failed(problem, spec["condition"], _seeds(config, spec), reply)
        else:
            query = given.get(problem.problem_id) if reply is None else reply.text.strip()
            trials += _solve(problem, query, reply, spec, config, bank, lm)
    return calibrate_batch(trials, domain, config)


class Training(Details):
    """Of a training, what the analysis reads."""

    hypothesis: str
    adapter: str
    adapter_bytes: int
    examples: int
    held: int
    of: str  # the dataset that its examples are of: s or r
    best_epoch: int | None
    validation_loss: list[Number] | None


class Evaluated(Solved):
    """Of a trial that solves a problem, what the analysis reads."""

    hypothesis: str
    hypothesis_quality: Number
    type_match: Share | None = None  # of what was retrieved, and the probability that its labels vote for the right one
    vote_first_right: Share | None = None
    query: str | None = None  # that the model wrote, with its quality, tokens and time
    analysis_match: Share | None = None  # type match if the analysis itself is the query
    query_quality: Number = 0.0
    query_tokens: int = 0


class Written(Evaluated):
    """Of a trial whose model wrote its own query."""

    type_match: Share
    query: str


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: the training, or one a problem, or for each seed that draws the memos."""
    config, spec = Config(**unit.config), unit.spec
    fixed = {"hypothesis": spec["hypothesis"]}
    if spec["role"] != "train":
        name, (drawn, seeds) = spec["condition"], _drawn(spec)
        details = Written if name in WRITES or name in CROSSED else Evaluated
        draws = [name] if drawn else []
        return solving(config, spec["problems"], [name], details, drawn=draws, seeds=seeds, fixed={name: fixed})
    name = f"train_{spec['dataset']}"
    key = Key("training", name, spec["seed"])
    return Expected([key], Training, fixed={name: fixed}, attached="adapter", more=without_costs)


def _solve(
    problem: Problem, query: str | None, reply: Reply | None, spec: Json, config: Config, bank: Bank, lm: LanguageModel
) -> list[Trial]:
    """Return the problem's trials; `reply` is where the model wrote the query now: its tokens and time are part of the price."""
    drawn, seeds = _drawn(spec)
    trials: list[Trial] = []
    for seed in (seeds or config.run_seeds) if drawn else (None,):
        found = _ask(problem, query, spec, seed, bank)
        extra = {**found.facts, "hypothesis": spec["hypothesis"], **_of_query(problem, query, reply, found, bank)}
        name = spec["condition"]
        trials += solve(lm, bank.domain, problem, found.memos, config, NAME, name, extra, drawn=seed)
    for t in (t for t in trials if t.error is None):
        # Nearness of the solver's first idea to the truth: what its hypothesis is worth before it hears anything.
        t.details["hypothesis_quality"] = bank.domain.similarity(problem.truth, str(t.details["guesses"][0]))
    if reply is None:
        return trials
    return [t if t.latency_s is None else replace(t, latency_s=t.latency_s + reply.latency_s) for t in trials]


def _of_query(problem: Problem, query: str | None, reply: Reply | None, found: Found, bank: Bank) -> Json:
    """Return what a trial says of its query."""
    if query is None:
        return {}
    facts: Json = {
        "query": query,
        "query_quality": query_quality(bank.domain, query, float(str(found.facts["type_match"]))),
    }
    if reply is not None:
        facts["query_tokens"] = reply.tokens_in + reply.tokens_out
        facts["analysis_match"] = bank.by_query(analysis_of(bank.domain, problem), problem).facts["type_match"]
    return facts


def _ask(problem: Problem, query: str | None, spec: Json, seed: int | None, bank: Bank) -> Found:
    condition = spec["condition"]
    if condition == "base_best":
        condition = f"base_{spec['best']}"
    if query is not None:
        # An empty query is like nothing: the embedder then ranks by its vector of the empty text, alike for all problems.
        return bank.by_query(query, problem)
    if condition == "base_semantic":
        return bank.semantic(problem)
    if condition == "base_temporal" and seed is not None:
        return bank.recent(seed, problem)
    if condition == "tuned_s_random" and seed is not None:
        return bank.random(generator(seed, NAME, problem.problem_id, condition), problem)
    return NOTHING
