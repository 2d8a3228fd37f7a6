"""Texts that are too long: cut where it reads well, left out, or refused, and never longer than what fits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.domains.jsonl_rows import MAX_CHARACTERS, Row, Wrong
from experiments.domains.long_texts import LongTexts, shortened

PROGRAM = "def f(n):\n    total = 0\n    return total\n"


def row(text: object) -> Row:
    return Row(1, json.dumps({"id": "a", "text": text, "label": "x"}).encode())


@given(st.text(max_size=200), st.integers(1, 60))
def test_what_is_left_is_the_longest_beginning_that_fits_up_to_a_line_or_word(text: str, most: int) -> None:
    """A text that is longer than what fits would be refused again; one cut shorter than needed loses what could be read."""
    left = shortened(text, lambda t: len(t.encode("utf-8", "surrogatepass")) <= most)
    whole = next(n for n in range(len(text), -1, -1) if len(text[:n].encode("utf-8", "surrogatepass")) <= most)
    assert text.startswith(left) and len(left) <= whole
    assert len(left) == whole or text[whole // 2 : whole + 1].count("\n") or " " in text[whole // 2 : whole + 1]


def test_a_program_ends_with_a_line() -> None:
    """Half a line of a program is no program; a text without spaces is cut where it must be."""
    assert shortened(PROGRAM, lambda t: len(t) <= 30) == "def f(n):\n    total = 0"
    assert shortened("many words in a row", lambda t: len(t) <= 12) == "many words"
    assert shortened("x" * 50, lambda t: len(t) <= 12) == "x" * 12
    assert len(shortened("x" * 3 * MAX_CHARACTERS, lambda t: True)) == MAX_CHARACTERS


def test_rows_are_cut_left_out_or_refused_as_chosen() -> None:
    """What does not fit is counted; what fits, and what has another mistake, is left as it is."""
    long, short, wrong = row("word " * MAX_CHARACTERS), row("word"), row(5)
    cut, skip = LongTexts("cut"), LongTexts("skip")
    kept = cut.apply(long)
    assert kept is not None and kept.problem().text == "word " * (MAX_CHARACTERS // 5 - 1) + "word" and cut.cut == 1
    assert skip.apply(long) is None and skip.skipped == 1
    for one in (short, wrong, Row(2, b"no json"), Row(3, Wrong("line", "bad"))):
        assert cut.apply(one) is one and skip.apply(one) is one
    assert LongTexts("refuse").apply(long) is long
    with pytest.raises(Wrong, match=r"19,999 characters|20,000 characters"):
        long.problem()
