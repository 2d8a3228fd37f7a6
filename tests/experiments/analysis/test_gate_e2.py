"""E2's analysis on made-up trials: confirmed, refuted, inconclusive, stabilization, missing adapters, the criteria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from made_up_trials import choice_trials, compared, metrics_of

from experiments import e2_finetuned_retrieval as e2
from experiments.contract import Metric, Metrics, Status, Trial, Verdict

CONFIG = e2.Config()
FLAT = [3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4]
SWAPPED = FLAT[1:] + FLAT[:1]
NEARLY = [4, 3, *FLAT[2:]]  # one attempt more on one problem, one less on another
WIDE = [1, 6] * 8


def trained(
    name: str, hypothesis: str, seconds: float = 100.0, tokens: int = 1000, losses: Sequence[float] = (2.0, 1.5)
) -> Trial:
    return Trial(
        "training",
        f"train_{name}",
        42,
        tokens_in=tokens,
        latency_s=seconds,
        details={
            "hypothesis": hypothesis,
            "adapter": name * 64,
            "adapter_bytes": 900,
            "examples": 16,
            "held": 4,
            "train_loss": [2.0],
            "validation_loss": list(losses),
            "best_epoch": 1,
        },
    )


def untrained(name: str, hypothesis: str) -> Trial:
    return Trial("training", f"train_{name}", error="nothing solved", details={"hypothesis": hypothesis})


def analysed(
    hypothesis: str, numbers: Mapping[str, Sequence[int | None]], training: Sequence[Trial] | None = None
) -> tuple[Metrics, Verdict]:
    """Metrics and verdict of attempts by condition, with both adapters trained unless told otherwise."""
    if training is None:
        training = [trained("s", hypothesis), trained("r", hypothesis)]
    solved = choice_trials(numbers, hypothesis=hypothesis, query_quality=0.5, query_tokens=7, hypothesis_quality=0.8)
    metrics = e2.metrics([*training, *solved], CONFIG)
    return metrics, e2.gate(metrics, CONFIG)


def shifted(by: int) -> list[int]:
    return [a + by for a in FLAT]


def worse(by: int) -> list[int]:
    """So many attempts more, and one more on the first problem: differences that never vary show nothing."""
    return [FLAT[0] + by + 1, *shifted(by)[1:]]


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
def test_the_hypothesis_is_judged_by_attempts_against_its_base(
    hypothesis: str, tuned_s: list[int], tuned_r: list[int], word: str, named: str
) -> None:
    """Confirmed: fewer attempts, p < .05. Refuted: no interval leaves room for a saving of 0.25. Else inconclusive."""
    base = e2.CONDITIONS[hypothesis][0]
    numbers = {base: FLAT, "tuned_s": tuned_s, "tuned_r": tuned_r, "tuned_s_random": FLAT, "tuned_s_none": shifted(1)}
    metrics, verdict = analysed(hypothesis, numbers)
    assert verdict.findings.hypothesis_verdict == word
    assert (
        verdict.status is {"confirmed": Status.PASS, "refuted": Status.FAIL, "inconclusive": Status.INCONCLUSIVE}[word]
    )
    assert verdict.main.metric == "mean_difference" and verdict.main.n == 16
    assert verdict.reason.startswith(f"{hypothesis} {word}: {verdict.main.condition} ")
    if word == "confirmed":
        assert verdict.main.condition == f"{named} - {base}"
        assert verdict.findings.best_model == named
    assert bool(verdict.next_steps) == (word != "confirmed")
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
) -> Verdict:
    """The verdict on (tuned condition, adjusted p, mean difference), ratios of variation, and p of the margin's tests."""
    made: list[Metric] = [Metric("attempts_mean", 3.0, condition="base_query")]
    for name, p, difference in rows:
        pair = f"{name} - base_query"
        ratio, low, high = (cv or {}).get(name, (None, 0.0, 0.0))
        bounds = (None, None) if ratio is None else (low, high)
        made += [
            *compared(pair, p, difference),
            Metric("cv_ratio", ratio, *bounds, n=20, condition=pair, method="attempts of the base do not vary"),
            Metric("attempts_mean", 3.0 + (difference or 0.0), condition=name),
            *(Metric(metric, found[name], condition=pair) for metric, found in tests.items() if name in found),
        ]
    facts: dict[str, Any] = {"hypothesis": hypothesis, "base": "base_query", "tuned": [r[0] for r in rows]}
    facts |= {"best": "base_query", "missing": {}, "flags": {}, "training": {}, "criteria": {}}
    return e2.gate(metrics_of(made, **facts), CONFIG)


