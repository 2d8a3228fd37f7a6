"""E0 - which retrieval parameters bring back the most useful memos in bounded time?

    lab run e0 --scale demo
    e0  FAIL  relevance 0.612 (0.528 to 0.704), n 18

A grid of embedder x text weight x k x distance is swept over the same queries. Text is embedded once an embedder and
features are read once; the grid itself is array arithmetic. Half of the queries choose a cell within bounds; the other half
says how relevant it is, and the gate looks at that. The gate never stops the chain.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experiments.analysis import controls, e0_choice
from experiments.analysis.attempts import row
from experiments.analysis.e0_choice import FACTORS, Bounds, Cell
from experiments.analysis.resampling import Resampling, resampling_of
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Unavailable
from experiments.contract import (
    Json,
    Metric,
    Metrics,
    NextStep,
    PhaseConfig,
    Result,
    Sides,
    Status,
    Trial,
    Unit,
    Verdict,
)
from experiments.data import split
from experiments.domains import Domain, Problem, get_domain
from experiments.expected import Details, Expected, Key, Number, ReadingRecord, Row, Share
from experiments.findings import Earlier, PhaseFindings
from experiments.halves import held_out
from experiments.protocol import next_steps
from experiments.protocol.identity import make_unit
from experiments.solving.choice import attempts_of_vote
from experiments.solving.ranking import ranking_of
from experiments.solving.readings import readings_of
from experiments.solving.retrieval import (
    BY_WORDS_ALONE,
    Distance,
    Memory,
    RetrievalConfig,
    features_of,
    relevance,
    top_k,
)

NAME = "e0"
TITLE = "Retrieval parameters"
QUESTION = "Which retrieval parameters bring back the most useful memos in bounded time?"
BLOCKING = False
PROFILE = "e0_e1"
NEEDS = ("embedder",)
# Analyses of the protocol (docs/science.md, E0); what is measured beyond them is marked exploratory.
PLANNED = """
relevance relevance_choosing optimism retrieval_time_s efficiency variance_share type_match recall_at_k mrr ndcg_at_k
""".split()
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"n_problems": 96, "n_memory": 12, "n_queries": 6, "embedders": ("all-MiniLM-L6-v2",)},
    "demo": {"n_problems": 360, "n_memory": 48, "n_queries": 36, "embedders": ("all-MiniLM-L6-v2",)},
    "full": {},
}


class Config(PhaseConfig):
    """E0's protocol."""

    n_memory: int = Field(1500, gt=0, description="problems in memory, as many as E1 has")
    n_queries: int = Field(100, gt=1, description="problems that ask: half of them choose, the others are held out")
    embedders: tuple[str, ...] = Field(
        ("all-MiniLM-L6-v2", "all-mpnet-base-v2", "paraphrase-MiniLM-L6-v2"), min_length=1, description="text embedders"
    )
    text_weights: tuple[float, ...] = Field(
        (1.0, 0.7, 0.5, 0.3, 0.0), min_length=1, description="weight of text; the rest is features"
    )
    ks: tuple[int, ...] = Field(
        (1, 3, 5, 7, 10, 20), min_length=1, description="memos brought back, at most what is in memory"
    )
    distances: tuple[Distance, ...] = Field(
        ("cosine", "euclidean", "centred", "bm25", "fused"), min_length=1, description="how likeness is measured"
    )
    relevance_threshold: float = Field(0.75, description="the gate: relevance must be above, on held-out queries")
    choice_time_s: float = Field(0.100, description="the choice: retrieval time at most")
    choice_relevance: float = Field(0.7, description="the choice: relevance at least, relaxed by x0.9 until one fits")
    choice_ks: tuple[int, ...] = Field((5, 7), description="the choice: k one of")
    time_resolution_s: float = Field(
        0.005, description="times nearer than this are equal: shared cores measure no finer"
    )


class Findings(PhaseFindings, phase=NAME, what="retrieval parameters"):
    """The parameters of later phases' retrieval: as chosen, or the protocol's where the gate does not pass."""

    retrieval: RetrievalConfig

    def doubted(self) -> Self:
        """Return the protocol's parameters."""
        return self.model_copy(update={"retrieval": RetrievalConfig()})


