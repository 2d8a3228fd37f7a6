"""E0 - which retrieval parameters bring back the most useful memos in bounded time?

    lab run e0 --scale demo
    e0  PASS  relevance 0.79 (0.74 to 0.83), needs > 0.75   all-MiniLM-L6-v2, text 0.7, k 5, cosine

A grid of embedder x text weight x k x distance is swept over the same queries. Text is embedded once an embedder and
features are read once; the grid itself is array arithmetic. The choice is constrained; the gate never stops the chain.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experiments.analysis import controls
from experiments.analysis.attempts import row
from experiments.analysis.resampling import resampling_of
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
PLANNED = tuple("relevance retrieval_time_s efficiency variance_share type_match recall_at_k mrr ndcg_at_k".split())
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"n_problems": 96, "n_memory": 18, "n_queries": 6, "embedders": ("all-MiniLM-L6-v2",)},
    "demo": {"n_problems": 360, "n_memory": 60, "n_queries": 18, "embedders": ("all-MiniLM-L6-v2",)},
    "full": {},
}
FACTORS = ("embedder", "text_weight", "k", "distance")  # of the grid
LEAST_BOUND = 1e-3  # relevance is 0 to 1; relaxing further says nothing, and would never reach a relevance of 0


class Config(PhaseConfig):
    """E0's protocol."""

    n_memory: int = Field(150, gt=0, description="problems in memory")
    n_queries: int = Field(50, gt=1, description="problems that ask")
    embedders: tuple[str, ...] = Field(
        ("all-MiniLM-L6-v2", "all-mpnet-base-v2", "paraphrase-MiniLM-L6-v2"), min_length=1, description="text embedders"
    )
    text_weights: tuple[float, ...] = Field(
        (1.0, 0.7, 0.5, 0.3, 0.0), min_length=1, description="weight of text; the rest is features"
    )
    ks: tuple[int, ...] = Field((3, 5, 7, 10), min_length=1, description="memos brought back")
    distances: tuple[Distance, ...] = Field(
        ("cosine", "euclidean", "centred", "bm25", "fused"), min_length=1, description="how likeness is measured"
    )
    relevance_threshold: float = Field(0.75, description="the gate: relevance must be above")
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


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid."""

    name: str
    retrieval: RetrievalConfig
    relevance: float  # mean over the queries
    measured_s: float  # median time of a retrieval
    time_s: float  # the same, equal for times that are nearer to each other than the resolution


class Choice(NamedTuple):
    """The configuration that was chosen, and what was relaxed for it; without one, why there is none."""

    cell: Cell | None
    note: str


READS = ()
EXPECTED = Findings(retrieval=RetrievalConfig())


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """One unit an embedder: the whole grid below it is array arithmetic."""
    if so_far:
        return []
    cells = len(config.text_weights) * len(config.ks) * len(config.distances)
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
    bank.index(config.distances)
    readings = readings_of(embedder, [q.text for q in queries], asked)
    started = time.perf_counter()
    features = features_of(domain, queries)
    features_s = (time.perf_counter() - started) / len(queries)
    trials: list[Trial] = []
    for weight, distance in itertools.product(config.text_weights, config.distances):
        started = time.perf_counter()
        scores = bank.scores(asked, features, weight, distance, [q.text for q in queries])
        ranked = top_k(scores, max(config.ks))
        search_s = (time.perf_counter() - started) / len(queries) + (features_s if weight < 1 else 0.0)
        elsewhere = top_k(np.where(own, -np.inf, scores), max(config.ks))
        for k, (i, query) in itertools.product(config.ks, enumerate(queries)):
            chosen = ranked[i, :k]
            found = relevance(domain, query, [memory[j] for j in chosen], stored[chosen])
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
    for weight, k, distance in itertools.product(config.text_weights, config.ks, config.distances):
        cell = {"embedder": name, "text_weight": weight, "k": k, "distance": distance}
        fixed[cell_name(*cell.values())] = cell
    keys = [Key(query.problem_id, cell, truth=query.label) for cell in fixed for query in queries]
    failed = [Key(query.problem_id, name, truth=query.label) for query in queries]
    return Expected(keys, Retrieved, failed=failed, fixed=fixed, more=_timeless)


@cache
def _queries(config: Config) -> list[Problem]:
    return split(config, config.n_memory, config.n_queries, "tuning").test


def _timeless(rows: Sequence[Row], details: Sequence[Retrieved]) -> str | None:
    return None if all(r.latency_s for r in rows) else "a retrieval took no time"


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Relevance, time and efficiency of every configuration, the Pareto front, factor shares, the constrained choice."""
    done = [t for t in trials if t.error is None]
    skipped = {t.condition: t.error for t in trials if t.error is not None}
    by_cell: dict[str, list[Trial]] = {}
    for t in done:
        by_cell.setdefault(t.condition, []).append(t)
    by = resampling_of(done, config)
    values: list[Metric] = []
    cells: list[Cell] = []
    for name, rows in by_cell.items():
        mean, n = by.mean({t.problem_id: t.details["relevance"] for t in rows}), len(rows)
        value, seconds = mean.value or 0.0, float(np.median([t.latency_s for t in rows]))
        values += [
            row("relevance", name, mean),
            Metric("retrieval_time_s", seconds, n=n, condition=name, method="median, measured", timing=True),
            Metric("efficiency", value / seconds, n=n, condition=name, method="relevance / s", timing=True),
            *controls.ranking_means(name, rows),
        ]
        retrieval = RetrievalConfig(**{factor: rows[0].details[factor] for factor in FACTORS})
        cells.append(Cell(name, retrieval, value, seconds, seconds))
    cells = merge_times(cells, config.time_resolution_s)
    front = _front(cells)
    chosen = choose(cells, front, config)
    for factor in FACTORS:
        share, method = _share(cells, factor), "main effect, eta squared"
        values.append(Metric("variance_share", share, n=len(cells), condition=factor, method=method))
    facts = {"front": [c.name for c in front], "chosen": chosen.cell, "relaxed": chosen.note, "skipped": skipped}
    return Metrics(tuple(values), facts)


