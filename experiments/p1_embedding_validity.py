"""P1 - do embeddings put problems with the same answer near each other?

    lab run p1 --scale demo
    p1  FAIL  knn_accuracy 0.472 (0.320 to 0.630), n 36

Each candidate (experiments.solving.candidates) measures how like the problems for tuning are to those in a memory as
large as later phases use. A problem's nearest memos should share its class. What follows rests on it: semantic retrieval
cannot help where likeness of text says nothing about likeness of answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from pydantic import Field

from experiments.analysis import validity
from experiments.backends.catalog import layer_of
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
from experiments.data import Split, balanced, split
from experiments.domains import Problem, get_domain
from experiments.expected import Details, Expected, Key, Number, ReadingRecord, Row, Share
from experiments.findings import Earlier, PhaseFindings
from experiments.protocol import defects, next_steps
from experiments.protocol.identity import make_unit
from experiments.solving import neighbours
from experiments.solving.candidates import (
    BM25,
    CENTRED,
    HYBRID,
    STRUCTURE,
    TEXT,
    TFIDF,
    Candidate,
    Likeness,
    candidate,
    likeness,
    models_of,
)
from experiments.solving.neighbours import BINS
from experiments.solving.readings import readings_of
from experiments.solving.retrieval import Distance, Memory, features_of

NAME = "p1"
TITLE = "Embedding validity"
QUESTION = "Do embeddings put problems with the same answer near each other?"
BLOCKING = True
PROFILE = "prerequisites"
NEEDS = ("embedder",)
# Analyses of the protocol (docs/science.md, P1); what is measured beyond them is marked exploratory.
PLANNED = """
    knn_accuracy knn_accuracy_other_families knn_over_chance knn_accuracy_by_memory chance_accuracy auc
    auc_other_families probe_accuracy similarity_ratio within_similarity within_similarity_std between_similarity
    between_similarity_std separation silhouette
""".split()
# Fixed before any run: raw and centred vectors, features alone, words alone (two ways), text and features.
STATES = "lm:smollm2-135m@20"  # of 30 layers: the review measured it (docs/science.md, "Known limits of protocol 1")
SMALL = (TEXT, CENTRED, STRUCTURE, TFIDF, BM25, HYBRID)
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"n_problems": 96, "n_memory": 12, "n_queries": 12, "embedders": SMALL},
    "demo": {"n_problems": 360, "n_memory": 48, "n_queries": 36, "embedders": SMALL},
    "full": {},
}
# Seconds on two cores (measured, big_o): to embed a text, by a language model too; all else of a unit for a pair.
EMBED_S, STATES_S, FIXED_S, PAIR_S = 0.06, 0.25, 4.0, 5e-5


class Config(PhaseConfig):
    """P1's protocol."""

    n_memory: int = Field(1500, gt=0, description="problems in memory, as many as E1's")
    n_queries: int = Field(180, gt=1, description="problems whose nearest memos are looked at")
    embedders: tuple[str, ...] = Field(
        (*SMALL, "all-mpnet-base-v2", STATES),
        min_length=1,
        description="candidates: embedders, lm:MODEL@LAYER, centred, structure, tfidf, bm25, hybrid, hybrid:X+structure",
    )
    k: int = Field(5, gt=0, description="neighbours of the classifier")
    knn_threshold: float = Field(0.70, description="kNN accuracy must be above")


class Findings(PhaseFindings, phase=NAME, what="embedder"):
    """The best candidate, and how it is used: the parameters of retrieval without k."""

    embedder: str
    text_weight: float  # of text similarity; the rest is features
    distance: Distance = "cosine"


READS = ()
EXPECTED = Findings(embedder=TEXT, text_weight=1.0)


def _sides(config: Config) -> Split:
    return split(config, config.n_memory, config.n_queries, "tuning")


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """Return one unit a candidate."""
    if so_far:
        return []
    return [
        make_unit(
            NAME,
            config,
            {"embedder": name},
            models=models_of([name]),
            n_trials=config.n_queries,
            cost=cost_of(candidate(name), config),
        )
        for name in config.embedders
    ]


def cost_of(one: Candidate, config: Config) -> float:
    """Return the seconds that a candidate takes on two cores."""
    each = (STATES_S if layer_of(one.embedder) else EMBED_S) if one.embeds else 0.0
    return FIXED_S + each * (config.n_memory + config.n_queries) + PAIR_S * config.n_memory * config.n_queries


def sides(config: Config, findings: Earlier) -> Sides:
    """Memory and tuning."""
    return Sides(*_sides(config))


def memory_sizes(config: Config) -> list[int]:
    """Return the sizes of memory at which kNN is measured: one problem of each class, doubled up to all."""
    sizes, size = [config.n_memory], len(get_domain(config.domain).options)
    while size < config.n_memory:
        sizes.insert(-1, size)
        size *= 2
    return sizes