READS = ()
EXPECTED = Findings(retrieval=RetrievalConfig())


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """One unit an embedder: the whole grid below it is array arithmetic."""
    if so_far:
        return []
    cells = len(list(grid(config)))
    return [
        make_unit(
            NAME,
            config,
            {"embedder": name},
            models=[name],
            n_trials=cells * config.n_queries,
            cost=4 + 0.06 * (config.n_memory + config.n_queries),
        )
        for name in config.embedders
    ]


class Point(NamedTuple):
    """A configuration of the grid, but for its embedder."""

    text_weight: float
    k: int
    distance: Distance


def grid(config: Config) -> Iterator[Point]:
    """Yield the configurations of every embedder."""
    return itertools.starmap(Point, itertools.product(config.text_weights, ks_of(config.ks, config), config.distances))


def ks_of(ks: Sequence[int], config: Config) -> tuple[int, ...]:
    """Return each k, but no more than the memory has; those that become equal once."""
    return tuple(dict.fromkeys(min(k, config.n_memory) for k in ks))


def cell_name(embedder: str, weight: float, k: int, distance: str) -> str:
    """One configuration as the condition of its trials."""
    return f"{embedder} | text {weight:g} | k {k} | {distance}"


def sides(config: Config, findings: Earlier) -> Sides:
    """Memory and tuning."""
    return Sides(*split(config, config.n_memory, config.n_queries, "tuning"))


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """One trial a configuration and query: relevance of what came back, and the time of the retrieval."""
    config, name = Config(**unit.config), unit.spec["embedder"]
    domain = get_domain(config.domain)
    memory, queries = split(config, config.n_memory, config.n_queries, "tuning")
    try:
        embedder = backends.embedder(name)
    except Unavailable as error:
        return [Trial(q.problem_id, name, truth=q.label, error=str(error)) for q in queries]
    stored, _ = embedder.embed([p.text for p in memory])
    asked, embedding_s = embedder.embed([q.text for q in queries])
    bank = Memory(stored, features_of(domain, memory), [p.text for p in memory])
    labels, groups = (np.array([getattr(p, name) for p in memory], dtype=object) for name in ("label", "group"))
    own = np.array([groups == q.group for q in queries])
    ks, held = ks_of(config.ks, config), held_out(queries, config.data_seed)
    bank.index(config.distances)
    readings = readings_of(embedder, [q.text for q in queries], asked)
    started = time.perf_counter()
    features = features_of(domain, queries)
    features_s = (time.perf_counter() - started) / len(queries)
    trials: list[Trial] = []
    for weight, distance in itertools.product(config.text_weights, config.distances):
        started = time.perf_counter()
        scores = bank.scores(asked, features, weight, distance, [q.text for q in queries])
        ranked = top_k(scores, max(ks))
        search_s = (time.perf_counter() - started) / len(queries) + (features_s if weight < 1 else 0.0)
        elsewhere = top_k(np.where(own, -np.inf, scores), max(ks))
        for k, (i, query) in itertools.product(ks, enumerate(queries)):
            chosen = ranked[i, :k]
            found = relevance(domain, query, [memory[j] for j in chosen], bank.likeness[np.ix_(chosen, chosen)])
            others = [j for j in elsewhere[i, :k] if not own[i, j]]
            cell = cell_name(name, weight, k, distance)
            trials.append(
                Trial(
                    query.problem_id,
                    cell,
                    truth=query.label,
                    latency_s=search_s + (embedding_s[i] if weight > 0 and distance not in BY_WORDS_ALONE else 0.0),
                    details={
                        "embedder": name,
                        "text_weight": weight,
                        "k": k,
                        "distance": distance,
                        "group": query.group,
                        "held_out": query.problem_id in held,
                        "relevance": found.total,
                        "type_match": found.type_match,
                        "solution_similarity": found.solution_similarity,
                        "diversity": found.diversity,
                        **_ranked(domain, query, labels, chosen),
                        "type_match_other_families": float(np.mean(labels[others] == query.label)) if others else None,
                        **({} if trials and trials[0].condition != cell else {"reading": readings[i]}),
                    },
                )
            )
    return trials


