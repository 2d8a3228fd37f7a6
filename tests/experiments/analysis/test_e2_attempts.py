"""E2's second outcome on made-up trials: attempts, stabilization, the price of training, the criteria."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from made_up_e2 import CONFIG, FLAT, NEARLY, SWAPPED, analysed, shifted, trained, worse
from made_up_trials import compared, metrics_of

from experiments import e2_finetuned_retrieval as e2
from experiments.analysis import e2_attempts
from experiments.contract import Metric, Status


@pytest.mark.parametrize("hypothesis", ["amplification", "awakening", "correction", "weak_signal"])
@pytest.mark.parametrize(
    ("tuned_s", "tuned_r", "word", "named"),
    [
        (shifted(-1), FLAT, "confirmed", "tuned_s"),
        (shifted(-1), shifted(-2), "confirmed", "tuned_r"),
        (NEARLY, NEARLY, "refuted", "tuned_s"),
        (worse(1), worse(2), "refuted", "tuned_s"),
        (SWAPPED, NEARLY, "inconclusive", "tuned_s"),
        # An adapter that changes nothing on any problem shows nothing of the next one.
        (FLAT, FLAT, "inconclusive", "tuned_s"),
    ],
)
def test_attempts_are_judged_against_the_base_of_the_hypothesis(
    hypothesis: str, tuned_s: list[int], tuned_r: list[int], word: str, named: str
) -> None:
    """Confirmed: fewer attempts, p < .05. Refuted: no interval leaves room for a saving of 0.25. The status is precision's."""
    base = e2.CONDITIONS[hypothesis][0]
    numbers = {base: FLAT, "base_query": FLAT, "tuned_s": tuned_s, "tuned_r": tuned_r, "tuned_s_none": shifted(1)}
    metrics, verdict = analysed(hypothesis, numbers)
    assert verdict.findings.attempts_verdict == word and f" Attempts {word}: {named} - {base} " in verdict.reason
    assert verdict.status is Status.INCONCLUSIVE and verdict.findings.hypothesis_verdict == "inconclusive"
    if word == "confirmed":
        assert verdict.findings.best_model == named
    assert metrics.facts["base"] == base
    # Holm runs over the two comparisons with the base; the controls are described, not tested.
    tested = {m.condition for m in metrics.values if m.metric == "adjusted_p"}
    assert tested == {f"tuned_s - {base}", f"tuned_r - {base}"}
    assert metrics.find("attempts_mean", "tuned_s_none") is not None


def judged(
    *rows: tuple[str, float | None, float | None],
    hypothesis: str = "weak_signal",
    cv: Mapping[str, tuple[float | None, float, float]] | None = None,
    **tests: Mapping[str, float],
) -> e2_attempts.Answer:
    """The answer on (tuned condition, adjusted p, mean difference), ratios of variation, and p of the margin's tests."""
    made: list[Metric] = []
    for name, p, difference in rows:
        pair = f"{name} - base_query"
        ratio, low, high = (cv or {}).get(name, (None, 0.0, 0.0))
        bounds = (None, None) if ratio is None else (low, high)
        made += [
            *compared(pair, p, difference),
            Metric("cv_ratio", ratio, *bounds, n=20, condition=pair, method="attempts of the base do not vary"),
            *(Metric(metric, found[name], condition=pair) for metric, found in tests.items() if name in found),
        ]
    return e2_attempts.answer(metrics_of(made), hypothesis, "base_query", [r[0] for r in rows], CONFIG)


JUST_UNDER = float(np.nextafter(0.05, 0))


@pytest.mark.parametrize(
    ("answer", "word", "named"),
    [
        (judged(("tuned_s", JUST_UNDER, -0.5)), "confirmed", "tuned_s"),
        (judged(("tuned_s", 0.05, -0.5)), "inconclusive", "tuned_s"),
        # Significant and worse is no confirmation (the test is one-sided, but the sign is looked at as well).
        (judged(("tuned_s", 0.01, 0.5)), "inconclusive", "tuned_s"),
        # The larger saving is uncertain, the smaller one is shown: Holm's p lets either confirm.
        (judged(("tuned_s", 0.2, -0.9), ("tuned_r", 0.01, -0.4)), "confirmed", "tuned_r"),
        # Shown to save less than the margin, at the level and not over it.
        (judged(("tuned_s", 0.6, 0.0), no_saving_p={"tuned_s": 0.05}), "inconclusive", "tuned_s"),
        (judged(("tuned_s", 0.6, 0.0), no_saving_p={"tuned_s": JUST_UNDER}), "refuted", "tuned_s"),
        # One refuted, one undecided: not refuted.
        (
            judged(("tuned_s", 0.6, 0.0), ("tuned_r", 0.6, 0.1), no_saving_p={"tuned_s": 0.01, "tuned_r": 0.2}),
            "inconclusive",
            "tuned_s",
        ),
        (judged(("tuned_s", None, None), ("tuned_r", 0.01, -0.4)), "confirmed", "tuned_r"),
        # A saving that is shown, though smaller than the margin, is a saving.
        (judged(("tuned_s", 0.01, -0.1), no_saving_p={"tuned_s": 0.01}), "confirmed", "tuned_s"),
    ],
)
def test_the_bounds_of_the_answer_by_attempts(answer: e2_attempts.Answer, word: str, named: str) -> None:
    """Strict where the protocol is strict, and one undecided condition keeps a refutation back."""
    assert answer.word == word
    assert answer.main is not None and answer.main.condition == f"{named} - base_query"


