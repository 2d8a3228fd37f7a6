"""E2 - can fine-tuning teach the model to retrieve better from its memory of solved problems?

    lab run e2 --scale demo
    e2  INCONCLUSIVE  mean_difference -0.11 (-0.53 to 0.30)   tuned_s - base_query, n 12: weak_signal not confirmed

Two adapters are trained on E1's memos: S on distilled solutions, R on raw trajectories. The model then writes its own
retrieval query (its hunch); what the query brings back is what the solver sees. E1's hypothesis decides which base
conditions the tuned ones must beat; tuned_s with random and with no retrieval are the controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field

from common.errors import LabError
from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments.analysis.e2_analysis import (
    CONDITIONS,
    CONTROLS,
    PROTOCOL_LORA,
    AnalysisConfig,
    Findings,
    gate,
    level_of,
    metrics,
)
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import LanguageModel, Reply, TooLong, Unavailable, Unreadable
from experiments.contract import Json, Result, Sides, Trial, Unit
from experiments.data import universe
from experiments.domains import Domain, Problem, get_domain
from experiments.expected import Details, Expected, Key, Number, Solved, solving, without_costs
from experiments.findings import Earlier
from experiments.protocol.identity import make_unit
from experiments.seeds import generator
from experiments.solving.choice import calibrate_batch
from experiments.solving.distillation import dataset, hunch_prompt, query_quality
from experiments.solving.memory_bank import NOTHING, Bank, Found, MemoRecord, bank_of
from experiments.solving.replies import UNFINISHED, answers, check_room, failed
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import effort, memo_seeds, planned_seeds, solve

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
    adjusted_p mean_difference improvement_percent cv_ratio attempts_mean p success_rate censoring_rate
    accuracy query_quality hypothesis_quality tokens_mean training_time_s training_tokens adapter_bytes
    break_even_problems criterion ceiling_share floor_share above_chance_p ceiling_p rank_biserial
    noninferiority_p inferiority_p no_saving_p smallest_effect
""".split()
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "n_problems": 96,
        "run_seeds": (100, 200),
        "n_test": 3,
        "n_train": 4,
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
        "per_unit": 6,
        "max_guesses": 6,
        "lora": PROTOCOL_LORA.model_copy(update={"epochs": 2}),
    },
    "full": {},
}


READS = (e0.Findings, e1.Findings)
EXPECTED = None
__all__ = ("Findings", "gate", "level_of", "metrics")  # of the analysis; the registry expects them here


class Config(AnalysisConfig):
    """E2's protocol."""

    n_test: int = Field(150, gt=1, description="of E1's test problems, solved under every condition")
    k: int = Field(5, gt=0, description="memos shown")
    validation: float = Field(0.2, gt=0, lt=1, description="share of each dataset")
    query_tokens: int = Field(24, gt=0, description="tokens of a query at most")
    per_unit: int = Field(10, gt=0, description="test problems a unit")


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """Return the trainings of both adapters; after them, every condition of the hypothesis and the controls.

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
        return [ask({**base, "role": "train", "dataset": d}, cost=cost) for d in ("s", "r")]
    if any(unit.spec["role"] == "evaluate" for unit, _ in so_far):
        return []
    adapters = {u.spec["dataset"]: t[0].details["adapter"] for u, t in so_far if t[0].error is None}
    names = (*CONDITIONS[found.hypothesis], *CONTROLS)
    needed = {c: c.split("_")[1] if c.startswith("tuned_") else "" for c in names}  # the adapter's dataset
    test = found.test[: config.n_test]
    slim = {**base, "memos": [m.shown() for m in found.memos], "role": "evaluate", "best": found.best}
    return [
        ask(
            {**slim, "condition": name, "adapter": adapter, "problems": list(test[i : i + config.per_unit])},
            round=2,
            depends_on=[u.unit_id for u, _ in so_far],
            files=[adapter] if adapter else [],
            n_trials=len(test[i : i + config.per_unit]) * len(planned_seeds(config, _draws(name, found.best))),
            cost=EVALUATION_S * len(test[i : i + config.per_unit]) * effort(config),
        )
        for name, dataset_name in needed.items()
        if not dataset_name or dataset_name in adapters
        for adapter in [adapters.get(dataset_name, "")]
        for i in range(0, len(test), config.per_unit)
    ]


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
        bank = Bank(domain, bank_of(memos, config), backends.embedder(retrieval.embedder), retrieval)
        if train:
            return [_train(spec, config, memos, bank, backends)]
        lm = backends.language_model(config.model, spec["adapter"], config.precision)
    except Unavailable as error:
        if train:
            return [_untrained(spec, str(error))]
        seeds = planned_seeds(config, _draws(spec["condition"], spec["best"]))
        return [t for p in problems for t in failed(p, spec["condition"], seeds, error)]
    trials: list[Trial] = []
    written = _queries(problems, config, lm, domain) if _writes_query(spec["condition"]) else {}
    for problem in problems:
        reply = written.get(problem.problem_id)
        if isinstance(reply, Exception):
            trials += failed(problem, spec["condition"], planned_seeds(config, drawn=False), reply)
        else:
            trials += _solve(problem, reply, spec, config, bank, lm)
    return calibrate_batch(trials, domain, config)


def _queries(
    problems: Sequence[Problem], config: Config, lm: LanguageModel, domain: Domain
) -> dict[str, Reply | TooLong | Unreadable]:
    """Return by problem the query that the model wrote, or why there is none."""
    found: dict[str, Reply | TooLong | Unreadable] = {}
    prompts: dict[str, str] = {}
    for problem in problems:
        prompt = hunch_prompt(domain, problem, config)
        try:
            check_room(lm, prompt, config.query_tokens)
            prompts[problem.problem_id] = prompt
        except TooLong as error:
            found[problem.problem_id] = error
    replies = answers(lm, list(prompts.values()), config.query_tokens, stop="\n") if prompts else []
    written = zip(prompts, replies, strict=True)
    return found | {i: Unreadable(UNFINISHED) if reply.unfinished else reply for i, reply in written}


class Training(Details):
    """Of a training, what the analysis reads."""

    hypothesis: str
    adapter: str
    adapter_bytes: int
    examples: int
    held: int
    best_epoch: int | None
    validation_loss: list[Number] | None


class Evaluated(Solved):
    """Of a trial that solves a problem, what the analysis reads."""

    hypothesis: str
    hypothesis_quality: Number
    query_quality: Number = 0.0  # and the tokens of the query, where the model wrote one
    query_tokens: int = 0


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: the training, or one a problem, or for each seed that draws the memos."""
    config, spec = Config(**unit.config), unit.spec
    fixed = {"hypothesis": spec["hypothesis"]}
    if spec["role"] != "train":
        name = spec["condition"]
        drawn = [name] if _draws(name, spec["best"]) else []
        return solving(config, spec["problems"], [name], Evaluated, drawn=drawn, fixed={name: fixed})
    name = f"train_{spec['dataset']}"
    failed, key = [Key("training", name)], Key("training", name, config.data_seed)
    return Expected([key], Training, failed, fixed={name: fixed}, attached="adapter", more=without_costs)


