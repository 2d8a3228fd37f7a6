"""E2 from its first unit to its verdict with made-up pupils: one that learned to write queries, and some that did not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from driving import by_condition, drive
from fake_engines import FakeEmbedder, FakeLanguageModel

from experiments.analysis.e2_settings import CROSSED
from experiments.backends.lora import Training
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import Reply, Unavailable
from experiments.contract import Json, Result, Status, Verdict
from experiments.data import split
from experiments.registry import configure
from experiments.solving.retrieval import RetrievalConfig

MINI = "all-MiniLM-L6-v2"
GIVEN: Json = {"n_problems": 96, "n_test": 18, "n_train": 4, "n_crossed": 3, "k": 5, "per_unit": 18}


class FakePupil(FakeLanguageModel):
    """Writes what `queries` makes of the analysis in its prompt; solves as every fake does."""

    def __init__(self, queries: Callable[[str], str]) -> None:
        super().__init__()
        self.queries = queries

    def generate(self, prompts: Sequence[str], max_new_tokens: int, **options: object) -> list[Reply]:
        analyses = [p.rpartition("Analysis: ")[2].partition("\n")[0] for p in prompts]
        return [Reply(self.queries(a), 9, 3, 0.25) for a in analyses]


class FakeSchool(Backends):
    """Backends whose training leaves the name of the dataset, and whose models write as the pupils do."""

    def __init__(self, base: Callable[[str], str], tuned: Callable[[str], str], broken: Sequence[int] = ()) -> None:
        pupils = {"": FakePupil(base), b"r": FakePupil(base), b"s": FakePupil(tuned)}
        super().__init__(no_files, {MINI: FakeEmbedder()})
        self.pupils = pupils
        self.left: dict[str, bytes] = {}
        self.broken = broken  # seeds with which no training of S succeeds

    def train(self, name, examples, held, lora, seed, *how) -> Training:  # type: ignore[no-untyped-def]
        if "Retrieved:" in examples[0][1] and seed in self.broken:
            raise Unavailable("out of memory")
        return Training(b"s" if "Retrieved:" in examples[0][1] else b"r", 1.5, 99, [2.0], [2.1, 2.0], 1)

    def attach(self, name: str, content: bytes) -> str:
        sha256 = super().attach(name, content)
        self.left[sha256] = content
        return sha256

    def language_model(self, name, adapter="", precision=None):  # type: ignore[no-untyped-def]
        return self.pupils[self.left[adapter] if adapter else ""]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.statistics.RESAMPLES", 20)  # no verdict of E2 reads a bootstrap interval


def perfect(analysis: str) -> str:
    return f" {analysis}"


def nothing(analysis: str) -> str:
    return " ..."


def vague(analysis: str) -> str:
    return " some values"


def lesson(
    base: Callable[[str], str], tuned: Callable[[str], str], broken: Sequence[int] = (), **given: object
) -> tuple[list[Result], Verdict]:
    """E2 on 60 memos, with these pupils before and after dataset S; R changes nothing."""
    memory, test = split(configure("e2", "smoke", GIVEN), 60, 18)
    findings: Json = {
        "retrieval": RetrievalConfig(embedder=MINI).model_dump(),
        "memos": [[p.problem_id, p.label, i, 1, True, [p.label]] for i, p in enumerate(memory)],
        "hypothesis": "weak_signal",
        "best": "semantic",
        "test": [p.problem_id for p in test],
    }
    return drive("e2", {**GIVEN, **given}, findings, FakeSchool(base, tuned, broken), {})


def test_a_pupil_that_writes_the_target_analysis_is_confirmed() -> None:
    """Protocol 1 could not: it compared queries with the texts of problems, with which they share no words."""
    done, verdict = lesson(vague, perfect, train_seeds=[42, 43], n_by_tokens=1)
    assert verdict.status is Status.PASS and verdict.findings.hypothesis_verdict == "confirmed"
    assert verdict.main.metric == "precision_difference" and verdict.main.condition == "tuned_s - base_query"
    assert verdict.main.value is not None and verdict.main.value > 0.05 and verdict.main.n == 18
    assert verdict.findings.training_seeds == 2 and "spread is unknown" not in verdict.reason
    # The made-up solver answers the same whatever it is shown: the second outcome finds nothing.
    assert verdict.findings.attempts_verdict == "inconclusive"
    trials = by_condition(done)
    assert {t.seed for t in trials["tuned_s"]} == {42, 43} and len(trials["tuned_s"]) == 36
    # S has more tokens, so on as many tokens as R's it learns from fewer examples.
    (by_tokens,), examples = trials["train_tokens"], trials["train_s"][0].details["examples"]
    assert by_tokens.details["of"] == "s" and by_tokens.details["examples"] < examples == 3
    assert len(trials["train_r"]) == 2 and {t.details["examples"] for t in trials["train_r"]} == {3}
    assert {t.seed for t in trials["tuned_tokens"]} == {42} and "Queries that search" not in verdict.reason
    # Whose query it is shows in what the others are shown.
    crossed = {c: [t.details["query"] for t in own] for c, own in trials.items() if c.startswith("write_")}
    assert len(crossed) == 6 and all(len(queries) == 3 for queries in crossed.values())
    assert crossed["write_s_solve_base"] == [t.details["query"] for t in trials["tuned_s"][:3]]
    assert set(crossed["write_base_solve_s"]) == {"some values"}


def test_the_first_training_may_fail_and_controls_and_crossed_cells_are_there() -> None:
    """Of S with seed 44 nothing is left: they had vanished without a word. The next seed's adapter is taken for all."""
    done, verdict = lesson(vague, perfect, broken=[44], train_seeds=[44, 42], n_crossed=1)
    trials = by_condition(done)
    assert {t.seed for t in trials["tuned_s"]} == {42} and {t.seed for t in trials["tuned_r"]} == {44, 42}
    assert {"tuned_s_random", "tuned_s_none", *CROSSED} <= set(trials)
    assert "adapter S with seed 44 is missing: out of memory." in verdict.reason


@pytest.mark.parametrize(
    ("base", "tuned", "why"),
    [
        (vague, nothing, "search for nothing: 100% of tuned_s"),
        # An untuned model that writes nothing is no opponent: the pupil learned a format, whatever it retrieves.
        (nothing, perfect, "search for nothing: 100% of base_query, 100% of tuned_r"),
        (vague, vague, "one training of each adapter, whose spread is unknown"),
    ],
)
def test_a_pupil_that_learned_no_query_is_not_confirmed(
    base: Callable[[str], str], tuned: Callable[[str], str], why: str
) -> None:
    """Empty queries decide nothing, and the same queries or worse ones are no gain."""
    _, verdict = lesson(base, tuned)
    assert verdict.status is not Status.PASS and verdict.findings.hypothesis_verdict != "confirmed"
    assert why in verdict.reason, verdict.reason
