"""What a unit yields: useless results are refused with their reason, and what is accepted never makes a phase crash."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from driving import columns_of, required_of
from fake_engines import FakeEmbedder, FakeLanguageModel

from experiments.backends.lora import LoraSettings, Training
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import Unavailable
from experiments.contract import Json, Result, Trial
from experiments.data import universe
from experiments.findings import Earlier
from experiments.protocol import leakage_gate
from experiments.registry import PHASES, configure, get_phase
from experiments.solving.retrieval import RetrievalConfig

MINI = "all-MiniLM-L6-v2"
TRIES = 25  # in each phase; 150 of each found nothing more
PROBLEMS = universe(configure("e2", "smoke", {"n_problems": 24})).problems
MEMOS = [[p.problem_id, p.label, i, 1, True, [p.label]] for i, p in enumerate(PROBLEMS[:6])]
SMALL: dict[str, Json] = {
    "p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": [MINI]},
    "p2": {"n_problems": 24, "n_memory": 6, "n_test": 2, "per_unit": 1},
    "p3": {"n_problems": 24, "n_train": 2, "per_category": 2, "n_texts": 1},
    "e0": {
        "n_problems": 24,
        "n_memory": 12,
        "n_queries": 3,
        "embedders": [MINI],
        "ks": [3],
        "text_weights": [1.0, 0.5],
    },
    "e1": {"n_problems": 24, "n_memory": 6, "n_test": 2, "k": 2, "per_unit": 2},
    "e2": {"n_problems": 24, "n_test": 2, "n_train": 4, "k": 2, "per_unit": 2},
}
FINDINGS: Json = {
    "embedder": MINI,
    "text_weight": 1.0,
    "retrieval": RetrievalConfig(embedder=MINI).model_dump(),
    "memos": MEMOS,
    "hypothesis": "weak_signal",
    "best": "semantic",
    "test": [p.problem_id for p in PROBLEMS[6:9]],
}


class FakeTrainingBackends(Backends):
    """Backends whose training gives fixed bytes at once."""

    def train(self, name, examples, validation, settings: LoraSettings, seed: int, *how) -> Training:  # type: ignore[no-untyped-def]
        return Training(f"adapter from {len(examples)} examples".encode(), 1.5, 99, [2.0], [2.1, 2.0], 1)


class FakeTuned(dict[tuple[str, str], FakeLanguageModel]):
    """One model for every adapter."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: tuple[str, str]) -> FakeLanguageModel:
        return FakeLanguageModel(says="nested loops")


class Computed:
    """All units of a phase with their trials, by fakes, and the files that came with each."""

    def __init__(self, name: str) -> None:
        self.phase, self.config = get_phase(name), configure(name, "smoke", SMALL[name])
        backends = FakeTrainingBackends(no_files, {MINI: FakeEmbedder()}, FakeTuned())
        self.done: list[Result] = []
        self.files: list[list[str]] = []
        while planned := leakage_gate.next_units(name, self.config, earlier(), self.done):
            for unit in planned:
                search = unit.spec.get("role") == leakage_gate.LEAKAGE
                run = leakage_gate.run(unit, self.config, backends) if search else self.phase.run(unit, backends)
                self.done.append(Result(unit, run))
                self.files.append([a.sha256 for a in backends.take_attachments()])

    def decide(self, at: int, trials: list[Trial]) -> None:
        """Compute metrics and verdict with other trials in one unit's place."""
        every = [t for i, r in enumerate(self.done) for t in (trials if i == at else r.trials)]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = leakage_gate.measured(self.phase.NAME, self.config, earlier(), every)
        leakage_gate.decided(self.phase.NAME, self.config, found)
        results = [Result(r.unit, trials if i == at else r.trials) for i, r in enumerate(self.done)]
        leakage_gate.next_units(self.phase.NAME, self.config, earlier(), results)

    def wrong(self, at: int, trials: list[Trial]) -> str | None:
        return leakage_gate.expected(self.done[at].unit).wrong(columns_of(trials), self.files[at])


def earlier() -> Earlier:
    kinds = [get_phase(name).Findings for name in PHASES]
    there = [kind for kind in kinds if (asked := required_of(kind)) and asked <= FINDINGS.keys()]
    return Earlier(tuple(kind.model_validate(FINDINGS) for kind in there))


computed = cache(Computed)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**30,
    0.5,
    -1e308,
    1e308,
    "",
    "x",
    [],
    [None],
    [1e308],
    [["x"]],
    {},
    {"a": 1},
)


def spoilt(trial: Trial, rng: np.random.Generator) -> Trial:
    """The trial with one of its values changed, or one of its details, or without it."""
    details = dict(trial.details)
    names = [
        *details,
        "problem_id",
        "condition",
        "seed",
        "truth",
        "attempts",
        "solved",
        "tokens_in",
        "latency_s",
        "error",
    ]
    name, value = names[rng.integers(len(names))], VALUES[rng.integers(len(VALUES))]
    if name in details:
        if rng.random() < 0.3:
            del details[name]
        else:
            details[name] = value
        return replace(trial, details=details)
    fitting: dict[str, tuple[Any, ...]] = {
        "solved": (None, True, False),
        "latency_s": (None, -1.0, 0.0, math.inf, math.nan, 1e308),
        **dict.fromkeys(("problem_id", "condition"), ("", "x")),
        **dict.fromkeys(("truth", "error"), (None, "x")),
    }
    some = fitting.get(name, (None, -1, 0, 7, 2**31 - 1))
    return replace(trial, **{name: some[rng.integers(len(some))]})


