"""P1 - do embeddings put problems with the same answer near each other?

    lab run p1 --scale demo
    p1  PASS  similarity_ratio 1.31 (1.24 to 1.39), needs > 1.2   all-MiniLM-L6-v2, n 60

Each embedder turns every problem's text into a vector; problems of one class should be more alike than problems of
different classes, and a problem's nearest neighbours should share its class. What follows rests on it: semantic
retrieval cannot help where likeness of text says nothing about likeness of answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experiments import statistics
from experiments.analysis.attempts import row
from experiments.analysis.resampling import resampling_of
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Unavailable
from experiments.contract import Metric, Metrics, NextStep, PhaseConfig, Result, Sides, Status, Trial, Unit, Verdict
from experiments.data import balanced, zones_of
from experiments.domains import Problem, get_domain
from experiments.expected import Details, Expected, Key, Number, ReadingRecord, Row
from experiments.findings import Earlier, PhaseFindings
from experiments.protocol import defects, next_steps
from experiments.protocol.identity import make_unit
from experiments.seeds import generator, seed_for
from experiments.solving.readings import readings_of
from experiments.solving.retrieval import Scale, features_of, unit_rows

NAME = "p1"
TITLE = "Embedding validity"
QUESTION = "Do embeddings put problems with the same answer near each other?"
BLOCKING = True
PROFILE = "prerequisites"
NEEDS = ("embedder",)
# Analyses of the protocol (docs/science.md, P1); what is measured beyond them is marked exploratory.
PLANNED = """
    similarity_ratio knn_accuracy knn_accuracy_groupwise within_similarity within_similarity_std
    between_similarity between_similarity_std separation silhouette
""".split()
SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"n_problems": 96, "per_class": 5, "embedders": ("all-MiniLM-L6-v2", "hybrid")},
    "demo": {"n_problems": 360, "per_class": 12, "embedders": ("all-MiniLM-L6-v2", "hybrid")},
    "full": {},
}
HYBRID = "hybrid"
HYBRID_TEXT = "all-MiniLM-L6-v2"
HYBRID_TEXT_WEIGHT = 0.5  # text and features alike
MAPPED = 4  # different vectors that t-SNE needs; fewer stand in a row
NOISE = 1e-9  # a mean cosine below it is zero: float64 leaves some 1e-17 where vectors are orthogonal


class Config(PhaseConfig):
    """P1's protocol."""

    per_class: int = Field(17, ge=4, description="problems of each class; 17 x 6 is the protocol's 100, made equal")
    embedders: tuple[str, ...] = Field(
        ("all-MiniLM-L6-v2", "all-mpnet-base-v2", HYBRID), min_length=1, description="hybrid is text and features"
    )
    k: int = Field(5, gt=0, description="neighbours of the classifier")
    test_share: float = Field(0.3, gt=0, lt=1, description="of the classifier's split")
    ratio_threshold: float = Field(1.2, description="within / between similarity must be above")
    knn_threshold: float = Field(0.70, description="kNN accuracy must be above")


class Findings(PhaseFindings, phase=NAME, what="embedder"):
    """The best embedder, and how it is used."""

    embedder: str
    text_weight: float  # of text similarity; the rest is features


READS = ()
EXPECTED = Findings(embedder=HYBRID_TEXT, text_weight=1.0)


def _problems(config: Config) -> list[Problem]:
    """Return problems for tuning, then of the memory; those that later phases report on only where all are asked for."""
    zones, n = zones_of(config), config.per_class * len(get_domain(config.domain).options)
    return balanced((*zones.tuning, *zones.memory, *zones.test), n)


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """Return one unit an embedder."""
    if so_far:
        return []
    problems = _problems(config)
    return [
        make_unit(
            NAME,
            config,
            {"embedder": name},
            models=[HYBRID_TEXT if name == HYBRID else name],
            n_trials=len(problems),
            cost=4 + 0.06 * len(problems),
        )
        for name in config.embedders
    ]


