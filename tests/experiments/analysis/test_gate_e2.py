"""E2's gate on made-up trials: retrieval precision, empty queries, writers and solvers, missing adapters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up_e2 import (
    CONFIG,
    FLAT,
    PRECISE,
    STATUSES,
    WIDE,
    WRITERS,
    analysed,
    gained,
    shifted,
    trained,
    untrained,
    worse,
)
from made_up_trials import SEEDS, choice_trials, with_queries

from experiments import e2_finetuned_retrieval as e2
from experiments.contract import Status


@pytest.mark.parametrize("hypothesis", ["amplification", "weak_signal"])
@pytest.mark.parametrize(
    ("tuned_s", "tuned_r", "word", "named"),
    [
        (gained(0.2), PRECISE, "confirmed", "tuned_s"),
        (gained(0.1), gained(0.2), "confirmed", "tuned_r"),
        (gained(-0.2), gained(-0.2), "refuted", "tuned_s"),
        # Shown to gain less than 0.05; for one of them only, nothing is refuted.
        ([p + (0.02, -0.02)[i % 3 == 0] for i, p in enumerate(PRECISE)], gained(-0.1), "refuted", "tuned_s"),
        ([p + (0.2, -0.2)[i % 2] for i, p in enumerate(PRECISE)], gained(-0.1), "inconclusive", "tuned_s"),
        (PRECISE, PRECISE, "inconclusive", "tuned_s"),
    ],
)
def test_retrieval_precision_of_written_queries_decides(
    hypothesis: str, tuned_s: list[float], tuned_r: list[float], word: str, named: str
) -> None:
    """Whatever E1 found: confirmed if a tuned writer's queries find more than the untuned one's, whatever attempts say."""
    base = e2.CONDITIONS[hypothesis][0]
    numbers = {base: FLAT, "base_query": FLAT, "tuned_s": worse(1), "tuned_r": worse(2)}
    metrics, verdict = analysed(hypothesis, numbers, precise={"tuned_s": tuned_s, "tuned_r": tuned_r})
    assert verdict.findings.hypothesis_verdict == word
    assert verdict.status is STATUSES[word]
    assert verdict.main.metric == "precision_difference" and verdict.main.condition == f"{named} - base_query"
    assert verdict.reason.startswith(f"better retrieval {word}: {named} - base_query ") and verdict.main.n == 16
    assert f" Attempts {verdict.findings.attempts_verdict}: " in verdict.reason
    assert bool(verdict.next_steps) == (word != "confirmed")
    rows = {m.condition: m for m in metrics.values if m.metric == "precision_adjusted_p"}
    assert set(rows) == {"tuned_s - base_query", "tuned_r - base_query"}
    assert all(m.method == "Wilcoxon signed-rank, greater, Holm over 2" or "zero" in m.method for m in rows.values())
    assert metrics.find("retrieval_precision", "base_query").value == pytest.approx(0.5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("empty", "word", "named"),
    [
        # Of sixteen problems 3 are under 20 %, 4 over it.
        ({"tuned_s": 3}, "confirmed", "tuned_s"),
        ({"tuned_s": 4}, "confirmed", "tuned_r"),
        ({"tuned_s": 4, "tuned_r": 4}, "inconclusive", "tuned_s"),
        ({"base_query": 4}, "inconclusive", "tuned_s"),
    ],
)
def test_a_writer_whose_queries_are_empty_too_often_is_not_judged(empty: dict[str, int], word: str, named: str) -> None:
    """An empty query retrieves as well as chance; a fifth of them is a format that was not learned, not a retrieval."""
    solved = with_queries(
        choice_trials(dict.fromkeys(WRITERS, FLAT), hypothesis="weak_signal"),
        {"base_query": PRECISE, "tuned_s": gained(0.2), "tuned_r": gained(0.1)},
    )
    blank = [
        replace(t, details={**t.details, "query": " .?\n"}) if int(t.problem_id[1:]) < empty.get(t.condition, 0) else t
        for t in solved
    ]
    metrics = e2.metrics([trained("s", "weak_signal"), trained("r", "weak_signal"), *blank], CONFIG)
    verdict = e2.gate(metrics, CONFIG)
    assert (verdict.findings.hypothesis_verdict, verdict.main.condition) == (word, f"{named} - base_query")
    for c in WRITERS:
        share = metrics.find("empty_query_share", c)
        assert share is not None and share.value == empty.get(c, 0) / 16 and share.n == 16
        assert (f"25% of {c}" in verdict.reason) == (empty.get(c) == 4)


def test_trainings_are_one_observation_and_their_spread_is_told() -> None:
    """Three trainings of 0.5, 0.6 and 0.7 on every problem: a mean of 0.6, a standard deviation of 0.1, n of problems."""
    solved = with_queries(
        choice_trials(dict.fromkeys(WRITERS, FLAT), hypothesis="weak_signal"), {"base_query": [0.4] * 16}
    )
    by_seed = dict(zip(SEEDS, (0.5, 0.6, 0.7), strict=True))
    tuned = [
        replace(t, details={**t.details, "query": "x", "type_match": by_seed[t.seed or 0]})
        for t in solved
        if t.condition == "tuned_s"
    ]
    trainings = [replace(trained("s", "weak_signal"), seed=s) for s in SEEDS]
    metrics = e2.metrics([*trainings, *(t for t in solved if t.condition == "base_query"), *tuned], CONFIG)
    precision, spread = metrics.find("retrieval_precision", "tuned_s"), metrics.find("seed_spread", "tuned_s")
    assert precision is not None and (precision.value, precision.n) == (pytest.approx(0.6), 16)
    assert spread is not None and (spread.value, spread.n) == (pytest.approx(0.1), 3)
    assert spread.method.endswith("of 3 trainings: 0.500, 0.600, 0.700")
    assert e2.gate(metrics, CONFIG).findings.training_seeds == 3


def test_writer_and_solver_are_told_apart_by_hand() -> None:
    """Each cell needs 4 attempts, 2 fewer if S solves, 1 fewer if S or R wrote, 1 more if R wrote for R."""
    cells = {"base_query": ("", ""), "tuned_s": ("s", "s"), "tuned_r": ("r", "r")} | {
        name: (e2.WRITERS[own.writer], own.solver) for name, own in e2.CROSSED.items()
    }
    assert len(set(cells.values())) == 9
    numbers = {c: [4 - 2 * (m == "s") - (w != "") + (w == m == "r")] * 3 for c, (w, m) in cells.items()}
    metrics, verdict = analysed("weak_signal", numbers)
    found = {m.condition: m.value for m in metrics.values if m.metric == "crossed_difference"}
    assert found == pytest.approx(
        {
            "writer: tuned_s - base_query": -1.0,
            "writer: tuned_r - base_query": -1.0 + 1 / 3,
            "solver: tuned_s - base_query": -2.0,
            "solver: tuned_r - base_query": 1 / 3,
        }
    )
    assert "write_" not in verdict.reason, "some problems of a crossed condition are no condition to use"


@pytest.mark.parametrize(("lost", "first"), [((), 300), ((300,), 100)])
def test_crossed_cells_of_an_adapter_are_of_one_training(
    lost: tuple[int, ...], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of train_seeds that succeeded, whatever their order: the smallest had been taken, and units took another."""
    monkeypatch.setattr("experiments.statistics.RESAMPLES", 2)
    config = CONFIG.model_copy(update={"train_seeds": (300, 100, 200), "n_crossed": 3})
    taken = {100: 5, 200: 9, 300: 2}  # attempts by the training
    cells = {c: [4, 4, 4] for c in (*WRITERS, *e2.CROSSED)}
    trials = [
        replace(t, attempts=taken[t.seed or 0]) if t.condition == "tuned_s" else t
        for t in choice_trials(cells, hypothesis="weak_signal", query_quality=0.5, hypothesis_quality=0.5)
        if t.condition != "tuned_s" or t.seed not in lost
    ]
    metrics = e2.metrics(with_queries(trials, dict.fromkeys(WRITERS, [0.4] * 3)), config)
    effect = metrics.find("crossed_difference", "solver: tuned_s - base_query")
    assert effect is not None and effect.value == pytest.approx((taken[first] - 4) / 3)