BOTH = {"tuned_s": 0.001, "tuned_r": 0.001}


@pytest.mark.parametrize(
    ("cv", "tests", "word", "named"),
    [
        ({"tuned_s": (0.6, 0.4, 0.99), "tuned_r": (1.2, 0.9, 1.5)}, {}, "confirmed", "tuned_s"),
        ({"tuned_s": (0.6, 0.4, 1.0), "tuned_r": (1.2, 0.9, 1.5)}, {}, "inconclusive", "tuned_s"),
        ({"tuned_s": (1.3, 1.1, 1.5), "tuned_r": (1.4, 1.2, 1.5)}, {}, "refuted", "tuned_s"),
        ({"tuned_s": (1.3, 1.1, 1.5), "tuned_r": (1.4, 0.9, 1.9)}, {}, "inconclusive", "tuned_s"),
        ({"tuned_s": (0.5, 0.2, 1.1), "tuned_r": (0.7, 0.5, 0.9)}, {}, "confirmed", "tuned_r"),
        ({}, {}, "inconclusive", "tuned_s"),
        # Steadier, and not shown to be no worse: it passed.
        (
            {"tuned_s": (0.6, 0.4, 0.9), "tuned_r": (0.7, 0.5, 0.9)},
            {"noninferiority_p": {"tuned_s": 0.05}},
            "inconclusive",
            "tuned_s",
        ),
        (
            {"tuned_s": (0.6, 0.4, 0.9), "tuned_r": (0.7, 0.5, 0.9)},
            {"noninferiority_p": {"tuned_s": 0.05, "tuned_r": 0.01}},
            "confirmed",
            "tuned_r",
        ),
        # Steadier, and shown to be worse: refuted; the other one's variation refutes it as well.
        (
            {"tuned_s": (0.6, 0.4, 0.9), "tuned_r": (1.3, 1.1, 1.5)},
            {"noninferiority_p": {}, "inferiority_p": {"tuned_s": 0.001, "tuned_r": 0.9}},
            "refuted",
            "tuned_s",
        ),
    ],
)
def test_stabilization_needs_steadier_attempts_that_are_not_worse(
    cv: dict[str, tuple[float | None, float, float]], tests: dict[str, dict[str, float]], word: str, named: str
) -> None:
    """Fewer attempts do not make steadier ones, and a model that fails everywhere is steady too."""
    rows = (("tuned_s", 0.001, -1.0), ("tuned_r", 0.001, -2.0))
    answer = judged(*rows, hypothesis="stabilization", cv=cv, **{"noninferiority_p": BOTH, **tests})
    assert answer.word == word and answer.main is not None
    assert answer.main.metric == "cv_ratio" and answer.main.condition == f"{named} - base_query"


def test_a_model_that_got_worse_everywhere_is_not_stable() -> None:
    """Attempts at chance and a variation of 0.63 of the base's: PASS, when the variation alone was looked at."""
    base, tuned = [1, 1, 1, 1, 5, 1, 1, 5] * 6, [3, 4, 2, 5, 6, 3, 4, 6] * 6
    metrics, verdict = analysed("stabilization", {"base_query": base, "tuned_s": tuned, "tuned_r": tuned})
    ratio = metrics.find("cv_ratio", "tuned_s - base_query")
    assert ratio is not None and ratio.high is not None and ratio.high < 1
    assert metrics.facts["flags"]["floor"] == ["tuned_s", "tuned_r"], "no better than chance"
    assert verdict.findings.attempts_verdict == "refuted"
    assert "not shown to be within 0.25" in verdict.reason


