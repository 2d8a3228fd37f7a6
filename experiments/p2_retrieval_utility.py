"""P2 - does a memory of solved problems help the solver at all?

    lab run p2 --scale demo
    p2  FAIL  adjusted_p 0.21 (needs < 0.05)   semantic - none: -0.25 attempts (-0.67 to 0.17), n 12

The same test problems are solved with no memory, with five random memos, the five most recent of a stream in which families
come in sessions, and the five most similar. Every retrieval is compared with none, and semantic with random, problem by
problem: what random memos do as well is no use of retrieval. Controls say what else could explain a gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import Field

from common.outcome import Outcome
from experiments import p1_embedding_validity as p1
from experiments.analysis import attempts, controls, looks
from experiments.analysis.ends import ends, ends_in_words, flags_of, scale_of
from experiments.analysis.resampling import resampling_of
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Unavailable
from experiments.contract import Metric, Metrics, NextStep, Result, Sides, Status, Trial, Unit, Verdict
from experiments.data import batches, parts, split, universe
from experiments.domains import get_domain
from experiments.expected import Expected, Remembering, solving, unmeasured
from experiments.findings import Earlier, PhaseFindings
from experiments.power import Level
from experiments.protocol import next_steps
from experiments.protocol.identity import make_unit
from experiments.solving.choice import calibrate_batch
from experiments.solving.controls import DRAWN, Control, ask, with_controls
from experiments.solving.memory_bank import Bank
from experiments.solving.replies import failed
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo, effort, memo_seeds, planned_seeds, solve
from experiments.solving.stream import StreamConfig

NAME = "p2"
TITLE = "Retrieval utility"
QUESTION = "Does a memory of solved problems help the solver at all?"
BLOCKING = True
PROFILE = "prerequisites"
NEEDS = ("embedder", "language_model")
# Analyses of the protocol (docs/science.md, P2); what is measured beyond them is marked exploratory.
PLANNED = """
    adjusted_p mean_difference attempts_mean accuracy p bonferroni_p cliffs_delta rank_biserial ceiling_share
    floor_share above_chance_p ceiling_p smallest_effect gain_share type_match recall_at_k mrr ndcg_at_k
""".split()
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "n_problems": 96,
        "run_seeds": (100, 200),
        "n_memory": 12,
        "n_test": 4,
        "k": 2,
        "per_unit": 2,
        "max_guesses": 3,
        "controls": (),
    },
    "demo": {
        "n_problems": 360,
        "run_seeds": (100,),
        "n_memory": 30,
        "n_test": 12,
        "per_unit": 4,
        "max_guesses": 6,
        "controls": (),
    },
    "full": {},
}
CONDITIONS = ("none", "random", "recent", "semantic")
RETRIEVERS = ("semantic", "lexical")  # the gate asks of these, lexical where the controls have it
BASELINES = ("none", "random")  # whether they beat both
PROMPT_S = 1.4  # cost of a prompt, in seconds on two cores (measured at demo scale)


class Config(StreamConfig):
    """P2's protocol."""

    n_memory: int = Field(100, gt=0, description="solved problems in memory, with their right answers")
    n_test: int = Field(30, gt=1, description="problems to solve")
    k: int = Field(5, gt=0, description="memos shown")
    controls: tuple[Control, ...] = Field(
        ("lexical", "oracle", "other_families", "label_only", "shuffled_labels"),
        description="lexical retrieval, and conditions that say why memos help",
    )
    per_unit: int = Field(5, gt=0, description="test problems a unit")
    look_every: int = Field(
        0,
        ge=0,
        description="test problems between two looks, each of which may end the phase, n_test at most; 0 for one look",
    )
    alpha: float = Field(0.05, description="the gate's level, after Holm")


class Findings(PhaseFindings, phase=NAME, what="condition that helps"):
    """The condition that needs fewer attempts than no memory."""

    retrieval_helps: str


def conditions_of(config: Config) -> tuple[str, ...]:
    """Return all conditions under which a problem is solved."""
    return with_controls(CONDITIONS, config.controls)


def retrievers_of(config: Config) -> tuple[str, ...]:
    """Return the retrievers that the gate asks of."""
    return tuple(c for c in RETRIEVERS if c in conditions_of(config))


def pairs_of(config: Config) -> tuple[attempts.Pair, ...]:
    """Return the comparisons that the gate's level is adjusted for."""
    memories = dict.fromkeys((*CONDITIONS[1:], *retrievers_of(config)))
    return (*((c, "none") for c in memories), *((c, "random") for c in retrievers_of(config)))


READS = (p1.Findings,)
EXPECTED = None


