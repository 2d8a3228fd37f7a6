"""The end of an answer: which tokens end it, and options whose last character a tokenizer joins with the end."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from experiments.backends.answer_end import Spelling, end_tokens, spelling, with_ends


class JoiningTokenizer:
    """A tokenizer in which ")" and the line's end behind it are one token, as in Qwen2.5's."""

    names = ("<|end|>", "n", ")", ")Ċ", "Ċ", "ĊĊ", "Ġ", "ĠĊ", "ĉfoo", "<0x0A>", "▁a")
    all_special_ids = (0,)

    def __len__(self) -> int:
        return len(self.names)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.names[i] for i in ids]

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        plain, found = text.replace("\n", "Ċ"), list[int]()
        while plain:
            longest = max((n for n in self.names if plain.startswith(n)), key=len)
            found.append(self.names.index(longest))
            plain = plain[len(longest) :]
        return SimpleNamespace(input_ids=found)


def test_an_answer_ends_with_its_line_or_the_turn() -> None:
    """Special tokens, and all tokens that begin with a line's end, with spaces before it or not; no others."""
    assert end_tokens(JoiningTokenizer()) == [0, 4, 5, 7, 9]


def test_a_joined_end_is_a_spelling_of_its_own() -> None:
    """Such a tokenizer never writes ")" alone before a line's end, so that spelling alone would say nothing."""
    assert spelling(JoiningTokenizer(), "n") == Spelling([1], [])
    assert spelling(JoiningTokenizer(), "n)") == Spelling([1, 2], [[1, 3], [1, 3, 4]])


def test_all_spellings_of_an_answer_count() -> None:
    """Probabilities add up: .2 * .5 plainly, and .3 and .1 joined."""
    spelt = [Spelling([1], []), Spelling([1, 2], [[1, 3], [1, 3, 4]])]
    found = with_ends(spelt, [math.log(p) for p in (0.6, 0.2, 0.3, 0.1)], [math.log(0.25), math.log(0.5)])
    assert [math.exp(p) for p in found] == pytest.approx([0.15, 0.5])
