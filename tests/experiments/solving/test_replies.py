"""Short answers of a model: read after its thinking, never from a prompt that was cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fake_engines import FakeLanguageModel

from experiments.backends.protocols import Reply, TooLong
from experiments.contract import Trial
from experiments.domains import get_domain
from experiments.registry import configure
from experiments.solving.replies import THINKING_TOKENS, UNFINISHED, answers, check_room
from experiments.solving.solving import solve


class FakeThinker(FakeLanguageModel):
    """Thinks for as many tokens as it was made with, then says its answer; gives no scores."""

    scores = False

    def __init__(self, thinks: int, says: str = "O(n)") -> None:
        super().__init__(says=says)
        self.thinks = thinks
        self.seeds: list[Any] = []

    def generate(self, prompts: Sequence[str], max_new_tokens: int, **options: Any) -> list[Reply]:
        self.asked += [(p, ()) for p in prompts]
        self.seeds.append(options["seeds"])
        whole = f"<think>\n{'so ' * self.thinks}</think>\n\n**{self.says}**"
        text = whole if self.thinks + 2 <= max_new_tokens else whole[: 4 * max_new_tokens]
        text = text.split(options["stop"])[0] if options.get("stop") else text
        return [Reply(text, 10, max_new_tokens, 0.5) for _ in prompts]


def trials_of(lm: FakeLanguageModel, domain: str = "big_o") -> list[Trial]:
    made = get_domain(domain)
    problem = made.problems(60, 1)[0]
    return solve(lm, made, problem, [], configure("p2", "smoke", {"domain": domain}), "p2", "none")


def test_a_thinking_model_is_read_after_its_thinking() -> None:
    """Its first words are thoughts; asked again with room for them it answers, at the price of both."""
    lm = FakeThinker(thinks=200)
    reply = answers(lm, ["p"], 4, stop="\n", temperature=0.3, seeds=[7])[0]
    assert (reply.text, reply.unfinished) == ("**O(n)**", False)
    assert (reply.tokens_in, reply.tokens_out) == (20, 4 + THINKING_TOKENS) and lm.seeds == [[7], [7]]
    problem = get_domain("big_o").problems(60, 1)[0]
    found = trials_of(FakeThinker(200, problem.label))
    assert [t.attempts for t in found] == [1, 1] and all(t.error is None for t in found)


def test_thinking_without_an_end_is_no_answer() -> None:
    """Trials whose replies were never readable were drawn by lot and counted as measured."""
    assert answers(FakeThinker(5000), ["p"], 4, temperature=0.3, seeds=[7])[0].unfinished
    found = trials_of(FakeThinker(5000))
    assert [t.attempts for t in found] == [None] * 2
    assert {t.error for t in found} == {"Unreadable: none of 8 replies names an option"}
    assert "thinking" in UNFINISHED


def test_guesses_that_are_no_answer_at_all_are_no_trial() -> None:
    """A formula that is wrong is a guess; words are none, and a problem with words only was never tried."""
    found = trials_of(FakeThinker(5000), "equations")
    assert {t.error for t in found} == {"Unreadable: none of 3 replies is an answer"}
    assert all(t.error is None for t in trials_of(FakeLanguageModel(says="2*x + 1"), "equations"))


def test_a_prompt_over_the_window_is_an_error_and_is_not_sent() -> None:
    """An engine would cut it without a word and answer to what is left."""
    lm = FakeLanguageModel(window=20)
    found = trials_of(lm)
    assert lm.asked == [] and all((t.error or "").startswith("TooLong: ") for t in found)
    with pytest.raises(TooLong, match="3 tokens and 18 of an answer, more than the 20 of fake"):
        check_room(lm, "a b c", 18)
    check_room(lm, "a b c", 17)