def rounds(config: Config, findings: Earlier) -> list[list[Unit]]:
    """Return all units, by round: one for every few test problems, each under all conditions; a round up to each look."""
    _, test = split(config, config.n_memory, config.n_test)
    best = findings.of(p1.Findings)
    how = {"embedder": best.embedder, "text_weight": best.text_weight, "distance": best.distance}
    retrieval = RetrievalConfig(**how, k=config.k).model_dump()
    seeds = [c in DRAWN for c in conditions_of(config)]
    each = PROMPT_S * sum(len(memo_seeds(config, drawn)) for drawn in seeds) * effort(config)
    return [
        [
            make_unit(
                NAME,
                config,
                {"problems": ids, "retrieval": retrieval},
                models=[config.model, best.embedder],
                round=number,
                n_trials=len(ids) * sum(len(planned_seeds(config, drawn)) for drawn in seeds),
                cost=each * len(ids),
            )
            for ids in parts(batch, config.per_unit)
        ]
        for number, batch in enumerate(batches(test, config.look_every) if config.look_every else [test], 1)
    ]


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """Return the units of the next round; whether a look has decided the phase is asked before (flows.chain)."""
    if so_far and not config.look_every:
        return []
    done = max((u.round for u, _ in so_far), default=0)
    return next(iter(rounds(config, findings)[done:]), [])


def sides(config: Config, findings: Earlier) -> Sides:
    """Memory and test."""
    return Sides(*split(config, config.n_memory, config.n_test))


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Solve each problem under each condition, and for each run seed where it draws the memos."""
    config, domain = Config(**unit.config), get_domain(unit.config["domain"])
    retrieval = RetrievalConfig(**unit.spec["retrieval"])
    memory, _ = split(config, config.n_memory, config.n_test)
    memos = [Memo(p, p.label, i) for i, p in enumerate(memory)]
    problems = [universe(config).by_id()[i] for i in unit.spec["problems"]]
    try:
        lm = backends.language_model(config.model, precision=config.precision)
        bank = Bank(domain, memos, backends.embedder(retrieval.embedder), retrieval, config.topics)
    except Unavailable as error:
        return [
            t
            for p in problems
            for c in conditions_of(config)
            for t in failed(p, c, planned_seeds(config, c in DRAWN), error)
        ]
    trials: list[Trial] = []
    for problem in problems:
        for condition in conditions_of(config):
            for seed in memo_seeds(config, condition in DRAWN):
                found = ask(bank, NAME, condition, problem, seed)
                trials += solve(lm, domain, problem, found.memos, config, NAME, condition, found.facts, drawn=seed)
    return calibrate_batch(trials, domain, config)


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: one a problem and condition, or one for each seed that draws the memos."""
    config, problems = Config(**unit.config), unit.spec["problems"]
    return solving(config, problems, conditions_of(config), Remembering, drawn=DRAWN, more=unmeasured)


