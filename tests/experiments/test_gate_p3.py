"""P3's retention on answers made by hand, and its gate at the exact bounds and wherever something is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from experiments import p3_finetuning_preservation as p3
from experiments.backends.lora import LoraSettings
from experiments.contract import Status, Trial

CONFIG = p3.Config()
EVEN = {"instruction": (5, 5), "arithmetic": (5, 5), "format": (5, 5), "knowledge": (5, 5)}


def answers(solved: Mapping[str, tuple[int, int]], n: int = 10) -> list[Trial]:
    """n prompts a category; (base, tuned) says how many of the first ones each solves."""
    return [
        Trial(f"{category}-{i:02d}", which, solved=i < count, answer="x", details={"category": category})
        for category, counts in solved.items()
        for which, count in zip(("base", "tuned"), counts, strict=True)
        for i in range(n)
    ]


def text(which: str, loss: float, tokens: int, i: int = 0) -> Trial:
    details = {"category": p3.PERPLEXITY, "negative_log_likelihood": loss}
    return Trial(f"text-{i:02d}", which, tokens_in=tokens, details=details)


@pytest.mark.parametrize(
    ("change", "status", "overall", "lowest"),
    [
        ({}, Status.PASS, 1.0, 1.0),
        ({"format": (5, 6)}, Status.PASS, 1.05, 1.0),
        # 16 of 20 and 3 of 5: both bounds are met exactly, and "at least" lets them.
        ({"instruction": (5, 3), "knowledge": (5, 3)}, Status.PASS, 0.8, 0.6),
        ({"instruction": (5, 3), "knowledge": (5, 3), "format": (5, 4)}, Status.FAIL, 0.75, 0.6),
        ({"instruction": (5, 2)}, Status.FAIL, 0.85, 0.4),
        ({"format": (5, 2)}, Status.FAIL, 0.85, 0.4),
        ({"format": (5, 0)}, Status.FAIL, 0.75, 0.0),
        ({"instruction": (5, 0), "arithmetic": (5, 0), "format": (5, 0), "knowledge": (5, 0)}, Status.FAIL, 0.0, 0.0),
    ],
)
def test_retention_and_bounds(
    change: dict[str, tuple[int, int]], status: Status, overall: float, lowest: float
) -> None:
    """Overall at least 80 %, no category (format with them) under 60 %; gains in one do not hide a loss in another."""
    metrics = p3.metrics(answers({**EVEN, **change}), CONFIG)
    verdict = p3.gate(metrics, CONFIG)
    assert verdict.status is status
    assert verdict.main == metrics.find("retention", "overall")
    assert verdict.main.value == pytest.approx(overall) and verdict.main.n == 40
    assert min(m.value or 0.0 for c in p3.CATEGORIES if (m := metrics.find("retention", c))) == pytest.approx(lowest)
    assert verdict.main.low is not None and verdict.main.high is not None
    assert verdict.threshold == 0.80 and verdict.findings is None
    assert bool(verdict.next_steps) == (status is Status.FAIL)


def test_one_category_without_a_base_is_left_out_and_named() -> None:
    """Nothing can be retained where the base solves nothing; the other three still decide."""
    metrics = p3.metrics(answers({**EVEN, "arithmetic": (0, 4)}), CONFIG)
    verdict = p3.gate(metrics, CONFIG)
    assert verdict.status is Status.PASS
    assert metrics.facts["excluded"] == ["arithmetic"]
    assert "arithmetic" in verdict.reason
    assert verdict.main.value == 1.0 and verdict.main.n == 30
    row = metrics.find("retention", "arithmetic")
    assert row is not None and row.value is None and "solves none" in row.method


@pytest.mark.parametrize(
    "change", [{"arithmetic": (0, 0), "knowledge": (0, 0)}, {"format": (0, 0)}, dict.fromkeys(EVEN, (0, 0))]
)
def test_too_little_to_retain_is_inconclusive(change: dict[str, tuple[int, int]]) -> None:
    """Two categories without a base, or none to see the format in, are too little to say PASS or FAIL on."""
    verdict = p3.gate(p3.metrics(answers({**EVEN, **change}), CONFIG), CONFIG)
    assert verdict.status is Status.INCONCLUSIVE
    assert all(c in verdict.reason for c in change)
    assert verdict.next_steps


def test_a_failed_training_is_inconclusive_with_its_reason() -> None:
    """Only the base has answered then: no retention may be made of it."""
    base = [t for t in answers(EVEN) if t.condition == "base"]
    metrics = p3.metrics([Trial("training", "train", error="No module named 'peft'"), *base], CONFIG)
    verdict = p3.gate(metrics, CONFIG)
    assert verdict.status is Status.INCONCLUSIVE
    assert "No module named 'peft'" in verdict.reason
    assert verdict.main.value is None


def test_only_prompts_that_both_models_answered_count() -> None:
    """A tuned answer that failed is left out on both sides and counted as failed, not taken for a wrong one."""
    trials = [
        Trial(t.problem_id, t.condition, error="OSError: gone", details=t.details)
        if t.condition == "tuned" and t.problem_id in ("format-00", "format-01")
        else t
        for t in answers(EVEN)
    ]
    row = p3.metrics(trials, CONFIG).find("retention", "format")
    assert row is not None and row.value == 1.0
    assert (row.n, row.failed) == (8, 2)


def test_noninferiority_is_shown_beside_retention_by_hand() -> None:
    """One of four prompts lost where the base solved all: mean 1/4, error 1/4, margin a fifth, so t = 1/5 with 3 degrees."""
    lost = {**dict.fromkeys(EVEN, (1, 1)), "arithmetic": (1, 0)}
    metrics = p3.metrics(answers(lost, n=1), CONFIG)
    found = metrics.find("noninferiority_p", "overall")
    assert found is not None and found.n == 4
    # Student's t with 3 degrees: F(t) = 1/2 + (a / (1 + a^2) + atan a) / pi with a = t / sqrt 3.
    a = 0.2 / math.sqrt(3)
    assert found.value == pytest.approx(0.5 + (a / (1 + a * a) + math.atan(a)) / math.pi)
    assert "less than 0.200, 20% of the base's mean score 1.000; lost 0.250, at most 0.838" in found.method
    verdict = p3.gate(metrics, CONFIG)
    assert verdict.status is Status.FAIL and f"non-inferiority p {found.value:.3g}" in verdict.reason


def test_noninferiority_decides_nothing_and_may_be_undefined() -> None:
    """The gate is the protocol's; where no loss is allowed or nothing was solved there is no margin to test against."""
    nothing = p3.metrics(answers(dict.fromkeys(EVEN, (0, 0))), CONFIG).find("noninferiority_p", "overall")
    assert nothing is not None and nothing.value is None and nothing.method
    strict = CONFIG.model_copy(update={"overall_threshold": 1.0})
    metrics = p3.metrics(answers(EVEN), strict)
    found = metrics.find("noninferiority_p", "overall")
    assert found is not None and found.value is None and "no margin" in found.method
    assert p3.gate(metrics, strict).status is Status.PASS
    # Exactly 80 % retained: the loss is the margin, so p is 1/2, and "at least" lets it pass.
    at_bound = p3.metrics(answers({**EVEN, "instruction": (5, 3), "knowledge": (5, 3)}), CONFIG)
    half = at_bound.find("noninferiority_p", "overall")
    assert half is not None and half.value == pytest.approx(0.5)
    assert p3.gate(at_bound, CONFIG).status is Status.PASS


