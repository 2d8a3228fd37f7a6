"""Solving by choice: attempts are an exact expectation, options are listed in a balanced order, prompts fit the window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from fake_engines import FakeLanguageModel
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.backends.protocols import TooLong, Unavailable
from experiments.contract import Trial
from experiments.data import universe
from experiments.domains import get_domain
from experiments.registry import configure
from experiments.seeds import generator
from experiments.solving.choice import attempts_of, calibrate_batch, option_order, ranked
from experiments.solving.replies import failed
from experiments.solving.solving import Memo, fit_prompt, prompt_for, solve

DOMAIN = get_domain("big_o")
CONFIG = configure("p2", "smoke", {"n_problems": 24})
PROBLEMS = universe(CONFIG).problems
MEMOS = [Memo(p, p.label, i) for i, p in enumerate(PROBLEMS[1:6])]
LOGPROBS = FakeLanguageModel().logprobs


def solved(
    lm: FakeLanguageModel, memos: Sequence[Memo] = (), condition: str = "none", phase: str = "p2"
) -> list[Trial]:
    return solve(lm, DOMAIN, PROBLEMS[0], memos, CONFIG, phase, condition)


def test_expected_attempts_by_hand() -> None:
    """Two options at 3 : 1. The right one first: 3/4, one attempt; else two. Three options at 2 : 1 : 1 likewise."""
    assert attempts_of([math.log(3), 0.0], 0, 1.0) == pytest.approx((1.25, 0.75))
    assert attempts_of([math.log(2), 0.0, 0.0], 0, 1.0) == pytest.approx((1 + 2 / 3, 0.5))
    assert attempts_of([math.log(2), 0.0, 0.0], 1, 1.0) == pytest.approx((1 + 2 / 3 + 1 / 2, 0.25))


@pytest.mark.parametrize("right", range(6))
def test_the_expectation_is_the_mean_of_many_drawn_orders(right: int) -> None:
    """20,000 orders, drawn by ranking l / T + Gumbel noise (Kool et al. 2019): the mean rank, and the share of rank 1."""
    rng, temperature = generator("test", "orders", right), 0.8
    scores = np.array(LOGPROBS) / temperature + rng.gumbel(size=(20_000, len(LOGPROBS)))
    ranks = (scores > scores[:, [right]]).sum(axis=1) + 1
    found = attempts_of(LOGPROBS, right, temperature)
    assert found.expected == pytest.approx(ranks.mean(), abs=4 * ranks.std() / 20_000**0.5)
    assert found.first_right == pytest.approx((ranks == 1).mean(), abs=0.015)


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=8), st.floats(0.01, 10))
@settings(max_examples=100, deadline=None)
def test_expectations_over_all_options_are_a_known_sum(logprobs: list[float], temperature: float) -> None:
    """Every order has each rank once, so the expected ranks of all options sum to n (n + 1) / 2, and the first ones to 1."""
    found = [attempts_of(logprobs, i, temperature) for i in range(len(logprobs))]
    n = len(logprobs)
    assert sum(f.expected for f in found) == pytest.approx(n * (n + 1) / 2)
    assert sum(f.first_right for f in found) == pytest.approx(1)
    assert all(1 <= f.expected <= n for f in found)
    assert sorted(ranked(logprobs)) == list(range(n))


def test_one_trial_holds_the_expectation() -> None:
    """Three draws from one forward pass would be no replicates: nothing is drawn, so there is one trial without a seed."""
    lm = FakeLanguageModel()
    (trial,) = solved(lm, MEMOS)
    right = DOMAIN.options.index(PROBLEMS[0].label)
    assert (trial.attempts, trial.first_right) == attempts_of(LOGPROBS, right, 0.3) and trial.seed is None
    order = trial.details["guesses"]
    assert order == [DOMAIN.options[i] for i in ranked(LOGPROBS)] and trial.answer == order[0]
    assert trial.solved == (order.index(PROBLEMS[0].label) < DOMAIN.max_attempts)
    assert trial.details["logprobs"] == list(LOGPROBS) and "calibrated" not in trial.details
    assert trial.details["retrieved"] == [m.problem.problem_id for m in MEMOS]
    assert trial.error is None and trial.latency_s == 0.25
    assert len(lm.asked) == 1 and lm.asked[0][1] == tuple(f" {o}" for o in DOMAIN.options)
    assert [t.seed for t in solve(lm, DOMAIN, PROBLEMS[0], MEMOS, CONFIG, "p2", "random", drawn=200)] == [200]


def test_a_certain_solver_needs_one_attempt_and_a_mistaken_one_all() -> None:
    """The two ends of the scale; the last of six is not solved within three."""
    right = DOMAIN.options.index(PROBLEMS[0].label)
    certain = [0.0 if i == right else -99.0 for i in range(6)]
    mistaken = [-99.0 if i == right else 0.0 for i in range(6)]
    assert [(t.attempts, t.solved) for t in solved(FakeLanguageModel(certain))] == [(pytest.approx(1), True)]
    assert [(t.attempts, t.solved) for t in solved(FakeLanguageModel(mistaken))] == [(pytest.approx(6), False)]


def test_each_option_stands_at_each_place_equally_often() -> None:
    """The order in which options are listed moves a small model's answers more than memory does."""
    config = configure("p2", "smoke")
    problems = [p for p in universe(config).problems if p.label == "O(n)"][:12]
    orders = [option_order(config, DOMAIN, p) for p in problems]
    for block in (orders[:6], orders[6:]):
        assert all({order[place] for order in block} == set(DOMAIN.options) for place in range(6))
    assert len(set(orders)) > 6, "the next square is another"
    assert all(sorted(order) == sorted(DOMAIN.options) for order in orders)
    other = configure("p2", "smoke", {"data_seed": 7})
    assert [option_order(config, DOMAIN, p) for p in problems] == orders
    assert [option_order(other, DOMAIN, p) for p in universe(other).problems[:12]] != orders
    lm = FakeLanguageModel()
    solve(lm, DOMAIN, problems[0], [], config, "p2", "none")
    assert f"one of: {', '.join(orders[0])}." in lm.asked[0][0]
    equations = get_domain("equations")
    assert option_order(configure("p2", "smoke", {"domain": "equations"}), equations, problems[0]) == ()