@pytest.mark.parametrize("name", PHASES)
def test_what_a_phase_computes_is_what_it_expects(name: str) -> None:
    """A sound result that is refused would be computed again and again."""
    one = computed(name)
    assert len(one.done) > 1
    for at, (unit, trials) in enumerate(one.done):
        assert one.wrong(at, list(trials)) is None, unit.spec
    one.decide(0, list(one.done[0].trials))


@pytest.mark.parametrize("name", PHASES)
def test_what_is_accepted_can_be_decided(name: str) -> None:
    """One changed value in a result of another machine must not make the phase crash, at each start again."""
    one, rng = computed(name), np.random.default_rng(42)
    refused = 0
    for _ in range(TRIES):
        at = int(rng.integers(len(one.done)))
        trials = list(one.done[at].trials)
        i = int(rng.integers(len(trials)))
        trials[i] = spoilt(trials[i], rng)
        if one.wrong(at, trials):
            refused += 1
        else:
            one.decide(at, trials)
    assert 0 < refused < TRIES


USELESS: dict[str, tuple[Callable[[list[Trial]], list[Trial]], str]] = {
    "one trial for all": (lambda trials: trials[:1], r"^1 trials, its unit yields [0-9]+$"),
    "one too many": (lambda trials: [*trials, trials[0]], r"trials, its unit yields"),
    "one twice, another never": (lambda trials: [trials[1], *trials[1:]], "is not one of its unit"),
    "nothing in the details": (lambda trials: [replace(t, details={}) for t in trials], "details of a trial are not"),
    "one failed, for all": (
        lambda trials: [Trial(trials[0].problem_id, trials[0].condition, error="x")],
        "its unit yields",
    ),
    "no trial": (lambda trials: [], "^0 trials, its unit yields"),
}


@pytest.mark.parametrize("how", USELESS)
@pytest.mark.parametrize("name", PHASES)
def test_useless_results_are_refused(name: str, how: str) -> None:
    """What a machine delivers without having worked is named for what it is, in every phase."""
    one, (change, reason) = computed(name), USELESS[how]
    at = max(range(len(one.done)), key=lambda i: len(one.done[i].trials))
    assert (why := one.wrong(at, change(list(one.done[at].trials)))) is not None
    assert re.search(reason, why), why


@pytest.mark.parametrize(("detail", "value"), [("held_out", None), ("group", "another")])
def test_a_query_of_e0_keeps_its_half_and_family(detail: str, value: str | None) -> None:
    """Queries moved to the other half would let what chose a configuration also judge it."""
    at = next(i for i, r in enumerate(computed("e0").done) if "embedder" in r.unit.spec)
    trials = list(computed("e0").done[at].trials)
    changed = not trials[0].details["held_out"] if value is None else value
    trials[0] = replace(trials[0], details={**trials[0].details, detail: changed})
    assert computed("e0").wrong(at, trials) == f"query {trials[0].problem_id} is of another half or family"


def test_an_adapter_that_did_not_come_is_noticed() -> None:
    """The units that need it would fail on every machine, for want of a file that nobody has."""
    for name in ("p3", "e2"):
        one = computed(name)
        at = next(i for i, r in enumerate(one.done) if r.unit.spec.get("role") == "train")
        trial = one.done[at].trials[0]
        other = replace(trial, details=trial.details | {"adapter": "0" * 64})
        assert "names a file that did not come with it" in (one.wrong(at, [other]) or "")


class FakeNothing(Backends):
    """Backends that can load nothing."""

    def embedder(self, name: str) -> Any:
        raise Unavailable("no embedder")

    def language_model(self, name: str, adapter: str = "", *how: object, **more: object) -> Any:
        raise Unavailable("no model")

    def train(self, name, examples, validation, settings: LoraSettings, seed: int, *how) -> Training:  # type: ignore[no-untyped-def]
        raise Unavailable("no training")


@pytest.mark.parametrize("name", PHASES)
def test_a_unit_that_failed_as_a_whole_is_accepted(name: str) -> None:
    """A model that cannot be loaded leaves failed trials, in E0 fewer than a grid has; they are results."""
    for unit, _ in computed(name).done:
        if unit.spec.get("role") == leakage_gate.LEAKAGE:
            trials = leakage_gate.run(unit, computed(name).config, FakeNothing(no_files))
        else:
            trials = get_phase(name).run(unit, FakeNothing(no_files))
        assert all(t.error for t in trials)
        assert leakage_gate.expected(unit).wrong(columns_of(trials)) is None
