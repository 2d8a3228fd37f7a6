"""The leakage gate before every phase: problems on both sides of its test are refused, and counted in its results.

Equal texts and texts that name an answer are found by reading, before anything is planned. Texts that are nearly alike
are found by an embedder, in a unit of its own beside the phase's first ones. Who goes on in spite of a leak says why
(allow_leakage), and every number that comes of it is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from common.errors import LabError
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Unavailable
from experiments.contract import Json, Metric, Metrics, PhaseConfig, Result, Trial, Unit, Verdict
from experiments.data import universe
from experiments.domains import Problem, get_domain
from experiments.domains.leakage import ALLOW, NAMED_PAIRS, Leaks, inspect, refuse
from experiments.expected import Details, Expected, Key
from experiments.findings import Earlier
from experiments.protocol import defects
from experiments.protocol.identity import make_unit
from experiments.registry import get_phase

EMBEDDER = "all-MiniLM-L6-v2"
LEAKAGE = "leakage"  # role of the unit, condition of its trial
MARK = "LEAKY DATA"  # before the method of every metric and the reason of a verdict
EXPLORATORY = "exploratory"  # before the method of a metric that the plan does not name
SEARCH_S = 0.06  # cost of embedding one text, in seconds on two cores
LISTED = 20  # near pairs in the trial's details, the nearest first


def next_units(phase: str, config: PhaseConfig, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """The phase's next units, the search for near pairs before its first ones.

    Raises:
        LabError: the data leak, with the first pairs, and allow_leakage does not say why to go on.
    """
    module = get_phase(phase)
    own = [r for r in so_far if r.unit.spec.get("role") != LEAKAGE]
    if not so_far:
        memory, test = module.sides(config, findings)
        if config.allow_leakage is None:
            refuse(inspect(get_domain(config.domain), memory, test), test is not None)
        search = [_search(phase, config, memory, test)]
        return search if config.near_duplicates == "refuse" else [*search, *module.units(config, findings, own)]
    if config.near_duplicates == "refuse" and config.allow_leakage is None:
        _refuse_near([t for _, trials in so_far for t in trials], config)
    return module.units(config, findings, own)


def _search(phase: str, config: PhaseConfig, memory: Sequence[Problem], test: Sequence[Problem] | None) -> Unit:
    spec = {"role": LEAKAGE, "memory": _ids(memory), "test": None if test is None else _ids(test)}
    return make_unit(phase, config, spec, models=[EMBEDDER], cost=SEARCH_S * (len(memory) + len(test or ())))


def _ids(problems: Sequence[Problem]) -> list[str]:
    return [p.problem_id for p in problems]


def _refuse_near(trials: Sequence[Trial], config: PhaseConfig) -> None:
    near = next((t for t in trials if t.condition == LEAKAGE), None)
    if near is None or near.error is not None:
        why = near.error if near else "it was not searched for"
        raise LabError(f"near_duplicates is refuse, and near pairs could not be looked for: {why}", "lab assess")
    if near.details["near"]:
        first = ", ".join(f"{a} ~ {b} {value:.3f}" for a, b, value in near.details["pairs"][:NAMED_PAIRS])
        what = f"{near.details['near']} pairs are nearly alike, similarity {config.near_similarity:g} or more ({first})"
        raise LabError(what, f"correct the data, raise near_similarity{ALLOW}")


def run(unit: Unit, config: PhaseConfig, backends: Backends) -> list[Trial]:
    """Look for near pairs: one trial with their number and the nearest of them."""
    known, domain, spec = universe(config).by_id(), get_domain(config.domain), unit.spec
    try:
        embedder = backends.embedder(EMBEDDER)
    except Unavailable as error:
        return [Trial(LEAKAGE, LEAKAGE, error=str(error))]
    memory = [known[i] for i in spec["memory"]]
    test = memory if spec["test"] is None else [known[i] for i in spec["test"]]
    cosine = embedder.embed([p.text for p in memory])[0] @ embedder.embed([p.text for p in test])[0].T
    if spec["test"] is None:
        cosine = np.where(np.tri(len(memory), dtype=bool), -1.0, cosine)
    cosine = np.round(cosine, 9)
    pairs = [(memory[i], test[j], float(cosine[i, j])) for i, j in np.argwhere(cosine >= config.near_similarity)]
    # Equal texts are counted as such.
    near = [(a.problem_id, b.problem_id, v) for a, b, v in pairs if domain.normalise(a) != domain.normalise(b)]
    near.sort(key=lambda p: (-p[2], p[0], p[1]))
    details: Json = {"near": len(near), "pairs": [list(p) for p in near[:LISTED]], "compared": _compared(spec)}
    return [Trial(LEAKAGE, LEAKAGE, details=details)]


class NearPairs(Details):
    """Of the search, what the gate reads."""

    near: int = Field(ge=0)
    pairs: list[tuple[str, str, float]]
    compared: int


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: the search's one, else those of its phase."""
    if unit.spec.get("role") != LEAKAGE:
        return get_phase(unit.phase).expected(unit)
    fixed = {LEAKAGE: {"compared": _compared(unit.spec)}}
    return Expected([Key(LEAKAGE, LEAKAGE)], NearPairs, fixed=fixed)