def test_contextual_calibration_takes_out_what_the_prompt_alone_says() -> None:
    """A model that says the same without the problem's text knows nothing of it: all options become equal."""
    lm, config = FakeLanguageModel(), configure("p2", "smoke", {"n_problems": 24, "calibration": "contextual"})
    (trial,) = solve(lm, DOMAIN, PROBLEMS[0], MEMOS, config, "p2", "semantic")
    assert trial.details["calibrated"] == [0.0] * 6 and trial.details["logprobs"] == list(LOGPROBS)
    assert (trial.attempts, trial.first_right) == pytest.approx((3.5, 1 / 6))
    asked, empty = (prompt for prompt, _ in lm.asked)
    assert PROBLEMS[0].text.strip() in asked and PROBLEMS[0].text.strip() not in empty and "\nN/A\n" in empty
    assert MEMOS[4].problem.text.strip() in empty and trial.latency_s == 0.5


def test_batch_calibration_takes_out_the_mean_of_a_condition() -> None:
    """Two problems by hand: probabilities .5 and .3 of one option, so .4 in the mean; the other's .5 and .7, so .6."""
    options = ("yes", "no")
    domain = SimpleNamespace(options=options, max_attempts=1)
    config = configure("p2", "smoke", {"calibration": "batch"})
    rows = [[math.log(0.5), math.log(0.5)], [math.log(0.3), math.log(0.7)]]
    plain = [Trial(f"p{i}", "none", truth="yes", attempts=1.5, details={"logprobs": row}) for i, row in enumerate(rows)]
    alone = Trial("p0", "semantic", truth="yes", attempts=1.5, details={"logprobs": rows[1]})
    found = calibrate_batch([*plain, alone], domain, config)  # type: ignore[arg-type]
    assert [math.exp(x) for x in found[0].details["calibrated"]] == pytest.approx([0.5 / 0.4, 0.5 / 0.6])
    assert [math.exp(x) for x in found[1].details["calibrated"]] == pytest.approx([0.3 / 0.4, 0.7 / 0.6])
    assert [t.answer for t in found[:2]] == ["yes", "no"]
    assert found[2].details["calibrated"] == pytest.approx([0.0, 0.0]), "each condition is a batch of its own"
    assert calibrate_batch(plain, domain, CONFIG) == plain  # type: ignore[arg-type]


