"""The end of an answer by choice: the end of its line, or of the model's turn.

An option that begins another ("n" and "n^2") is at least as probable as it until the end counts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Marks that tokenizers write for a line's end and for space: byte-level ones, then SentencePiece.
LINE_ENDS = ("\n", "\r", "Ċ", "č", "<0x0A>", "<0x0D>")
SPACES = " \tĠĉ▁"
ENDINGS = ("\n", "\n\n")  # after an answer in a prompt; some tokenizers make one token of them and the last character


class Spelling(NamedTuple):
    """The tokens of an option, whose end is any end token, and those that hold the end in their last token."""

    plain: list[int]
    ended: list[list[int]]


def end_tokens(tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: those that begin with a line's end, and the special ones."""
    special = set(tokenizer.all_special_ids)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [i for i, t in enumerate(names) if i in special or (t and t.lstrip(SPACES).startswith(LINE_ENDS))]


def spelling(tokenizer: Any, option: str) -> Spelling:
    """Return the tokens that spell an option."""
    plain = list(tokenizer(option, add_special_tokens=False).input_ids)
    ended = [list(tokenizer(option + end, add_special_tokens=False).input_ids) for end in ENDINGS]
    return Spelling(plain, [tokens for tokens in ended if tokens[: len(plain)] != plain])


def with_ends(spelt: Sequence[Spelling], sums: Sequence[float], ends: Sequence[float]) -> tuple[float, ...]:
    """Return the log-probability of each option as a whole answer, over all ways to spell it.

    Args:
        sums: of each option's plain tokens, then of all spellings that hold their end, in their order.
        ends: of any end after each option's plain tokens.
    """
    totals = [total + end for total, end in zip(sums, ends, strict=False)]
    rest = iter(sums[len(spelt) :])
    for i, one in enumerate(spelt):
        for _ in one.ended:
            totals[i] = float(np.logaddexp(totals[i], next(rest)))
    return tuple(totals)
