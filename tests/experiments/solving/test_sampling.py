"""Answers drawn from a model without log-probabilities: the order is Plackett-Luce's, and nothing is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fake_engines import FakeLanguageModel

from experiments.backends.protocols import Reply
from experiments.data import universe
from experiments.domains import get_domain
from experiments.registry import configure
from experiments.solving.sampling import DRAWS_AN_OPTION, draw, option_in
from experiments.solving.solving import solve

OPTIONS = ("O(1)", "O(n)", "O(n log n)", "O(n^2)")


class FakeTalker(FakeLanguageModel):
    """Gives no scores; its answer to a seed is drawn from the probabilities it was made with, "?" being no option."""

    scores = False

    def __init__(self, probabilities: dict[str, float]) -> None:
        super().__init__()
        self.probabilities = probabilities

    def generate(self, prompts: Sequence[str], max_new_tokens: int, **options: Any) -> list[Reply]:
        self.asked += [(p, ()) for p in prompts]
        words, weights = list(self.probabilities), list(self.probabilities.values())
        drawn = [str(np.random.default_rng(seed).choice(words, p=weights)) for seed in options["seeds"]]
        return [Reply(f" {word}", 10, 2, 0.5) for word in drawn]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" O(n)", "O(n)"),
        ("O(n log n) because", "O(n log n)"),
        ("O(n), I think", "O(n)"),
        ("O(1)\n", "O(1)"),
        ("linear", None),
        ("", None),
        ("It is O(n)", None),
        ("O(n^2)x", None),
    ],
)
def test_an_option_is_what_a_reply_begins_with(text: str, expected: str | None) -> None:
    """The longest that fits and ends there: "O(n log n)" must not be read as another, nor prose as an answer."""
    assert option_in(text, OPTIONS) == (None if expected is None else OPTIONS.index(expected))
    assert option_in("ab", ("a", "ab")) == 1 and option_in("abc", ("a", "ab")) is None


def test_the_rank_is_as_likely_as_by_log_probabilities() -> None:
    """Both ways of solving must measure the same attempts, or models with and without scores could not be compared."""
    probabilities = {"O(1)": 0.5, "O(n)": 0.3, "O(n log n)": 0.15, "O(n^2)": 0.05}
    lm, n = FakeTalker(probabilities), 1000
    drawn = draw(lm, "prompt", OPTIONS, right=2, temperature=0.3, keys=[(seed, "x") for seed in range(n)])
    logprobs = [0.3 * float(np.log(p)) for p in probabilities.values()]
    # Sampling without replacement from softmax(l / T) is ranking l / T + Gumbel noise (Kool et al. 2019, arXiv:1903.06059).
    noisy = np.array(logprobs) / 0.3 + np.random.default_rng(1).gumbel(size=(n, 4))
    ranked = (noisy > noisy[:, [2]]).sum(axis=1) + 1
    for attempts in (1, 2, 3, 4):
        ours = np.mean([len(d.order) == attempts for d in drawn])
        theirs = np.mean([r == attempts for r in ranked])
        # Both are shares of 1,000: four standard errors of their difference are at most 0.09.
        assert abs(ours - theirs) < 0.09, attempts


def test_what_it_costs_and_what_could_not_be_read_is_counted() -> None:
    """Tokens and time of every draw belong to the trial; draws without an option are no attempts."""
    lm = FakeTalker({"O(n)": 0.5, "?": 0.5})
    [drawn] = draw(lm, "prompt", OPTIONS, right=1, temperature=0.3, keys=[(5, "x")])
    assert drawn.order == [1] and drawn.blind == 0
    assert drawn.draws == drawn.unreadable + 1 == len(lm.asked)
    assert (drawn.tokens_in, drawn.tokens_out, drawn.latency_s) == (
        10 * drawn.draws,
        2 * drawn.draws,
        0.5 * drawn.draws,
    )


def test_an_option_that_is_never_named_is_found_by_lot() -> None:
    """A model that says one thing for ever must end, with the blind guesses told from its own; seeded, so repeatable."""
    lm = FakeTalker({"O(1)": 1.0})
    keys = [(seed, "x") for seed in range(40)]
    drawn = draw(lm, "prompt", OPTIONS, right=3, temperature=0.3, keys=keys)
    assert all(d.order[0] == 0 and d.order[-1] == 3 and d.blind == len(d.order) - 1 for d in drawn)
    assert all(d.draws == DRAWS_AN_OPTION * len(OPTIONS) for d in drawn)
    assert {len(d.order) for d in drawn} == {2, 3, 4}
    assert [d.order for d in draw(FakeTalker({"O(1)": 1.0}), "prompt", OPTIONS, 3, 0.3, keys)] == [
        d.order for d in drawn
    ]


def test_a_trial_says_that_it_was_sampled() -> None:
    """docs/science.md, "Solving": which way a trial was solved stands in it, and its engine; the prompt is kept once."""
    domain, config = get_domain("big_o"), configure("p2", "smoke", {"n_problems": 24})
    problem = universe(config).problems[0]
    trials = solve(FakeTalker(dict.fromkeys(domain.options, 1 / 6)), domain, problem, [], config, "p2", "none")
    assert [t.details["solved_by"] for t in trials] == ["sampling"] * 2
    assert ["prompt" in t.details for t in trials] == [True, False]
    for t in trials:
        assert t.details["engine"] == {"engine": "fake"}
        assert t.solved == (t.attempts is not None and t.attempts <= domain.max_attempts)
        assert t.details["guesses"][-1] == problem.label and t.attempts == len(t.details["guesses"])
        assert t.details["guesses"][0] == t.answer and t.first_right == (t.attempts == 1)
    scored = solve(FakeLanguageModel(), domain, problem, [], config, "p2", "none")[0]
    assert scored.details["solved_by"] == "log-probabilities" and scored.details["engine"] == {"engine": "fake"}


def test_replies_that_name_no_option_are_no_attempts() -> None:
    """They were drawn by lot: 48 of 48 trials, and a verdict on them."""
    problem = universe(configure("p2", "smoke")).problems[0]
    trials = solve(FakeTalker({"?": 1.0}), get_domain("big_o"), problem, [], configure("p2", "smoke"), "p2", "none")
    assert [(t.attempts, t.answer) for t in trials] == [(None, None)] * 2
    assert all((t.error or "").startswith("Unreadable: none of 8 replies") for t in trials)
    mixed = solve(
        FakeTalker({"?": 0.5, problem.label: 0.5}),
        get_domain("big_o"),
        problem,
        [],
        configure("p2", "smoke"),
        "p2",
        "none",
    )
    assert [t.attempts for t in mixed] == [1, 1]
