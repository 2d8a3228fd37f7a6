"""E1 - which memory helps more: what was solved last, or what is most alike?

    lab run e1 --scale demo
    e1  INCONCLUSIVE  mean_difference -0.20 (-0.60 to 0.13)   semantic - temporal, n 15: weak_signal

The baseline solver first fills a memory with memos of what it solved and how. Then every test problem is solved with no
memory, with the five latest memos of a stream and with the five most similar ones. What comes out is the hypothesis for E2.
Only the strategy differs between temporal and semantic: both show k memos, and semantic searches as E0 chose. Controls
say how much of a gain is copying labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field

from common.outcome import Outcome
from experiments import e0_retrieval_parameters as e0
from experiments import mean_tests, statistics
from experiments.analysis import attempts, controls
from experiments.analysis.by_condition import by_class, relevance, tokens
from experiments.analysis.ends import ENDS, Flags, ends, ends_in_words, flags_of, means_in_words, scale_of
from experiments.analysis.resampling import Resampling, resampling_of
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Unavailable
from experiments.contract import Metric, Metrics, NextStep, Result, Sides, Status, Trial, Unit, Verdict
from experiments.data import parts, split, universe
from experiments.domains import get_domain
from experiments.expected import Expected, Remembering, Solved, solving, unmeasured
from experiments.findings import Earlier, PhaseFindings
from experiments.power import Level
from experiments.protocol import next_steps
from experiments.protocol.identity import make_unit
from experiments.seeds import generator
from experiments.solving.choice import calibrate_batch
from experiments.solving.controls import DRAWN, Control, ask, with_controls
from experiments.solving.memory_bank import Bank, MemoRecord, bank_of
from experiments.solving.replies import failed
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import effort, memo_seeds, planned_seeds, solve
from experiments.solving.stream import StreamConfig

NAME = "e1"
TITLE = "Retrieval strategies"
QUESTION = "Which memory helps more: what was solved last, or what is most alike?"
BLOCKING = False
PROFILE = "e0_e1"
NEEDS = ("embedder", "language_model")
MEMO_S, PROMPT_S = 0.7, 1.3  # costs of a prompt without and with memos, in seconds on two cores (measured, demo)
CONDITIONS = ("none", "temporal", "semantic")
PAIRS = (("semantic", "temporal"), ("semantic", "none"), ("temporal", "none"))
PAIR = "semantic - temporal"  # the comparison that decides
WEAK_SIGNAL = "weak_signal"  # the hypothesis where nothing was shown
MEMO = "memo"  # condition of the trials that fill the memory
# Analyses of the protocol (docs/science.md, E1); what is measured beyond them is marked exploratory.
PLANNED = """
    adjusted_p mean_difference equivalence_p attempts_cv friedman_p attempts_mean p cliffs_delta success_rate
    censoring_rate accuracy relevance_attempts_correlation class_accuracy tokens_mean latency_s
    memo_success_rate ceiling_share floor_share above_chance_p ceiling_p rank_biserial smallest_effect
    gain_share type_match recall_at_k mrr ndcg_at_k
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


class Config(StreamConfig):
    """E1's protocol."""

    n_memory: int = Field(1500, gt=0, description="problems that the baseline solver turns into memos")
    n_test: int = Field(150, gt=1, description="problems to solve")
    k: int = Field(5, gt=0, description="memos shown, temporal and semantic alike")
    memo_on_failure: Literal["truth", "drop"] = Field("truth", description="of a failure: store the truth, or no memo")
    controls: tuple[Control, ...] = Field(
        ("label_only", "shuffled_labels", "other_families", "lexical", "oracle"),
        description="conditions that say why semantic memos help",
    )
    per_unit: int = Field(10, gt=0, description="test problems a unit")
    memos_per_unit: int = Field(50, gt=0, description="memory problems a unit")
    margin: float = Field(0.25, gt=0, description="attempts; TOST's equivalence margin, fixed beforehand")
    amplification_p: float = Field(0.01, description="semantic better below this")
    correction_p: float = Field(0.05, description="temporal better below this")
    equivalence_p: float = Field(0.05, description="TOST's level")
    stabilization_cv: float = Field(0.5, description="coefficient of variation of attempts above this")


class Findings(PhaseFindings, phase=NAME, what="memos and hypothesis"):
    """The hypothesis for E2, and the memory that it rests on."""

    hypothesis: str  # a key of experiments.analysis.e2_analysis.CONDITIONS
    best: Literal["temporal", "semantic"]  # strategy
    memos: tuple[MemoRecord, ...]  # in the order of solving
    test: tuple[str, ...]  # problem ids
    labels_copied: float | None = (
        None  # share of semantic's gain over none that its labels alone give, if a gain is shown
    )

    def doubted(self) -> Self:
        """Return the memos and problems, without the hypothesis and what a gain is made of."""
        return self.model_copy(update={"hypothesis": WEAK_SIGNAL, "labels_copied": None})


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