def test_the_prompt_shows_memos_with_answers_and_the_problem_without() -> None:
    """The most relevant memo stands last, nearest to the question; the truth of the problem itself stands nowhere."""
    prompt = prompt_for(DOMAIN, PROBLEMS[0], MEMOS[:2])
    paths = [prompt.index(p.text.strip()) for p in (MEMOS[0].problem, MEMOS[1].problem, PROBLEMS[0])]
    assert paths == sorted(paths)
    assert prompt.count("Answer:") == 3 and prompt.endswith("Answer:")
    assert f"Answer: {MEMOS[1].answer}\n" in prompt
    head, _, rest = prompt.partition("\n\n")
    assert all(option in head for option in DOMAIN.options)
    assert PROBLEMS[0].label not in rest.replace(f"Answer: {MEMOS[0].answer}", "").replace(
        f"Answer: {MEMOS[1].answer}", ""
    )


@pytest.mark.parametrize("dropped", range(6))
def test_a_full_window_drops_the_least_relevant_memos_first(dropped: int) -> None:
    """The least relevant stand first; what remains is the end of the list, and the trial says what was dropped."""
    counter = FakeLanguageModel()
    kept = MEMOS[dropped:]
    room = counter.count_tokens(prompt_for(DOMAIN, PROBLEMS[0], kept)) + max(len(o.split()) for o in DOMAIN.options)
    lm = FakeLanguageModel(window=room)
    assert fit_prompt(lm, DOMAIN, PROBLEMS[0], MEMOS) == (prompt_for(DOMAIN, PROBLEMS[0], kept), dropped)
    trial = solved(lm, MEMOS)[0]  # its options are in another order, of the same length
    assert trial.details["memos_dropped"] == dropped
    assert trial.details["retrieved"] == [m.problem.problem_id for m in kept]
    assert trial.tokens_in == counter.count_tokens(trial.details["prompt"])


def test_a_problem_longer_than_the_window_is_not_asked() -> None:
    """Nothing more can be dropped, and an engine would cut the problem itself."""
    with pytest.raises(TooLong, match="tokens without memos, more than the 2 that fit in a prompt of fake"):
        fit_prompt(FakeLanguageModel(window=5), DOMAIN, PROBLEMS[0], MEMOS)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Unavailable("no model\nsecond line"), "Unavailable: no model"),
        (OSError(), "OSError: "),
        (ValueError("x" * 900), "ValueError: " + "x" * 488),
    ],
)
def test_a_failure_is_a_row_a_seed_and_never_a_number(error: Exception, text: str) -> None:
    """Missing rows would look like fewer problems, zeros like perfect answers."""
    trials = failed(PROBLEMS[0], "none", (100, 200), error)
    assert [(t.problem_id, t.condition, t.seed) for t in trials] == [
        (PROBLEMS[0].problem_id, "none", s) for s in (100, 200)
    ]
    for t in trials:
        assert t.error == text
        assert t.truth == PROBLEMS[0].label
        assert t.attempts is t.solved is t.answer is t.tokens_in is t.latency_s is None