def level_of(config: Config) -> Level:
    """Return the level of one comparison."""
    return Level(config.alpha, len(pairs_of(config)))


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Attempts and accuracies of each condition, the comparisons, what the controls explain, the smallest visible effect."""
    there, pairs = {t.condition for t in trials}, pairs_of(config)
    conditions = [c for c in conditions_of(config) if c in CONDITIONS or c in RETRIEVERS or c in there]
    seen, by, scale = attempts.median_attempts(trials, conditions), resampling_of(trials, config), scale_of(config)
    table = {c: v for c, v in seen.items() if c in CONDITIONS or c in RETRIEVERS}
    values = [*attempts.per_condition(trials, seen, by), *ends(seen, scale, by), *controls.rows(trials, seen, by)]
    if config.look_every:
        values = [*looks.comparisons(table, pairs, by, scale), *looks.marked(values)]
    else:
        values += attempts.comparisons(table, pairs, by=by)
        values.append(attempts.smallest_visible(attempts.fewest_pairs(table, pairs), level_of(config)))
    errors = attempts.errors_of(trials)
    return Metrics(tuple(values), {"flags": flags_of(table, scale, by), "errors": errors[:3]})


class Answer(NamedTuple):
    """One comparison that the gate asks for: what it shows, with its adjusted p and mean difference."""

    shown: Outcome
    p: Metric
    difference: Metric

    def __str__(self) -> str:
        """Return the comparison as a reason has it."""
        return f"{self.p.condition} {self.difference.value:+.2f} attempts, adjusted p {self.p.value:.3g}"


def gate(metrics: Metrics, config: Config) -> Verdict:
    """PASS when a retriever needs fewer attempts than none and than random; FAIL when none does, all measured.

    Each comparison needs an adjusted p under alpha, and its mean and its signed ranks on the same side.
    """
    errors: list[str] = metrics.facts["errors"]
    failures, install = attempts.failures_in_words(errors), next_steps.install(errors, next_steps.WEAK)
    retrievers = retrievers_of(config)
    answers = {c: _answers(metrics, c, config) for c in retrievers}
    known = {c: found for c, found in answers.items() if len(found) == len(BASELINES)}
    ending = ends_in_words(metrics.facts["flags"])
    if not known:
        missing = [f"{c} - {b}" for c in retrievers for b in BASELINES if b not in answers[c]]
        nothing = Metric("adjusted_p", None, method="no problem has a result under both conditions")
        why = f"Too few results to compare: {', '.join(missing)}.{failures}{ending}"
        return Verdict(Status.INCONCLUSIVE, why, None, nothing, config.alpha, (install,))
    # The retriever whose weaker comparison is the strongest.
    name = min(known, key=lambda c: max(_rank(a) for a in known[c].values()))
    weakest = max(known[name].values(), key=_rank)
    if name == "semantic":
        ending = controls.copying_in_words(metrics, config.alpha) + ending
    text = f"{'; '.join(map(str, known[name].values()))} (each needs < {config.alpha}), n {weakest.difference.n}"
    shown = {a.shown for a in known[name].values()}
    if shown == {Outcome.FEWER}:
        reason = f"{name} needs fewer attempts than {' and than '.join(BASELINES)}: {text}.{ending}"
        return Verdict(Status.PASS, reason, Findings(retrieval_helps=name), weakest.p, config.alpha)
    steps = _next(metrics, weakest, config)
    why = " and ".join(a.shown.against(b) for b, a in known[name].items() if a.shown is not Outcome.FEWER)
    reason = f"{name} {why}: {text}.{ending}"
    if len(known) < len(retrievers):
        # What was not measured may be the one that helps.
        lost = ", ".join(c for c in retrievers if c not in known)
        reason = f"{lost} could not be compared. {reason}{failures}"
        return Verdict(Status.INCONCLUSIVE, reason, None, weakest.p, config.alpha, (install, *steps))
    status = Status.INCONCLUSIVE if shown <= {Outcome.FEWER, Outcome.MIXED} else Status.FAIL
    if config.look_every:
        return _looked(metrics, Verdict(status, reason, None, weakest.p, config.alpha, steps), weakest, config)
    return Verdict(status, reason, None, weakest.p, config.alpha, steps)


def _looked(metrics: Metrics, verdict: Verdict, weakest: Answer, config: Config) -> Verdict:
    """Return the verdict of a study with looks: FAIL once no retriever can save much, open until then."""
    scale, n = scale_of(config), weakest.difference.n
    if all(any(looks.saves_nothing(metrics, f"{c} - {b}", scale) for b in BASELINES) for c in retrievers_of(config)):
        why = f" Each retriever is shown to save less than {scale.room:.2f} attempts against one of them."
        return replace(verdict, status=Status.FAIL, reason=verdict.reason + why)
    why = f" Open after {n} problems, of {config.n_test} at most, with a look after every {config.look_every}."
    return replace(verdict, status=Status.INCONCLUSIVE, reason=verdict.reason + why)


def _answers(metrics: Metrics, condition: str, config: Config) -> dict[str, Answer]:
    """Return the comparisons of a condition with each baseline, those that were measured."""
    found = {}
    for baseline in BASELINES:
        pair = f"{condition} - {baseline}"
        shown = attempts.outcome(metrics, pair, config.alpha)
        p, difference = metrics.find("adjusted_p", pair), metrics.find("mean_difference", pair)
        if shown is not Outcome.UNMEASURED and p and difference:
            found[baseline] = Answer(shown, p, difference)
    return found


def _rank(answer: Answer) -> tuple[int, float, float]:
    """Order answers from the strongest to the weakest: the p, which has two sides, counts against one that costs attempts."""
    p, difference = answer.p.value, answer.difference.value
    assert p is not None and difference is not None  # noqa: S101
    place = (Outcome.FEWER, Outcome.MIXED, Outcome.OPEN, Outcome.MORE).index(answer.shown)
    return place, p if difference < 0 else 2 - p, difference


def _next(metrics: Metrics, answer: Answer, config: Config) -> tuple[NextStep, ...]:
    """The failure protocol: a new study, as large as the seen effect asks for; other problems; another embedder."""
    steps: tuple[NextStep, ...] = ()
    if (answer.difference.value or 0) < 0 and not config.look_every:  # a confidence sequence has no spread to plan by
        steps = next_steps.new_study(NAME, config, answer.difference, level_of(config), config.n_memory)
    for end, other in (("ceiling", next_steps.harder), ("floor", next_steps.easier)):
        if names := metrics.facts["flags"][end]:
            steps += other(NAME, config, f"{', '.join(names)} at the {end}")
    # The embedder is what P1 found the best of its own, so the choice is P1's.
    steps += next_steps.other_embedders("p1", next_steps.EMBEDDERS[:1])
    if config.k > 1:
        fewer = {"k": max(1, config.k - 2)}
        steps += (next_steps.command(NAME, fewer, "fewer memos distract a small model less"),)
    return steps
