"""A verdict never rests on answers, prompts or texts that are not what they claim: it says how many, or decides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_engines import FakeLanguageModel

from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments import p1_embedding_validity as p1
from experiments.analysis import e2_analysis
from experiments.backends.model_cache import Backends
from experiments.contract import Metric, Metrics, Status, Trial, Verdict
from experiments.domains import Problem, get_domain
from experiments.findings import Earlier
from experiments.protocol import defects
from experiments.registry import configure
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo, solve

CONFIG = configure("p2", "smoke")
MAIN = Metric("adjusted_p", 0.01, n=4, condition="semantic - none")
PASS = Verdict(Status.PASS, "semantic helps.", None, MAIN)
UNREAD = "Unreadable: none of 8 replies names an option"


def answered(n: int, condition: str = "none", **details: object) -> list[Trial]:
    return [Trial(f"q{i}", condition, 100, 1, True, "a", "a", details=dict(details)) for i in range(n)]


def unread(n: int, condition: str = "none", error: str = UNREAD) -> list[Trial]:
    return [Trial(f"u{i}", condition, 100, truth="a", error=error) for i in range(n)]


def verdict_of(trials: list[Trial], verdict: Verdict = PASS, phase: str = "p2") -> Verdict:
    return defects.qualified(verdict, Metrics(tuple(defects.rows(trials))), phase, CONFIG)


@pytest.mark.parametrize(
    ("error", "metric", "words"),
    [
        (UNREAD, "unreadable_share", "have no readable answer"),
        ("TooLong: 9,000 tokens", "too_long_share", "was not sent"),
    ],
)
def test_trials_without_an_answer_are_counted_and_decide_nothing(error: str, metric: str, words: str) -> None:
    """A model that never answers would else be measured by chance, and the chain would stop with a reason that is none."""
    found = verdict_of([*answered(8), *unread(2, error=error), *answered(10, "semantic")])
    assert found.status is Status.INCONCLUSIVE
    assert found.reason.startswith("Not decided, since 20% of the trials under none have")
    assert words in found.reason and "2 of 10 trials" in found.reason and "semantic helps" in found.reason
    rows = {(m.metric, m.condition): m.value for m in defects.rows([*answered(8), *unread(2, error=error)])}
    assert rows[metric, "none"] == 0.2


def test_a_few_are_named_and_the_verdict_stands() -> None:
    """One of twenty is said, and stops nothing."""
    found = verdict_of([*answered(19), *unread(1)])
    assert found.status is Status.PASS and "5% of the trials under none have no readable answer" in found.reason


def test_without_defects_a_verdict_is_as_it_was() -> None:
    """Shares of zero are metrics, and no words."""
    trials = answered(10, retrieved=["m"], memos_dropped=0)
    assert verdict_of(trials) == PASS
    shown = {m.metric: m.value for m in defects.rows(trials)}
    assert shown == {"unreadable_share": 0.0, "too_long_share": 0.0, "dropped_share": 0.0}


def test_one_condition_is_not_hidden_by_the_others() -> None:
    """One in five of one condition is beyond the limit, however many others can be read."""
    trials = [*answered(8), *unread(2), *answered(1000, "semantic"), *answered(1000, "random")]
    assert verdict_of(trials).status is Status.INCONCLUSIVE


def test_prompts_that_lost_memos_are_counted_once_for_all_seeds() -> None:
    """k memos are claimed; a prompt that shows fewer is another condition."""
    lost = [
        Trial(
            f"q{i}", "semantic", seed, 1, True, "a", "a", details={"memos_dropped": 3 if i < 4 else 0, "retrieved": "m"}
        )
        for i in range(6)
        for seed in (100, 200)
    ]
    found = verdict_of(lost)
    assert found.status is Status.INCONCLUSIVE and "67% of the prompts under semantic lost memos" in found.reason
    assert "4 of 6 prompts, 3.0 memos each" in found.reason
    assert "--set k=1" in str(found.next_steps[0])


def test_long_texts_drop_memos_and_say_so() -> None:
    """Programs of 1,500 characters and more: five of them never fit beside a problem (reported of token counts)."""
    domain, lm = get_domain("big_o"), FakeLanguageModel(window=300)
    text = "step 1: value = total * 3\n" * 12
    problems = [Problem(f"p{i}", f"{text}{i}", "O(n)", f"g{i}") for i in range(8)]
    memos = [Memo(p, p.label, i) for i, p in enumerate(problems[3:])]
    trials = [t for p in problems[:3] for t in solve(lm, domain, p, memos, CONFIG, "p2", "semantic")]
    assert {t.details["memos_dropped"] for t in trials} == {4}
    found = verdict_of(trials)
    assert found.status is Status.INCONCLUSIVE and "100% of the prompts under semantic lost memos" in found.reason


def reading(
    tokens: int | None, unknown: int | None = 0, twin: bool = False, limit: int | None = 256
) -> dict[str, object]:
    return {"reading": {"tokens": tokens, "limit": limit, "unknown": unknown, "twin": twin}}


@pytest.mark.parametrize(
    ("details", "words"),
    [
        (reading(400), "longer than what MiniLM reads"),
        (reading(10, unknown=9), "90% of the tokens are unknown to MiniLM"),
        (reading(10, twin=True), "have the same vector as another text under MiniLM"),
        (reading(None, None, True, None), "have the same vector as another text under MiniLM"),
    ],
)
def test_an_embedder_that_cannot_read_the_texts_is_named(details: dict[str, object], words: str) -> None:
    """Another script or long texts give vectors all the same, which measure nothing."""
    trials = [Trial(f"q{i}", "MiniLM", details=details) for i in range(4)]
    on_it = Verdict(Status.PASS, "good.", None, Metric("similarity_ratio", 2.0, condition="MiniLM"))
    found = verdict_of(trials, on_it, "p1")
    assert found.status is Status.INCONCLUSIVE and words in found.reason
    other = Verdict(Status.PASS, "good.", None, Metric("similarity_ratio", 2.0, condition="other"))
    assert verdict_of(trials, other, "p1") == other


def test_what_is_doubted_hands_on_no_answer() -> None:
    """A later phase would else rest on it: E0's defaults, no hypothesis, no confirmation."""
    chosen = e0.Findings(retrieval=RetrievalConfig(k=7))
    assert chosen.doubted() == e0.EXPECTED
    found = e1.Findings(hypothesis="amplification", best="semantic", memos=(), test=("a",)).doubted()
    assert (found.hypothesis, found.test) == (e1.WEAK_SIGNAL, ("a",))
    last = e2_analysis.Findings(hypothesis_verdict="confirmed", best_model="tuned_s", criteria={})
    assert last.doubted().hypothesis_verdict == "inconclusive"
    found_by_gate = verdict_of(unread(3), Verdict(Status.PASS, "x.", chosen, MAIN), "e0")
    assert found_by_gate.findings == e0.EXPECTED


def test_p1_takes_an_embedder_that_reads_the_texts(engines: Backends, tmp_path: Path) -> None:
    """Texts with an equal beginning of 256 tokens and more crashed the process; they are cut, equal, and said to be."""
    head = "This message and any attachment are confidential and meant only for the person named above. " * 20
    rows = [{"id": i, "text": f"{head}{i}", "label": ("good", "bad")[i % 2]} for i in range(12)]
    file = tmp_path / "footer.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    config = configure("p1", "smoke", {"domain": f"jsonl:{file}", "embedders": ["all-MiniLM-L6-v2", "hybrid"]})
    trials = [t for unit in p1.units(config, Earlier(), []) for t in p1.run(unit, engines)]  # type: ignore[arg-type]
    metrics = p1.metrics(trials, config)  # type: ignore[arg-type]
    metrics = Metrics((*metrics.values, *defects.rows(trials)), metrics.facts)
    verdict = defects.qualified(p1.gate(metrics, config), metrics, "p1", config)  # type: ignore[arg-type]
    assert verdict.status is Status.INCONCLUSIVE
    assert "4 of 4 texts are longer than 256 tokens" in verdict.reason and "have the same vector" in verdict.reason
    assert all(len(t.details["map"]) == 2 for t in trials)