def sides(config: Config, findings: Earlier) -> Sides:
    """Return all problems as one side: the classifier is split within them, and likeness is between any two."""
    return Sides(_problems(config), None)


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Embed every problem: one trial each, with its vector and its point on the 2-D map."""
    config = Config(**unit.config)
    name, domain = unit.spec["embedder"], get_domain(config.domain)
    problems = _problems(config)
    texts = [p.text for p in problems]
    try:
        embedder = backends.embedder(HYBRID_TEXT if name == HYBRID else name)
        text, seconds = embedder.embed(texts)
    except Unavailable as error:
        return [Trial(p.problem_id, name, truth=p.label, error=str(error)) for p in problems]
    readings = readings_of(embedder, texts, text)
    if name == HYBRID:
        raw = features_of(domain, problems)
        numbers = unit_rows(Scale.of(raw).apply(raw))
        text = np.hstack([np.sqrt(HYBRID_TEXT_WEIGHT) * text, np.sqrt(1 - HYBRID_TEXT_WEIGHT) * numbers])
    points = _map(text, config.data_seed)
    return [
        Trial(
            p.problem_id,
            name,
            truth=p.label,
            latency_s=seconds[i],
            details={"vector": text[i].tolist(), "map": points[i].tolist(), "group": p.group, "reading": readings[i]},
        )
        for i, p in enumerate(problems)
    ]


class Embedded(Details):
    """Of a trial's problem, what the analysis reads."""

    vector: list[Number] = Field(min_length=1, max_length=2**16)
    group: str
    reading: ReadingRecord | None = None


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: one a problem."""
    name = unit.spec["embedder"]
    keys = [Key(p.problem_id, name, truth=p.label) for p in _problems(Config(**unit.config))]
    return Expected(keys, Embedded, more=_of_several_lengths)


def _of_several_lengths(rows: Sequence[Row], details: Sequence[Embedded]) -> str | None:
    lengths = {len(one.vector) for one in details}
    return f"vectors of {min(lengths)} and of {max(lengths)} numbers" if len(lengths) > 1 else None


def _map(vectors: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Map to two dimensions by t-SNE (van der Maaten and Hinton 2008), for the plot only; equal vectors are one point.

    The exact method: the approximate one divides space until each point is alone, and crashes where two are equal.
    """
    from sklearn.manifold import TSNE

    different, of = np.unique(np.round(vectors, 9), axis=0, return_inverse=True)
    if len(different) < MAPPED:
        return np.column_stack([np.arange(float(len(different))), np.zeros(len(different))])[of.ravel()]
    perplexity = min(30.0, (len(different) - 1) / 3)
    fitted = TSNE(2, perplexity=perplexity, random_state=seed, init="pca", method="exact").fit_transform(different)
    return np.asarray(fitted, dtype=np.float64)[of.ravel()]


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Measure similarities, ratio, kNN accuracy (random and group-wise split) and silhouette of every embedder."""
    values: list[Metric] = []
    skipped: dict[str, str] = {}
    for name in config.embedders:
        mine = [t for t in trials if t.condition == name]
        failed = [t for t in mine if t.error is not None]
        if failed:
            skipped[name] = failed[0].error or ""
        done = [t for t in mine if t.error is None]
        if done:
            values += _of_embedder(name, done, len(failed), config)
    return Metrics(tuple(values), {"skipped": skipped, "embedders": list(config.embedders)})


def _of_embedder(name: str, trials: Sequence[Trial], failed: int, config: Config) -> list[Metric]:
    vectors = unit_rows(np.array([t.details["vector"] for t in trials]))
    labels = np.array([t.truth for t in trials])
    groups = np.array([t.details["group"] for t in trials])
    cosine, n = vectors @ vectors.T, len(trials)
    drawn_by = resampling_of(trials, config).of([t.problem_id for t in trials])
    upper = np.triu_indices(n, 1)
    same = (labels[:, None] == labels[None, :])[upper]
    within, between = cosine[upper][same], cosine[upper][~same]
    rows = [
        Metric("within_similarity", float(within.mean()), n=n, condition=name, method="mean cosine"),
        Metric("within_similarity_std", float(within.std()), n=n, condition=name, method="standard deviation"),
        Metric("between_similarity", float(between.mean()), n=n, condition=name, method="mean cosine"),
        Metric("between_similarity_std", float(between.std()), n=n, condition=name, method="standard deviation"),
        Metric("separation", float(within.mean() - between.mean()), n=n, condition=name, method="within - between"),
        row("similarity_ratio", name, _ratio(cosine, labels, name, drawn_by, config), failed),
    ]
    for metric, test in (
        ("knn_accuracy", _stratified(labels, config)),
        ("knn_accuracy_groupwise", groupwise(labels, groups, config)),
    ):
        hits = knn_hits(cosine, labels, test, config.k)
        share = statistics.wilson(hits, len(test))
        method = f"k {config.k}, {share.method}"
        rows.append(Metric(metric, share.value, share.low, share.high, len(test), failed, name, method))
    rows.append(_silhouette(vectors, labels, name))
    return rows


def _ratio(
    cosine: NDArray[np.float64], labels: NDArray[np.str_], name: str, groups: Sequence[str] | None, config: Config
) -> statistics.Interval:
    """within / between with a bootstrap interval; undefined when the between-class mean is not positive."""
    n = len(labels)
    kin = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]

    def ratio(chosen: NDArray[np.intp]) -> float | None:
        part, pairs = cosine[np.ix_(chosen, chosen)], pairs_that_count(chosen, kin)
        same = labels[chosen][:, None] == labels[chosen][None, :]
        inside, across = part[same & pairs], part[~same & pairs]
        if not len(inside) or not len(across) or across.mean() <= NOISE:
            return None
        return float(inside.mean() / across.mean())

    rng = generator(config.data_seed, NAME, name, "ratio")
    found = statistics.bootstrap("within / between", ratio, n, rng, groups)
    return found if found.value is not None else replace(found, method="between-class mean is not positive")


def pairs_that_count(chosen: NDArray[np.intp], kin: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return the pairs of drawn problems that count: not those of two copies of what is drawn as one (problem or group).

    A group drawn twice would else be compared with itself, as a problem would, and look more alike than it is.
    """
    order = np.argsort(chosen, kind="stable")
    copy = np.empty(len(chosen), dtype=np.intp)
    copy[order] = np.arange(len(chosen)) - np.searchsorted(chosen[order], chosen[order])
    own = kin[chosen]
    other = own[:, None] != own[None, :]
    return other | ((copy[:, None] == copy[None, :]) & (chosen[:, None] != chosen[None, :]))