def first_memos(memory: Sequence[Problem], n: int, config: Config) -> list[int]:
    """Return the places of the first n problems in memory: of each class the same number, or its share if natural.

    Those for a smaller n are among those for a larger one.
    """
    if n >= len(memory) or config.balance == "natural":
        return list(range(min(n, len(memory))))
    chosen = {p.problem_id for p in balanced(memory, n)}
    return [i for i, p in enumerate(memory) if p.problem_id in chosen]


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Find the nearest memos of every query: one trial each, with their labels and what the analysis needs of all others."""
    config, name = Config(**unit.config), unit.spec["embedder"]
    one, domain, (memory, queries) = candidate(name), get_domain(config.domain), _sides(config)
    stored, asked = ([p.text for p in side] for side in (memory, queries))
    vectors = np.zeros((len(memory) + len(queries), 1))
    seconds: Sequence[float | None] = [None] * len(queries)
    readings: Sequence[Json] = [{}] * len(queries)
    if one.embeds:
        try:
            embedder = backends.embedder(one.embedder)
            vectors, took = embedder.embed([*stored, *asked])
        except Unavailable as error:
            return [Trial(q.problem_id, name, truth=q.label, error=str(error)) for q in queries]
        read = readings_of(embedder, [*stored, *asked], vectors)[len(memory) :]
        seconds, readings = took[len(memory) :], [{"reading": r} for r in read]
    features = features_of(domain, [*memory, *queries])

    def against(places: Sequence[int]) -> Likeness:
        bank = Memory(vectors[places], features[places], [stored[i] for i in places])
        return likeness(one, bank, vectors[len(memory) :], features[len(memory) :], asked)

    labels = np.array([p.label for p in memory], dtype=object)
    nearest: list[dict[str, list[str]]] = [{} for _ in queries]
    whole = against(range(len(memory)))
    for size in memory_sizes(config):
        places = first_memos(memory, size, config)
        scores = whole.scores if size == config.n_memory else against(places).scores
        for i, found in enumerate(neighbours.nearest_labels(scores, labels[places], config.k)):
            nearest[i][str(size)] = found
    seen = _seen(whole, memory, queries, config)
    return [
        Trial(
            q.problem_id,
            name,
            truth=q.label,
            latency_s=seconds[i],
            details={"group": q.group, "nearest": nearest[i], **seen[i], **readings[i]},
        )
        for i, q in enumerate(queries)
    ]


def _seen(whole: Likeness, memory: Sequence[Problem], queries: Sequence[Problem], config: Config) -> list[Json]:
    """Return what the whole memory shows of each query, beside its nearest memos."""
    labels, groups = (np.array([getattr(p, a) for p in memory], dtype=object) for a in ("label", "group"))
    others = np.array([groups != q.group for q in queries])
    elsewhere = neighbours.nearest_labels(whole.scores, labels, config.k, others)
    found: list[Json] = [
        {
            "nearest_other_families": elsewhere[i],
            "auc": neighbours.auc(scores, labels == q.label),
            "auc_other_families": neighbours.auc(scores[others[i]], labels[others[i]] == q.label),
        }
        for i, (q, scores) in enumerate(zip(queries, whole.scores, strict=True))
    ]
    if whole.queries is None or whole.memory is None:
        return found
    points = neighbours.on_a_map(whole.queries, config.data_seed)
    probe = neighbours.probed(whole.memory, whole.queries, labels)
    for i, (q, cosines) in enumerate(zip(queries, whole.scores, strict=True)):
        found[i] |= neighbours.of_classes(cosines, q.label, labels)._asdict()
        found[i] |= {"histogram": neighbours.histogram(cosines, q.label, labels)._asdict(), "map": points[i].tolist()}
        found[i] |= {"probe": probe[i]} if probe else {}
    return found


class HistogramRecord(Details):
    """Memos by their cosine with a query, in bins from -1 to 1: those of its class, and the others."""

    within: list[int] = Field(min_length=BINS, max_length=BINS)
    between: list[int] = Field(min_length=BINS, max_length=BINS)


class Measured(Details):
    """Of a query, what the analysis reads; the numbers of a candidate without vectors end with AUC."""

    group: str
    nearest: dict[str, list[str]]  # size of memory -> labels, nearest first
    nearest_other_families: list[str]
    auc: Share | None
    auc_other_families: Share | None
    within: Number | None = None
    within_square: Number | None = None
    between: Number | None = None
    between_square: Number | None = None
    silhouette: Number | None = None
    probe: str | None = None
    histogram: HistogramRecord | None = None
    map: list[Number] | None = Field(None, min_length=2, max_length=2)
    reading: ReadingRecord | None = None


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: one a query."""
    name, config = unit.spec["embedder"], Config(**unit.config)
    keys = [Key(q.problem_id, name, truth=q.label) for q in _queries(config)]
    sizes = {str(size): min(config.k, size) for size in memory_sizes(config)}

    def wrong(rows: Sequence[Row], details: Sequence[Measured]) -> str | None:
        options = set(get_domain(config.domain).options)
        for one in details:
            if {size: len(found) for size, found in one.nearest.items()} != sizes:
                return (
                    f"a query has neighbours in memories of {', '.join(one.nearest)[:80]}, asked for {', '.join(sizes)}"
                )
            if not options.issuperset(chain(*one.nearest.values(), one.nearest_other_families)):
                return "a neighbour has a label that the domain does not have"
        return None

    return Expected(keys, Measured, more=wrong)