def _draws(condition: str, best: str) -> bool:
    """Return True if each run seed draws the memos of a condition; `best` is E1's strategy."""
    return condition in ("base_temporal", "tuned_s_random") or (condition, best) == ("base_best", "temporal")


def _writes_query(condition: str) -> bool:
    return condition in ("base_query", "tuned_s", "tuned_r")


def _solve(
    problem: Problem, reply: Reply | None, spec: Json, config: Config, bank: Bank, lm: LanguageModel
) -> list[Trial]:
    """Return the problem's trials; `reply` is the query that the model wrote, whose tokens and time are part of the price."""
    query = None if reply is None else reply.text.strip()
    trials: list[Trial] = []
    for seed in memo_seeds(config, _draws(spec["condition"], spec["best"])):
        found = _ask(problem, query, spec, seed, bank)
        trials += _answers(problem, found, reply, query, seed, spec, config, bank, lm)
    return trials


def _answers(
    problem: Problem,
    found: Found,
    reply: Reply | None,
    query: str | None,
    seed: int | None,
    spec: Json,
    config: Config,
    bank: Bank,
    lm: LanguageModel,
) -> list[Trial]:
    extra: dict[str, object] = {**found.facts, "hypothesis": spec["hypothesis"]}
    if reply is not None and query is not None:
        quality = query_quality(bank.domain, query, float(found.facts["type_match"]))  # type: ignore[arg-type]
        extra |= {"query": query, "query_tokens": reply.tokens_in + reply.tokens_out, "query_quality": quality}
    trials = solve(lm, bank.domain, problem, found.memos, config, NAME, spec["condition"], extra, drawn=seed)
    done = [t for t in trials if t.error is None]
    for t in done:
        # Nearness of the solver's first idea to the truth: what its hypothesis is worth before it hears anything.
        t.details["hypothesis_quality"] = bank.domain.similarity(problem.truth, str(t.details["guesses"][0]))
    if reply is None:
        return trials
    return [t if t.latency_s is None else replace(t, latency_s=t.latency_s + reply.latency_s) for t in trials]


def _ask(problem: Problem, query: str | None, spec: Json, seed: int | None, bank: Bank) -> Found:
    condition = spec["condition"]
    if condition == "base_best":
        condition = f"base_{spec['best']}"
    if query is not None:
        # An empty query finds nothing to be like: the embedder then ranks by its vector of the empty text.
        return bank.by_query(query, problem)
    if condition == "base_semantic":
        return bank.semantic(problem)
    if condition == "base_temporal" and seed is not None:
        return bank.recent(seed, problem)
    if condition == "tuned_s_random" and seed is not None:
        return bank.random(generator(seed, NAME, problem.problem_id, condition), problem)
    return NOTHING


def _train(spec: Json, config: Config, memos: Sequence[MemoRecord], bank: Bank, backends: Backends) -> Trial:
    name = spec["dataset"]
    examples, held = dataset(name, bank.domain, memos, bank, config, config.n_train, config.validation)
    if not examples:
        return _untrained(spec, f"no memo for dataset {name}: the baseline solved nothing")
    training = backends.train(
        config.model, examples, held, config.lora, config.data_seed, config.precision, config.trainer
    )
    adapter = backends.attach(f"e2-{name}.safetensors", training.adapter)
    return Trial(
        "training",
        f"train_{name}",
        seed=config.data_seed,
        tokens_in=training.tokens,
        latency_s=training.seconds,
        details={
            "hypothesis": spec["hypothesis"],
            "adapter": adapter,
            "adapter_bytes": len(training.adapter),
            "examples": len(examples),
            "held": len(held),
            "engine": training.engine,
            "train_loss": training.train_loss,
            "validation_loss": training.validation_loss,
            "best_epoch": training.best_epoch,
        },
    )


def _untrained(spec: Json, why: str) -> Trial:
    # With the hypothesis, so that a verdict on failures alone still names it.
    return Trial("training", f"train_{spec['dataset']}", error=why, details={"hypothesis": spec["hypothesis"]})