def merge_times(cells: Sequence[Cell], resolution_s: float) -> list[Cell]:
    """Return the cells with one time for all whose times follow each other more closely than the resolution: the least.

    Rounding would split equal times at a boundary, and the choice would change from run to run.
    """
    merged: dict[str, float] = {}
    group = last = -np.inf
    for cell in sorted(cells, key=lambda c: c.measured_s):
        if cell.measured_s - last >= resolution_s:
            group = cell.measured_s
        last, merged[cell.name] = cell.measured_s, group
    return [replace(c, time_s=merged[c.name]) for c in cells]


def _front(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that no other beats in relevance without being slower."""

    def beaten(c: Cell) -> bool:
        atleast = (o for o in cells if o.relevance >= c.relevance and o.time_s <= c.time_s)
        return any(o.relevance > c.relevance or o.time_s < c.time_s for o in atleast)

    return [c for c in cells if not beaten(c)]


def choose(cells: Sequence[Cell], front: Sequence[Cell], config: Config) -> Choice:
    """Return the most relevant cell that is on the front, in time, relevant enough, and of an allowed k."""
    for group, note in ((front, ""), (cells, "no allowed k on the front; ")):
        fit = [c for c in group if c.measured_s <= config.choice_time_s and c.retrieval.k in config.choice_ks]
        bound = config.choice_relevance
        while fit and bound > LEAST_BOUND and not any(c.relevance >= bound for c in fit):
            bound *= 0.9
        if fit:
            best = max(fit, key=lambda c: (c.relevance, -c.time_s))
            lowered = f"relevance bound lowered to {bound:.2f}" if bound < config.choice_relevance else ""
            return Choice(best, (note + lowered).strip("; "))
    if not cells:
        return Choice(None, "none was measured")
    if not any(c.retrieval.k in config.choice_ks for c in cells):
        return Choice(None, f"no configuration has a k of {', '.join(map(str, config.choice_ks))}")
    return Choice(None, "no configuration is fast enough")


def _share(cells: Sequence[Cell], factor: str) -> float | None:
    """Main-effect share of variance of mean relevance: between-level sum of squares over the total."""
    found = np.array([c.relevance for c in cells])
    total = float(((found - found.mean()) ** 2).sum()) if len(found) else 0.0
    if total == 0:
        return None
    between = 0.0
    for level in dict.fromkeys(  # sums depend on the order, and the order of a set on the process
        getattr(c.retrieval, factor) for c in cells
    ):
        part = np.array([c.relevance for c in cells if getattr(c.retrieval, factor) == level])
        between += len(part) * float((part.mean() - found.mean()) ** 2)
    return between / total


def gate(metrics: Metrics, config: Config) -> Verdict:
    """Return PASS when the chosen configuration has relevance > 0.75; else the defaults are handed on."""
    chosen, skipped, threshold = metrics.facts["chosen"], metrics.facts["skipped"], config.relevance_threshold
    note = "".join(f"; {name} was skipped: {why}" for name, why in skipped.items())
    defaults = Findings(retrieval=RetrievalConfig())
    if chosen is None:
        nothing = Metric("relevance", None, method="no configuration could be measured")
        why = f"No configuration could be chosen: {metrics.facts['relaxed']}{note}; the defaults are used."
        steps = _next_without_choice(metrics, config)
        return Verdict(Status.INCONCLUSIVE, why, defaults, nothing, threshold, steps)
    main = metrics.find("relevance", chosen.name)
    assert main is not None and main.value is not None  # noqa: S101
    relaxed = f" ({metrics.facts['relaxed']})" if metrics.facts["relaxed"] else ""
    text = f"{chosen.name}: relevance {main.value:.3f} (needs > {threshold}){relaxed}{note}"
    if main.value > threshold:
        return Verdict(Status.PASS, f"{text}.", Findings(retrieval=chosen.retrieval), main, threshold)
    steps = _next(chosen.retrieval.text_weight, config)
    return Verdict(Status.FAIL, f"{text}; the defaults are used.", defaults, main, threshold, steps)


def _next(weight: float, config: Config) -> tuple[NextStep, ...]:
    """The failure protocol: weights between those that were tried, a larger memory, another embedder."""
    tried = sorted({*config.text_weights, weight, 0.0, 1.0})
    at = tried.index(weight)
    between = {round((weight + w) / 2, 4) for w in tried[max(0, at - 1) : at + 2] if w != weight}
    weights = {"text_weights": sorted({weight, *between}, reverse=True)}
    return (
        next_steps.command(NAME, weights, "finer weights around the best"),
        *next_steps.doubled(NAME, config, "n_memory", "a larger memory holds nearer problems", config.n_queries),
        *next_steps.other_embedders(NAME, config.embedders),
    )


def _next_without_choice(metrics: Metrics, config: Config) -> tuple[NextStep, ...]:
    """Return steps where none could be chosen: an embedder that loads, the protocol's k, or less to compute."""
    skipped: dict[str, str] = metrics.facts["skipped"]
    if len(skipped) == len(config.embedders):
        return (next_steps.install(skipped.values(), next_steps.BUNDLED_EMBEDDER),)
    if not set(config.ks) & set(config.choice_ks):
        ks = sorted({*config.ks, *config.choice_ks})
        return (next_steps.command(NAME, {"ks": ks}, "with a k that may be chosen"),)
    smallest = {"embedders": list(next_steps.EMBEDDERS[:1])}
    return (
        next_steps.command(NAME, smallest, "the embedder that is fastest to compute"),
        NextStep("lab assess", "what this host can do; a faster one may run the phase"),
    )