JUST_UNDER = float(np.nextafter(0.05, 0))


@pytest.mark.parametrize(
    ("verdict", "word", "named"),
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
def test_the_bounds_of_the_verdict(verdict: Verdict, word: str, named: str) -> None:
    """Strict where the protocol is strict, and one undecided condition keeps a refutation back."""
    assert verdict.findings.hypothesis_verdict == word
    assert verdict.main.condition == f"{named} - base_query"


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
    verdict = judged(*rows, hypothesis="stabilization", cv=cv, **{"noninferiority_p": BOTH, **tests})
    assert verdict.findings.hypothesis_verdict == word
    assert verdict.main.metric == "cv_ratio" and verdict.main.condition == f"{named} - base_query"
    assert (
        verdict.status is {"confirmed": Status.PASS, "refuted": Status.FAIL, "inconclusive": Status.INCONCLUSIVE}[word]
    )


def test_a_model_that_got_worse_everywhere_is_not_stable() -> None:
    """Attempts at chance and a variation of 0.63 of the base's: PASS, when the variation alone was looked at."""
    base, tuned = [1, 1, 1, 1, 5, 1, 1, 5] * 6, [3, 4, 2, 5, 6, 3, 4, 6] * 6
    metrics, verdict = analysed("stabilization", {"base_query": base, "tuned_s": tuned, "tuned_r": tuned})
    ratio = metrics.find("cv_ratio", "tuned_s - base_query")
    assert ratio is not None and ratio.high is not None and ratio.high < 1
    assert metrics.facts["flags"]["floor"] == ["tuned_s", "tuned_r"], "no better than chance"
    assert verdict.status is Status.FAIL and verdict.findings.hypothesis_verdict == "refuted"
    assert "not shown to be within 0.25" in verdict.reason


def test_stabilization_from_trials() -> None:
    """Attempts of 2 and 3 instead of 2 and 6: fewer, and the coefficients of variation are 1/5 and 1/2."""
    base = [2, 6] * 20
    metrics, verdict = analysed("stabilization", {"base_query": base, "tuned_s": [2, 3] * 20, "tuned_r": base})
    ratio = metrics.find("cv_ratio", "tuned_s - base_query")
    assert ratio is not None and ratio.value == pytest.approx(0.4)
    assert ratio.low is not None and ratio.high is not None and ratio.low <= 0.4 <= ratio.high < 1
    assert verdict.status is Status.PASS and verdict.main == ratio
    same = metrics.find("cv_ratio", "tuned_r - base_query")
    assert same is not None and (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    level, _ = analysed("stabilization", {"base_query": [3] * 16, "tuned_s": FLAT, "tuned_r": FLAT})
    undefined = level.find("cv_ratio", "tuned_s - base_query")
    assert undefined is not None and undefined.value is None


def test_one_missing_adapter_leaves_the_other_to_be_judged() -> None:
    """Dataset S can be empty when the baseline solves nothing; R is then still compared, the criteria are not."""
    training = [untrained("s", "weak_signal"), trained("r", "weak_signal")]
    metrics, verdict = analysed("weak_signal", {"base_query": FLAT, "tuned_r": shifted(-1)}, training)
    assert verdict.status is Status.PASS and verdict.main.condition == "tuned_r - base_query"
    assert metrics.facts["criteria"] == {} and metrics.facts["training"]["train_s"] == {"error": "nothing solved"}
    assert metrics.facts["tuned"] == ["tuned_r"]
    assert metrics.facts["missing"] == {"adapter S": "nothing solved"}
    assert verdict.reason.endswith(" adapter S is missing: nothing solved.")
    assert verdict.findings == e2.Findings(hypothesis_verdict="confirmed", best_model="tuned_r", criteria={})
    pays = metrics.find("break_even_problems", "tuned_r")
    assert pays is not None and pays.value == pytest.approx(200.0)
    assert (
        metrics.find("break_even_problems", "tuned_s") is metrics.find("performance_ratio", "tuned_s / tuned_r") is None
    )


def test_what_could_not_be_tried_is_not_refuted() -> None:
    """A tuned model that saves nothing says nothing of the other one, whose adapter could not be trained."""
    training = [untrained("s", "weak_signal"), trained("r", "weak_signal")]
    _, verdict = analysed("weak_signal", {"base_query": FLAT, "tuned_r": FLAT}, training)
    assert verdict.status is Status.INCONCLUSIVE and verdict.findings.hypothesis_verdict == "inconclusive"
    assert verdict.reason.endswith("adapter S is missing: nothing solved.") and verdict.next_steps


@pytest.mark.parametrize("hypothesis", e2.CONDITIONS)
def test_a_refusal_to_train_s_is_told_under_every_hypothesis(hypothesis: str) -> None:
    """The whole analysis without S, whatever is compared: no crash, and nobody takes R's verdict for one on both."""
    numbers = {c: WIDE for c in e2.CONDITIONS[hypothesis] if not c.startswith("tuned_")} | {"tuned_r": WIDE}
    _, verdict = analysed(hypothesis, numbers, [untrained("s", hypothesis), trained("r", hypothesis)])
    assert verdict.status is not Status.PASS and verdict.findings.criteria == {}
    assert "adapter S is missing: nothing solved." in verdict.reason


@pytest.mark.parametrize("numbers", [{}, {"base_semantic": FLAT}])
def test_no_adapter_at_all_is_inconclusive_and_names_the_hypothesis(numbers: dict[str, list[int]]) -> None:
    """The hypothesis must survive even when no trial but the failed trainings came back."""
    _, verdict = analysed("amplification", numbers, [untrained("s", "amplification"), untrained("r", "amplification")])
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason.startswith("amplification: nothing to compare.")
    assert "adapter S is missing: nothing solved. adapter R is missing: nothing solved." in verdict.reason
    assert verdict.main.value is None
    assert str(verdict.next_steps[0]).startswith("lab run e2 --set names=natural  (easier problems")


def test_a_failed_control_costs_nothing_but_itself() -> None:
    """The control's adapter could not be fetched: tuned against base is judged as if it had not been planned, but named."""
    numbers: dict[str, list[int | None]] = {
        "base_query": list(FLAT),
        "tuned_s": list(shifted(-1)),
        "tuned_r": [None, *FLAT[1:]],
        "tuned_s_random": [None] * 16,
    }
    metrics, verdict = analysed("weak_signal", numbers)
    assert verdict.status is Status.PASS and verdict.main.n == 16 and verdict.main.value == -1.0
    assert "tuned_s_random is missing: OSError: gone." in verdict.reason
    n = {name: m.n for name in ("tuned_s", "tuned_r") if (m := metrics.find("mcnemar_p", f"{name} - base_query"))}
    assert n == {"tuned_s": 16, "tuned_r": 15}
    ratio, cv = metrics.find("performance_ratio", "tuned_s / tuned_r"), metrics.find("cv_ratio", "tuned_r - base_query")
    assert ratio is not None and ratio.n == 15 and cv is not None and (cv.n, cv.value) == (15, 1.0)
    pays = metrics.find("break_even_problems", "tuned_r")
    assert pays is not None and pays.n == 15 and pays.value is None


def test_a_base_without_a_result_is_named() -> None:
    """Nothing can be held against it: open, with the cause, and not a crash in the middle of the analysis."""
    metrics, verdict = analysed("weak_signal", {"base_query": [None] * 16, "tuned_s": FLAT, "tuned_r": FLAT})
    assert verdict.status is Status.INCONCLUSIVE and verdict.main.value is None
    assert verdict.reason == "weak_signal: nothing to compare. base_query is missing: OSError: gone."
    assert metrics.facts["best"] == "tuned_s"
    cv = metrics.find("cv_ratio", "tuned_s - base_query")
    assert cv is not None and cv.value is None and cv.method == "needs two problems"


def test_the_best_model_is_the_best_on_the_same_problems() -> None:
    """tuned_r failed on the hard problems: its mean is the lowest, and it still needs more than the base where it answered."""
    numbers: dict[str, list[int | None]] = {"base_query": [1, 6] * 8, "tuned_s": [1, 5] * 8, "tuned_r": [2, None] * 8}
    metrics, verdict = analysed("weak_signal", numbers)
    means = {c: m.value for c in numbers if (m := metrics.find("attempts_mean", c))}
    assert means == {"base_query": 3.5, "tuned_s": 3.0, "tuned_r": 2.0}
    assert verdict.findings.best_model == "tuned_s"


def test_a_floor_is_told_beside_the_verdict() -> None:
    """Nothing was solved under any condition: whoever reads "refuted" has to see that as well."""
    metrics, verdict = analysed("weak_signal", {c: [6] * 16 for c in ("base_query", "tuned_s", "tuned_r")})
    assert metrics.facts["flags"] == {"ceiling": [], "floor": ["base_query", "tuned_s", "tuned_r"]}
    share = metrics.find("floor_share", "tuned_s")
    assert share is not None and share.value == 1.0 and share.n == 16
    assert "At the floor" in verdict.reason and "base_query, tuned_s, tuned_r." in verdict.reason


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