def conditions_of(config: Config) -> tuple[str, ...]:
    """Return all conditions under which a test problem is solved."""
    return with_controls(CONDITIONS, config.controls)


def problem_s(config: Config) -> float:
    """Return the cost of a test problem, in seconds on two cores."""
    return PROMPT_S * sum(len(memo_seeds(config, c in DRAWN)) for c in conditions_of(config))


def memos_of(trials: Sequence[Trial], config: Config) -> list[MemoRecord]:
    """Return the memos that the trials leave, in the order of solving."""
    memos = []
    for t in trials:
        if t.condition != MEMO or t.error is not None:
            continue
        # A failure has no right answer of its own: the protocol stores the truth, `drop` leaves the memo out.
        if not t.solved and config.memo_on_failure == "drop":
            continue
        shown = {"problem_id": t.problem_id, "answer": t.truth, "order": t.details["order"]}
        memos.append(
            MemoRecord(**shown, attempts=t.attempts, success=bool(t.solved), guesses=tuple(t.details["guesses"]))
        )
    return sorted(memos, key=lambda m: m.order)


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


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Measure attempts, pairwise tests, equivalence, what the controls explain, relevance, classes, tokens."""
    there = {t.condition for t in trials}
    conditions = [c for c in conditions_of(config) if c in CONDITIONS or c in there]
    seen, by, scale = attempts.median_attempts(trials, conditions), resampling_of(trials, config), scale_of(config)
    table = {c: seen[c] for c in CONDITIONS}
    done = [t for t in trials if t.condition in conditions and t.error is None]
    values = [
        *attempts.per_condition(trials, seen, by),
        *ends(seen, scale, by),
        *attempts.comparisons(table, PAIRS, by=by),
        *_together(table, config, by),
        *controls.rows(done, seen, by),
        *relevance(done, table, CONDITIONS[1:]),
        *by_class(done, get_domain(config.domain).options, CONDITIONS, by),
        *tokens(done, conditions),
        attempts.smallest_visible(attempts.fewest_pairs(table, PAIRS), level_of(config)),
    ]
    memos = memos_of(trials, config)
    solved = [t for t in trials if t.condition == MEMO and t.error is None]
    share = statistics.wilson(sum(bool(t.solved) for t in solved), len(solved))
    values.append(attempts.row("memo_success_rate", MEMO, share, attempts.failed_in(trials, MEMO)))
    _, test = split(config, config.n_memory, config.n_test)
    facts = {
        "memos": memos,
        "test": [p.problem_id for p in test],
        "errors": attempts.errors_of(trials)[:3],
        "flags": flags_of(table, scale, by),
    }
    return Metrics(tuple(values), facts)


def _together(table: attempts.Table, config: Config, by: Resampling) -> list[Metric]:
    """Friedman over the problems with a result under all conditions, equivalence of the strategies, variation of each."""
    complete = attempts.whole(table, CONDITIONS)
    overall = statistics.friedman([[complete[c][p] for c in CONDITIONS] for p in complete["none"]])
    groups = by.of(attempts.differences(table, "semantic", "temporal"))
    tost = mean_tests.tost_paired(*attempts.paired(table, "semantic", "temporal"), config.margin, groups)

    def noted(method: str, note: str) -> str:
        return f"{method}; {note}" if note else method

    method = noted(f"TOST, margin {config.margin} attempts", tost.note)
    return [
        Metric("friedman_p", overall.p, n=overall.n, method=noted("Friedman", overall.note)),
        Metric("equivalence_p", tost.p, n=tost.n, condition=PAIR, method=method),
        *(attempts.row("attempts_cv", c, attempts.variation(v, by)) for c, v in table.items()),
    ]


class Hypothesis(NamedTuple):
    """The hypothesis for E2, and why."""

    name: str
    why: str


def level_of(config: Config) -> Level:
    """Return the level of one comparison."""
    return Level(config.amplification_p, len(PAIRS))


def hypothesis_of(metrics: Metrics, config: Config) -> Hypothesis:
    """Choose the hypothesis for E2 by the protocol's order of rules."""
    p, d = metrics.find("adjusted_p", PAIR), metrics.find("mean_difference", PAIR)
    tost = metrics.find("equivalence_p", PAIR)
    if d is None or d.value is None:
        return Hypothesis(WEAK_SIGNAL, "Too few results to compare")
    seen = f"adjusted p {p.value:.3g}" if p and p.value is not None else ""
    if attempts.outcome(metrics, PAIR, config.amplification_p) is Outcome.FEWER:
        return Hypothesis("amplification", f"semantic needs fewer attempts, {seen} < {config.amplification_p}")
    found = attempts.outcome(metrics, PAIR, config.correction_p)
    if found is Outcome.MORE:
        return Hypothesis("correction", f"temporal needs fewer attempts, {seen} < {config.correction_p}")
    if end := _end_of_both(metrics):
        means = means_in_words(metrics, CONDITIONS[1:])
        why = f"temporal and semantic are both at the {end} ({ENDS[end]}): {means}, so equality says nothing"
        return Hypothesis(WEAK_SIGNAL, why)
    if tost and tost.value is not None and tost.value < config.equivalence_p:
        why = f"semantic and temporal are equivalent within {config.margin} attempts, TOST p {tost.value:.3g}"
        return Hypothesis("awakening", why)
    variation = metrics.find("attempts_cv", "semantic")
    if variation and variation.low is not None and variation.low > config.stabilization_cv:
        why = (
            f"attempts vary widely, CV {variation.value:.2f}, at least {variation.low:.2f} > {config.stabilization_cv}"
        )
        return Hypothesis("stabilization", why)
    if found is Outcome.MIXED:
        return Hypothesis(WEAK_SIGNAL, f"semantic {found.against('temporal')}, {seen}")
    return Hypothesis(WEAK_SIGNAL, "no difference, no equivalence and no wide variation was shown")