def _ranked(domain: Domain, query: Problem, labels: NDArray[np.object_], chosen: NDArray[np.intp]) -> Json:
    """Measure a ranking of memos by their labels, and their vote where answers are chosen."""
    ranking = ranking_of([labels[j] == query.label for j in chosen], int((labels == query.label).sum()))
    if domain.answers != "choice":
        return ranking._asdict()
    vote = attempts_of_vote([str(labels[j]) for j in chosen], domain.options, query.label)
    return {**ranking._asdict(), "vote_first_right": vote.first_right}


class Retrieved(Details):
    """Of a query under one configuration, what the analysis reads."""

    embedder: str
    text_weight: float
    k: int
    distance: str
    group: str
    held_out: bool
    relevance: Number
    type_match: Share
    recall: Share | None
    reciprocal_rank: Share | None
    ndcg: Share | None
    vote_first_right: Share | None = None
    type_match_other_families: Share | None
    reading: ReadingRecord | None = None  # in the first configuration of an embedder


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: one a configuration and query; one a query where the embedder is missing."""
    config, name = Config(**unit.config), unit.spec["embedder"]
    queries, fixed = _queries(config), {}
    for point in grid(config):
        fixed[cell_name(name, *point)] = {"embedder": name, **point._asdict()}
    keys = [Key(query.problem_id, cell, truth=query.label) for cell in fixed for query in queries]
    failed = [Key(query.problem_id, name, truth=query.label) for query in queries]
    return Expected(keys, Retrieved, failed=failed, fixed=fixed, more=partial(_wrong, config))


@cache
def _queries(config: Config) -> list[Problem]:
    return split(config, config.n_memory, config.n_queries, "tuning").test


def _wrong(config: Config, rows: Sequence[Row], details: Sequence[Retrieved]) -> str | None:
    """Find a retrieval that took no time, or a query in another half or family than its own."""
    queries = _queries(config)
    held, groups = held_out(queries, config.data_seed), {q.problem_id: q.group for q in queries}
    for trial, one in zip(rows, details, strict=True):
        if not trial.latency_s:
            return "a retrieval took no time"
        if (one.held_out, one.group) != (trial.problem_id in held, groups[trial.problem_id]):
            return f"query {trial.problem_id} is of another half or family"
    return None


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Relevance, time and efficiency of every configuration, the Pareto front, factor shares, the constrained choice.

    `relevance` and the measures of rankings are of the queries held out, `relevance_choosing` is of the others; of these are
    the front, the shares and the choice.
    """
    done = [t for t in trials if t.error is None]
    skipped = {t.condition: t.error for t in trials if t.error is not None}
    by_cell: dict[str, list[Trial]] = {}
    for t in done:
        by_cell.setdefault(t.condition, []).append(t)
    by = resampling_of(done, config)
    values: list[Metric] = []
    cells: list[Cell] = []
    for name, rows in by_cell.items():
        seconds = float(np.median([t.latency_s for t in rows]))
        values += _of_cell(name, rows, seconds, by)
        if chose := _relevance(rows, held=False):
            retrieval = RetrievalConfig(**{factor: rows[0].details[factor] for factor in FACTORS})
            cells.append(Cell(name, retrieval, float(np.mean(list(chose.values()))), seconds, seconds))
    cells = e0_choice.merge_times(cells, config.time_resolution_s)
    front = e0_choice.front(cells)
    bounds = Bounds(config.choice_time_s, config.choice_relevance, ks_of(config.choice_ks, config))
    chosen = e0_choice.choose(cells, front, bounds)
    if chosen.cell is not None:
        rows = by_cell[chosen.cell.name]
        gained = e0_choice.optimism(_relevance(rows, held=False), _relevance(rows, held=True), by)
        values.append(row("optimism", chosen.cell.name, gained))
    for factor in FACTORS:
        share, method = e0_choice.variance_share(cells, factor), "main effect, eta squared, on the half that chooses"
        values.append(Metric("variance_share", share, n=len(cells), condition=factor, method=method))
    facts = {"front": [c.name for c in front], "chosen": chosen.cell, "relaxed": chosen.note, "skipped": skipped}
    return Metrics(tuple(values), facts)


def _relevance(trials: Sequence[Trial], held: bool) -> dict[str, float]:
    """Return the relevance of each query of one half."""
    return {t.problem_id: t.details["relevance"] for t in trials if t.details["held_out"] == held}