def test_what_was_not_trained_or_crossed_is_named() -> None:
    """One training of several failed, and so did the one on equal tokens; a writer without a query crosses with nobody."""
    gone = [replace(untrained(name, "weak_signal"), seed=44) for name in ("s", "tokens")]
    training = [trained("s", "weak_signal"), trained("r", "weak_signal"), *gone]
    numbers = dict.fromkeys((*WRITERS, *(c for c in e2.CROSSED if not c.startswith("write_s"))), FLAT)
    trials = with_queries(choice_trials(numbers, hypothesis="weak_signal"), dict.fromkeys(WRITERS, PRECISE))
    metrics = e2.metrics([*training, *trials], CONFIG.model_copy(update={"n_crossed": 3}))
    assert metrics.facts["missing"] == {
        "adapter S with seed 44": "nothing solved",
        "adapter by tokens": "nothing solved",
        "write_s_solve_base": "tuned_s wrote no query for it",
        "write_s_solve_r": "tuned_s wrote no query for it",
    }
    assert "adapter S with seed 44 is missing: nothing solved." in e2.gate(metrics, CONFIG).reason


def test_one_missing_adapter_leaves_the_other_to_be_judged() -> None:
    """Dataset S can be empty when the baseline solves nothing; R is then still compared, the criteria are not."""
    training = [untrained("s", "weak_signal"), trained("r", "weak_signal")]
    precise = {"tuned_r": gained(0.2)}
    metrics, verdict = analysed("weak_signal", {"base_query": FLAT, "tuned_r": shifted(-1)}, training, precise)
    assert verdict.status is Status.PASS and verdict.main.condition == "tuned_r - base_query"
    assert metrics.facts["criteria"] == {} and metrics.facts["training"]["train_s"] == {"error": "nothing solved"}
    assert metrics.facts["tuned"] == ["tuned_r"]
    assert metrics.facts["missing"] == {"adapter S": "nothing solved"}
    assert verdict.reason.endswith(" adapter S is missing: nothing solved.")
    assert verdict.findings == e2.Findings(
        hypothesis_verdict="confirmed",
        attempts_verdict="confirmed",
        best_model="tuned_r",
        criteria={},
        training_seeds=1,
    )
    pays = metrics.find("break_even_problems", "tuned_r")
    assert pays is not None and pays.value == pytest.approx(200.0)
    assert (
        metrics.find("break_even_problems", "tuned_s") is metrics.find("performance_ratio", "tuned_s / tuned_r") is None
    )