def _compared(spec: Json) -> int:
    n = len(spec["memory"])
    return n * (n - 1) // 2 if spec["test"] is None else n * len(spec["test"])


def measured(phase: str, config: PhaseConfig, findings: Earlier, trials: Sequence[Trial]) -> Metrics:
    """The phase's metrics and what the gate found, each that was not planned marked as exploratory.

    With a leak that was allowed, every metric is marked.
    """
    module = get_phase(phase)
    metrics = module.metrics([t for t in trials if t.condition != LEAKAGE], config)
    found = inspect(get_domain(config.domain), *module.sides(config, findings))
    near = next((t for t in trials if t.condition == LEAKAGE), None)
    own = [m if m.metric in module.PLANNED else _marked(m, EXPLORATORY) for m in metrics.values]
    rows = [*own, *defects.rows(trials), *_rows(found, near, config)]
    leaky = not found.none or (
        config.near_duplicates == "refuse" and near is not None and bool(near.details.get("near"))
    )
    if leaky:
        rows = [_marked(m, MARK) for m in rows]
    return Metrics(tuple(rows), {**metrics.facts, "leaky": leaky})


def _marked(metric: Metric, mark: str) -> Metric:
    return replace(metric, method=f"{mark}; {metric.method}" if metric.method else mark)


def _rows(found: Leaks, near: Trial | None, config: PhaseConfig) -> list[Metric]:
    def row(name: str, pairs: Sequence[tuple[str, str]], n: int, method: str) -> Metric:
        first = ", ".join(f"{a} = {b}" for a, b in pairs[:NAMED_PAIRS])
        return Metric(name, float(len(pairs)), n=n, method=f"{method}; first: {first}" if first else method)

    rows = [
        row("leak_exact_pairs", found.exact, found.pairs, "equal texts"),
        row("leak_normalised_pairs", found.normalised, found.pairs, "equal without comments, layout and names"),
        row("leak_named", found.named, found.texts, "texts that name a class"),
    ]
    how = f"cosine of {EMBEDDER}, {config.near_similarity:g} or more"
    if near is None:
        return rows
    if near.error is not None:
        return [*rows, Metric("leak_near_pairs", None, failed=1, method=f"{how}; {near.error}")]
    first = ", ".join(f"{a} ~ {b} {v:.3f}" for a, b, v in near.details["pairs"][:NAMED_PAIRS])
    method = f"{how}; first: {first}" if first else how
    return [*rows, Metric("leak_near_pairs", float(near.details["near"]), n=near.details["compared"], method=method)]


def decided(phase: str, config: PhaseConfig, metrics: Metrics) -> Verdict:
    """The phase's verdict on `measured` metrics; its reason says when they are marked, and why that was allowed."""
    verdict = defects.qualified(get_phase(phase).gate(metrics, config), metrics, phase, config)
    if not metrics.facts["leaky"]:
        return verdict
    return replace(verdict, reason=f"{MARK}, allowed: {config.allow_leakage}. {verdict.reason}")