def _of_cell(name: str, trials: Sequence[Trial], seconds: float, by: Resampling) -> list[Metric]:
    mean, chose = by.mean(_relevance(trials, held=True)), list(_relevance(trials, held=False).values())
    efficiency = None if mean.value is None else mean.value / seconds
    half = "mean over the half that chooses" if chose else "no query that chooses"
    return [
        row("relevance", name, mean, note=", queries held out"),
        Metric(
            "relevance_choosing", float(np.mean(chose)) if chose else None, n=len(chose), condition=name, method=half
        ),
        Metric("retrieval_time_s", seconds, n=len(trials), condition=name, method="median, measured", timing=True),
        Metric("efficiency", efficiency, n=mean.n, condition=name, method="relevance / s", timing=True),
        *controls.ranking_means(name, [t for t in trials if t.details["held_out"]]),
    ]


def gate(metrics: Metrics, config: Config) -> Verdict:
    """Return PASS if the chosen configuration has relevance > 0.75 on held-out queries; else the defaults are handed on."""
    chosen, skipped, threshold = metrics.facts["chosen"], metrics.facts["skipped"], config.relevance_threshold
    note = "".join(f"; {name} was skipped: {why}" for name, why in skipped.items())
    defaults = Findings(retrieval=RetrievalConfig())
    if chosen is None:
        nothing = Metric("relevance", None, method="no configuration could be measured")
        why = f"No configuration could be chosen: {metrics.facts['relaxed']}{note}; the defaults are used."
        steps = _next_without_choice(metrics, config)
        return Verdict(Status.INCONCLUSIVE, why, defaults, nothing, threshold, steps)
    main, chose = (metrics.find(name, chosen.name) for name in ("relevance", "relevance_choosing"))
    assert main is not None and chose is not None  # noqa: S101
    relaxed = f" ({metrics.facts['relaxed']})" if metrics.facts["relaxed"] else ""
    looked = f"{chosen.relevance:.3f} on the {chose.n} that chose it"
    if main.value is None:
        why = f"{chosen.name} has no held-out query; {looked}{relaxed}{note}; the defaults are used."
        return Verdict(Status.INCONCLUSIVE, why, defaults, main, threshold, _next(chosen.retrieval.text_weight, config))
    on = f"relevance {main.value:.3f} on {main.n} held-out queries (needs > {threshold})"
    text = f"{chosen.name}: {on}, {looked}{relaxed}{note}"
    if main.value > threshold:
        return Verdict(Status.PASS, f"{text}.", Findings(retrieval=chosen.retrieval), main, threshold)
    steps = _next(chosen.retrieval.text_weight, config)
    return Verdict(Status.FAIL, f"{text}; the defaults are used.", defaults, main, threshold, steps)


def _next(weight: float, config: Config) -> tuple[NextStep, ...]:
    """The failure protocol: weights between those that were tried, another embedder. The memory's size is that of E1."""
    tried = sorted({*config.text_weights, weight, 0.0, 1.0})
    at = tried.index(weight)
    between = {round((weight + w) / 2, 4) for w in tried[max(0, at - 1) : at + 2] if w != weight}
    weights = {"text_weights": sorted({weight, *between}, reverse=True)}
    return (
        next_steps.command(NAME, weights, "finer weights around the best"),
        *next_steps.other_embedders(NAME, config.embedders),
    )


def _next_without_choice(metrics: Metrics, config: Config) -> tuple[NextStep, ...]:
    """Return steps where none could be chosen: an embedder that loads, the protocol's k, or less to compute."""
    skipped: dict[str, str] = metrics.facts["skipped"]
    if len(skipped) == len(config.embedders):
        return (next_steps.install(skipped.values(), next_steps.BUNDLED_EMBEDDER),)
    if not set(ks_of(config.ks, config)) & set(ks_of(config.choice_ks, config)):
        ks = sorted({*config.ks, *config.choice_ks})
        return (next_steps.command(NAME, {"ks": ks}, "with a k that may be chosen"),)
    smallest = {"embedders": list(next_steps.EMBEDDERS[:1])}
    return (
        next_steps.command(NAME, smallest, "the embedder that is fastest to compute"),
        NextStep("lab assess", "what this host can do; a faster one may run the phase"),
    )
