"""Solving by choice: attempts are Plackett-Luce ranks that depend on nothing but their key; prompts fit the window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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
from experiments.solving.replies import failed
from experiments.solving.solving import Memo, fit_prompt, guess_order, prompt_for, solve

DOMAIN = get_domain("big_o")
CONFIG = configure("p2", "smoke", {"n_problems": 24})
PROBLEMS = universe(CONFIG).problems
MEMOS = [Memo(p, p.label, i) for i, p in enumerate(PROBLEMS[1:6])]
LOGPROBS = FakeLanguageModel().logprobs


def solved(
    lm: FakeLanguageModel, memos: Sequence[Memo] = (), condition: str = "none", phase: str = "p2"
) -> list[Trial]:
    return solve(lm, DOMAIN, PROBLEMS[0], memos, CONFIG, phase, condition)


def shares(counts: Counter[int], n: int) -> list[float]:
    return [counts[i] / n for i in range(len(LOGPROBS))]


def test_first_guesses_follow_the_softmax() -> None:
    """20,000 orders: each option comes first as often as softmax(l / T) says, within 0.012 (3.5 standard errors)."""
    rng, n, temperature = generator("test", "first guesses"), 20_000, 0.8
    weights = np.exp(np.array(LOGPROBS) / temperature)
    counts = Counter(guess_order(LOGPROBS, temperature, rng)[0] for _ in range(n))
    assert shares(counts, n) == pytest.approx(list(weights / weights.sum()), abs=0.012)


def test_second_guesses_follow_plackett_luce() -> None:
    """Without replacement: after option 1 the others follow in proportion to their own weights, within 0.02."""
    rng, n, temperature = generator("test", "second guesses"), 20_000, 0.8
    orders = [guess_order(LOGPROBS, temperature, rng) for _ in range(n)]
    after = [order[1] for order in orders if order[0] == 1]
    weights = np.exp(np.array(LOGPROBS) / temperature)
    weights[1] = 0.0
    assert len(after) > 5_000
    assert shares(Counter(after), len(after)) == pytest.approx(list(weights / weights.sum()), abs=0.02)


@pytest.mark.parametrize(("temperature", "share"), [(1e-6, 1.0), (1e6, 1 / 6)])
def test_temperature_runs_from_certainty_to_chance(temperature: float, share: float) -> None:
    """Cold, the most probable option always comes first; hot, each as often as the others."""
    rng = generator("test", "temperature")
    firsts = [guess_order(LOGPROBS, temperature, rng)[0] for _ in range(3_000)]
    assert firsts.count(1) / 3_000 == pytest.approx(share, abs=0.03)


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=8), st.floats(0.01, 10), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_an_order_holds_every_option_once(logprobs: list[float], temperature: float, seed: int) -> None:
    """No wrong answer is guessed twice and none is left out, so attempts lie between 1 and the number of options."""
    order = guess_order(logprobs, temperature, generator(seed))
    assert sorted(order) == list(range(len(logprobs)))
    assert order == guess_order(logprobs, temperature, generator(seed))


def test_attempts_are_the_rank_of_the_right_option() -> None:
    """What the trial says must follow from the guesses that it keeps."""
    lm = FakeLanguageModel()
    trials = solved(lm, MEMOS)
    assert [t.seed for t in trials] == [100, 200, 300]
    for trial in trials:
        assert trial.attempts == trial.details["guesses"].index(PROBLEMS[0].label) + 1
        assert trial.solved == (trial.attempts <= DOMAIN.max_attempts)
        assert trial.answer == trial.details["guesses"][0] and trial.truth == PROBLEMS[0].label
        assert trial.details["logprobs"] == list(LOGPROBS)
        assert trial.details["retrieved"] == [m.problem.problem_id for m in MEMOS]
        assert trial.error is None and trial.latency_s == 0.25
    assert len(lm.asked) == 1, "one forward pass serves all seeds"
    assert lm.asked[0][1] == tuple(f" {o}" for o in DOMAIN.options)
    # The prompt is the same for all seeds; keeping it once saves two thirds of the largest column.
    assert ["prompt" in t.details for t in trials] == [True, False, False]


def test_a_certain_solver_needs_one_attempt_and_a_mistaken_one_all() -> None:
    """The two ends of the scale; the last of six is not solved within three."""
    right = DOMAIN.options.index(PROBLEMS[0].label)
    certain = [0.0 if i == right else -99.0 for i in range(6)]
    mistaken = [-99.0 if i == right else 0.0 for i in range(6)]
    assert {(t.attempts, t.solved) for t in solved(FakeLanguageModel(certain))} == {(1, True)}
    assert {(t.attempts, t.solved) for t in solved(FakeLanguageModel(mistaken))} == {(6, False)}


def test_draws_depend_on_seed_phase_problem_and_condition_only() -> None:
    """Not on the memos, the host or what was solved before: common random numbers make the paired test sharper."""
    flat = FakeLanguageModel([-1.8] * 6)

    def guesses(**given: str) -> list[list[str]]:
        return [t.details["guesses"] for t in solved(flat, **given)]  # type: ignore[arg-type]

    first = guesses()
    np.random.rand(3)
    solved(flat, MEMOS, "semantic")
    assert guesses() == first
    assert [t.details["guesses"] for t in solved(flat, MEMOS)] == first
    assert guesses(condition="semantic") != first
    assert guesses(phase="e1") != first
    wanted = [
        DOMAIN.options[i] for i in guess_order([-1.8] * 6, 0.3, generator(200, "p2", PROBLEMS[0].problem_id, "none"))
    ]
    assert first[1] == wanted


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
    trial = solved(lm, MEMOS)[0]
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