@cache
def _queries(config: Config) -> list[Problem]:
    return _sides(config).test


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Measure every candidate: kNN, its learning curve, AUC, probe, and protocol 1's similarities."""
    values: list[Metric] = []
    skipped: dict[str, str] = {}
    for name in config.embedders:
        mine = [t for t in trials if t.condition == name]
        failed = [t for t in mine if t.error is not None]
        if failed:
            skipped[name] = failed[0].error or ""
        done = [t for t in mine if t.error is None]
        if done:
            values += validity.of_candidate(name, done, len(failed), config)
    done = list({t.problem_id: t for t in trials if t.error is None}.values())
    values += [validity.chance(done)] if done else []
    return Metrics(tuple(values), {"skipped": skipped, "embedders": list(config.embedders)})


def gate(metrics: Metrics, config: Config) -> Verdict:
    """Return PASS when the best candidate has kNN accuracy > 0.70 and the lower end of its interval above chance."""
    skipped: dict[str, str] = metrics.facts["skipped"]
    found = {m.condition: m for m in metrics.values if m.metric == "knn_accuracy"}
    note = "".join(f"; {name} was skipped: {why}" for name, why in skipped.items())
    if not found:
        empty = Metric("knn_accuracy", None, method="no embedder could be loaded")
        install = next_steps.install(skipped.values(), next_steps.BUNDLED_EMBEDDER)
        why = f"No embedder could be loaded{note}."
        return Verdict(Status.INCONCLUSIVE, why, None, empty, config.knn_threshold, (install,))
    # The first of equals is the one that is named first.
    best = max(found, key=lambda name: (not defects.beyond(metrics, name), found[name].value or 0.0))
    main, chance = found[best], metrics.find("chance_accuracy")
    value, low, bound = main.value or 0.0, main.low, (chance.value if chance else None) or 0.0
    passed = value > config.knn_threshold and low is not None and low > bound
    end = "no interval" if low is None else f"interval from {low:.2f}"
    why = (
        f"{best}: kNN accuracy {value:.2f} (needs > {config.knn_threshold}), {end} (needs > {bound:.2f}, chance){note}."
    )
    why += f" {_in_protocol_1(metrics.find('similarity_ratio', best))}"
    handed_on = Findings(**candidate(best).model_dump())
    status, steps = (Status.PASS, ()) if passed else (Status.FAIL, _next(config))
    return Verdict(status, why, handed_on, main, config.knn_threshold, steps)


def _in_protocol_1(ratio: Metric | None) -> str:
    """Return the similarity ratio as a sentence: protocol 1's criterion, which decides nothing now."""
    rule = f"protocol 1 asked for > {validity.RATIO_OF_PROTOCOL_1}"
    if ratio is None or ratio.value is None:
        return f"Its similarity ratio is undefined ({ratio.method if ratio else 'not measured'}; {rule})."
    return f"Its similarity ratio is {ratio.value:.3f} ({rule}, and it decides nothing now)."


def _next(config: Config) -> tuple[NextStep, ...]:
    """The failure protocol: embedders that were not tried, hybrid always among them; other problems, a larger memory.

    Where nothing of these is left: a layer of the language model, whose states hold more of a text than a sentence's vector.
    """
    larger = "a larger memory holds nearer problems, and other problems ask it"
    more = next_steps.others_doubled(NAME, config, "n_memory", larger, config.n_queries)
    if not more and (config.domain, config.names) == ("big_o", "neutral"):
        more = next_steps.easier(NAME, config, "big_o makes no more problems")
    found = (*next_steps.other_embedders(NAME, config.embedders, [HYBRID]), *more)
    if found or STATES in config.embedders:
        return found
    return (next_steps.command(NAME, {"embedders": [STATES, HYBRID]}, "a layer of the language model as the embedder"),)