def _stratified(labels: NDArray[np.str_], config: Config) -> NDArray[np.intp]:
    """Return indices of the test side: the same share of every class."""
    rng = generator(config.data_seed, NAME, "knn")
    chosen: list[int] = []
    for label in sorted(set(labels)):
        members = np.flatnonzero(labels == label)
        chosen += list(rng.permutation(members)[: max(1, round(config.test_share * len(members)))])
    return np.array(sorted(chosen))


def groupwise(labels: NDArray[np.str_], groups: NDArray[np.str_], config: Config) -> NDArray[np.intp]:
    """Return indices of the test side, made of whole groups."""
    rng = generator(config.data_seed, NAME, "knn-groups")
    chosen: list[int] = []
    for label in sorted(set(labels)):
        kinds = sorted(set(groups[labels == label]))
        taken: Any = rng.permutation(kinds)[: max(1, round(config.test_share * len(kinds)))] if len(kinds) > 1 else []
        chosen += [int(i) for i in np.flatnonzero((labels == label) & np.isin(groups, taken))]
    return np.array(sorted(chosen), dtype=np.intp)


def knn_hits(cosine: NDArray[np.float64], labels: NDArray[np.str_], test: NDArray[np.intp], k: int) -> int:
    """Count test problems whose k nearest training problems vote for their class; ties go to the nearer neighbours."""
    train = np.setdiff1d(np.arange(len(labels)), test)
    hits = 0
    for i in test:
        nearest = train[np.argsort(-np.round(cosine[i, train], 9), kind="stable")[:k]]
        votes: dict[str, float] = {}
        for rank, j in enumerate(nearest):
            votes[labels[j]] = votes.get(labels[j], 0.0) + 1.0 + 1e-6 * (k - rank)
        hits += bool(votes) and max(votes, key=lambda kind: votes[kind]) == labels[i]
    return hits


def _silhouette(vectors: NDArray[np.float64], labels: NDArray[np.str_], name: str) -> Metric:
    from sklearn.metrics import silhouette_score

    value = float(silhouette_score(vectors, labels, metric="cosine", random_state=seed_for(NAME) % 2**32))
    return Metric("silhouette", value, n=len(labels), condition=name, method="cosine, Rousseeuw 1987")


def gate(metrics: Metrics, config: Config) -> Verdict:
    """Return PASS when the best embedder has ratio > 1.2 and kNN > 0.70."""
    skipped: dict[str, str] = metrics.facts["skipped"]
    found = {m.condition: m for m in metrics.values if m.metric == "similarity_ratio"}
    note = "".join(f"; {name} was skipped: {why}" for name, why in skipped.items())
    if not found:
        empty = Metric("similarity_ratio", None, method="no embedder could be loaded")
        install = next_steps.install(skipped.values(), next_steps.BUNDLED_EMBEDDER)
        why = f"No embedder could be loaded{note}."
        return Verdict(Status.INCONCLUSIVE, why, None, empty, config.ratio_threshold, (install,))
    knn = {m.condition: m for m in metrics.values if m.metric == "knn_accuracy"}

    def rank(name: str) -> tuple[bool, bool, float, float]:
        ratio, accuracy = found[name].value, knn[name].value or 0.0
        both = ratio is not None and ratio > config.ratio_threshold and accuracy > config.knn_threshold
        return not defects.beyond(metrics, name), both, accuracy, ratio if ratio is not None else -np.inf

    best = max(found, key=rank)
    ratio, accuracy = found[best].value, knn[best].value or 0.0
    hybrid = best == HYBRID
    findings = Findings(embedder=HYBRID_TEXT if hybrid else best, text_weight=HYBRID_TEXT_WEIGHT if hybrid else 1.0)
    if ratio is None:
        why = f"The ratio of {best} is undefined, since its between-class similarity is not positive{note}."
        return Verdict(Status.INCONCLUSIVE, why, findings, found[best], config.ratio_threshold, _next(config))
    needs = f"ratio {ratio:.3f} (needs > {config.ratio_threshold}), kNN {accuracy:.2f} (needs > {config.knn_threshold})"
    passed = rank(best)[1]
    status, steps = Status.PASS if passed else Status.FAIL, () if passed else _next(config)
    return Verdict(status, f"{best}: {needs}{note}.", findings, found[best], config.ratio_threshold, steps)


def _next(config: Config) -> tuple[NextStep, ...]:
    """The failure protocol: embedders that were not tried, hybrid always among them; other problems, twice as many."""
    more = next_steps.others_doubled(NAME, config, "per_class", "twice as many other problems: a narrower interval")
    return (*next_steps.other_embedders(NAME, config.embedders, [HYBRID]), *more)