def _end_of_both(metrics: Metrics) -> str:
    """The end at which both strategies stand, so that nothing can differ; "" where they can."""
    flags: Flags = metrics.facts["flags"]
    return next((end for end, names in flags.items() if all(c in names for c in CONDITIONS[1:])), "")


def gate(metrics: Metrics, config: Config) -> Verdict:
    """Choose E2's hypothesis; INCONCLUSIVE where the signal is weak. The chain goes on in any case."""
    main, copied = metrics.find("mean_difference", PAIR), controls.copied(metrics)
    hypothesis, why = hypothesis_of(metrics, config)
    findings = Findings(
        hypothesis=hypothesis,
        best=_best(metrics),
        memos=metrics.facts["memos"],
        test=metrics.facts["test"],
        labels_copied=copied and copied.value,
    )
    if main is None or main.value is None:
        nothing = Metric(
            "mean_difference", None, condition=PAIR, method="no problem has a result under both strategies"
        )
        cause, steps = _without_results(metrics, config)
        reason = f"{why}; the hypothesis is {hypothesis}. {cause}".strip()
        return Verdict(Status.INCONCLUSIVE, reason, findings, nothing, None, steps)
    text = f"{hypothesis}: {why}; {PAIR} {main.value:+.2f} attempts, n {main.n}."
    text += controls.copying_in_words(metrics) + ends_in_words(metrics.facts["flags"])
    if hypothesis != WEAK_SIGNAL:
        return Verdict(Status.PASS, text, findings, main)
    return Verdict(Status.INCONCLUSIVE, text, findings, main, None, _next(main, _end_of_both(metrics), config))


def _without_results(metrics: Metrics, config: Config) -> tuple[str, tuple[NextStep, ...]]:
    """(why there is nothing to compare, what to try)."""
    errors, memos = metrics.facts["errors"], metrics.facts["memos"]
    if errors or len(memos) >= config.k:
        return attempts.failures_in_words(errors).strip(), (next_steps.install(errors, next_steps.WEAK),)
    cause = f"The memory has {len(memos)} memos, and {config.k} are shown."
    steps: tuple[NextStep, ...] = ()
    if config.memo_on_failure == "drop":
        steps += (next_steps.command(NAME, {"memo_on_failure": "truth"}, "a failure leaves a memo as well"),)
    steps += next_steps.doubled(NAME, config, "n_memory", "more problems to remember", config.n_test)
    return cause, (*steps, *next_steps.easier(NAME, config, "the solver solves too little"))


def _best(metrics: Metrics) -> Literal["temporal", "semantic"]:
    """The strategy with fewer attempts on the problems that both solved; temporal when they are even."""
    both = metrics.find("mean_difference", PAIR)
    if both is not None and both.value is not None:
        return "semantic" if both.value < 0 else "temporal"
    temporal, semantic = (metrics.find("attempts_mean", c) for c in ("temporal", "semantic"))
    if semantic is None or semantic.value is None:
        return "temporal"
    return "semantic" if not temporal or temporal.value is None or semantic.value < temporal.value else "temporal"


def _next(main: Metric, end: str, config: Config) -> tuple[NextStep, ...]:
    """Other problems where nothing can differ; else a new study, as large as the seen effect asks for; another embedder."""
    if end:
        other = next_steps.easier if end == "floor" else next_steps.harder
        return other(NAME, config, f"both strategies are at the {end}")
    more = next_steps.new_study(NAME, config, main, level_of(config), config.n_memory)
    # Semantic retrieval is as E0 chose it.
    return (*more, *next_steps.other_embedders("e0", next_steps.EMBEDDERS[:1]))