def test_what_could_not_be_tried_is_not_refuted() -> None:
    """A tuned model that saves nothing says nothing of the other one, whose adapter could not be trained."""
    training = [untrained("s", "weak_signal"), trained("r", "weak_signal")]
    precise = {"tuned_r": gained(-0.2)}
    _, verdict = analysed("weak_signal", {"base_query": FLAT, "tuned_r": worse(1)}, training, precise)
    assert verdict.status is Status.INCONCLUSIVE and verdict.findings.hypothesis_verdict == "inconclusive"
    assert verdict.findings.attempts_verdict == "inconclusive"
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
    assert "a larger model" in str(verdict.next_steps[0])


def test_a_failed_control_costs_nothing_but_itself() -> None:
    """The control's adapter could not be fetched: tuned against base is judged as if it had not been planned, but named."""
    numbers: dict[str, list[int | None]] = {
        "base_query": list(FLAT),
        "tuned_s": list(shifted(-1)),
        "tuned_r": [None, *FLAT[1:]],
        "tuned_s_random": [None] * 16,
    }
    metrics, verdict = analysed("weak_signal", numbers, precise={"tuned_s": gained(0.2)})
    assert verdict.status is Status.PASS and verdict.main.n == 16 and verdict.findings.attempts_verdict == "confirmed"
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