def test_stabilization_from_trials() -> None:
    """Attempts of 2 and 3 instead of 2 and 6: fewer, and the coefficients of variation are 1/5 and 1/2."""
    base = [2, 6] * 20
    metrics, verdict = analysed("stabilization", {"base_query": base, "tuned_s": [2, 3] * 20, "tuned_r": base})
    ratio = metrics.find("cv_ratio", "tuned_s - base_query")
    assert ratio is not None and ratio.value == pytest.approx(0.4)
    assert ratio.low is not None and ratio.high is not None and ratio.low <= 0.4 <= ratio.high < 1
    assert verdict.findings.attempts_verdict == "confirmed" and "tuned_s - base_query CV ratio 0.40" in verdict.reason
    same = metrics.find("cv_ratio", "tuned_r - base_query")
    assert same is not None and (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    level, _ = analysed("stabilization", {"base_query": [3] * 16, "tuned_s": FLAT, "tuned_r": FLAT})
    undefined = level.find("cv_ratio", "tuned_s - base_query")
    assert undefined is not None and undefined.value is None


def test_performance_and_its_interval_by_hand() -> None:
    """1 / mean attempts of S over that of R: 3 against 2 is 1.5 on every problem, so on every resample."""
    metrics, _ = analysed("weak_signal", {"base_query": FLAT, "tuned_s": [2] * 16, "tuned_r": [3] * 16})
    ratio = metrics.find("performance_ratio", "tuned_s / tuned_r")
    assert ratio is not None and (ratio.value, ratio.low, ratio.high, ratio.n) == (1.5, 1.5, 1.5, 16)


def criteria(seconds: float, tokens: int, attempts_s: int, attempts_r: int) -> dict[str, bool]:
    """Which criteria are met by S trained in `seconds` of 100 and `tokens` of 1,000; attempts summed over 15 problems."""
    training = [trained("s", "weak_signal", seconds, tokens), trained("r", "weak_signal")]
    numbers = {"base_query": [3] * 15, "tuned_s": [attempts_s - 14, *[1] * 14], "tuned_r": [attempts_r - 14, *[1] * 14]}
    metrics, verdict = analysed("weak_signal", numbers, training)
    for m in metrics.values:
        if m.metric == "criterion":
            assert m.timing == (m.condition != "token_efficiency")
    return verdict.findings.criteria


@pytest.mark.parametrize(
    ("name", "met", "missed"),
    [
        # (seconds, tokens, attempts S, attempts R): performance S/R is attempts R / attempts S.
        ("efficiency_moderate", (64.9, 999, 20, 19), [(65.0, 999, 20, 19), (64.9, 999, 2000, 1899)]),
        ("efficiency_strong", (49.9, 999, 20, 17), [(50.0, 999, 20, 17), (49.9, 999, 2000, 1699)]),
        ("performance_moderate", (150.0, 999, 1000, 1251), [(150.0, 999, 36, 45), (150.1, 999, 1000, 1251)]),
        ("performance_strong", (200.0, 999, 1000, 1501), [(200.0, 999, 22, 33), (200.1, 999, 1000, 1501)]),
        ("token_efficiency", (999.0, 599, 20, 18), [(999.0, 600, 20, 18), (999.0, 599, 2000, 1799)]),
    ],
)
def test_the_five_criteria_at_their_exact_bounds(
    name: str, met: tuple[float, int, int, int], missed: list[tuple[float, int, int, int]]
) -> None:
    """The "<" and ">=", and ">" and "<=", to the last digit: 45/36 is 1.25 and not more."""
    assert criteria(*met)[name]
    for numbers in missed:
        assert not criteria(*numbers)[name], numbers


def test_cost_and_break_even_by_hand() -> None:
    """100 s of training, one attempt saved a problem, 0.5 s an attempt: 200 problems; never when nothing is saved."""
    metrics, _ = analysed("weak_signal", {"base_query": FLAT, "tuned_s": shifted(-1), "tuned_r": FLAT})
    pays, never = metrics.find("break_even_problems", "tuned_s"), metrics.find("break_even_problems", "tuned_r")
    assert pays is not None and pays.value == pytest.approx(200.0) and pays.timing
    assert never is not None and never.value is None and "never" in never.method
    percent = metrics.find("improvement_percent", "tuned_s - base_query")
    assert percent is not None and percent.value == pytest.approx(100 / 3.5)
    assert percent.low is not None and percent.high is not None and percent.low <= percent.value <= percent.high
    tokens = metrics.find("tokens_mean", "tuned_s")
    assert tokens is not None and tokens.value == 127.0
    loss = metrics.find("validation_loss", "train_s")
    assert loss is not None and loss.value == 1.5 and "before training 2.000" in loss.method