def test_unanswered_is_not_the_same_as_unsolved() -> None:
    """The adapter could not be fetched, so the tuned model answered nothing: the base's ability is not in question."""
    trials = [
        Trial(t.problem_id, t.condition, error="no file store here", details=t.details) if t.condition == "tuned" else t
        for t in answers(EVEN)
    ]
    metrics = p3.metrics(trials, CONFIG)
    verdict = p3.gate(metrics, CONFIG)
    assert metrics.facts["excluded"] == [] and metrics.facts["unanswered"] == list(p3.CATEGORIES)
    assert verdict.status is Status.INCONCLUSIVE and "solves none" not in verdict.reason
    assert "without an answer of both models: " in verdict.reason and "no file store here" in verdict.reason
    assert [s.command for s in verdict.next_steps] == ["pip install '.[strong]'"]


def test_perplexity_is_the_exponential_of_the_mean_loss_a_token() -> None:
    """Summed over texts before dividing: a short text may not weigh as much as a long one."""
    trials = [text("base", 10.0, 10), text("base", 60.0, 20, 1), text("tuned", 20.0, 10), text("tuned", 70.0, 20, 1)]
    metrics = p3.metrics([*answers(EVEN), *trials], CONFIG)
    base, tuned, ratio = (
        metrics.find("perplexity", "base"),
        metrics.find("perplexity", "tuned"),
        metrics.find("perplexity_ratio", "tuned / base"),
    )
    assert base is not None and base.value == pytest.approx(math.exp(70 / 30))
    assert tuned is not None and tuned.value == pytest.approx(math.exp(90 / 30))
    assert ratio is not None and ratio.value == pytest.approx(math.exp(20 / 30)) and ratio.n == 2


def test_the_failure_protocol_is_commands_that_can_be_typed() -> None:
    """What is to be tried after a FAIL must be accepted by the very same configuration."""
    verdict = p3.gate(p3.metrics(answers({**EVEN, "format": (5, 0)}), CONFIG), CONFIG)
    rates, ranks = [], []
    for step in verdict.next_steps:
        lora = LoraSettings.model_validate_json(str(step).split("lora=")[1].split("'")[0])
        assert p3.Config(lora=lora).lora == lora
        rates.append(lora.learning_rate)
        ranks.append(lora.rank)
    assert rates == [CONFIG.lora.learning_rate / 2, CONFIG.lora.learning_rate]
    assert ranks == [16, 8]
