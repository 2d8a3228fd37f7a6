"""P3's capability benchmarks: four categories of short prompts, each judged by a program, and held-out text.

    p = prompts("arithmetic")[0]
    judge(p, "2 + 3 = 5.")  # True

The prompts are sized for a 135M-parameter instruct model, which solves some but not all of every category.
Arithmetic and knowledge forgive what stands around the answer; format forgives nothing.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from common.errors import LabError

_DATA = tomllib.loads((resources.files("experiments.capability") / "prompts.toml").read_text(encoding="utf-8"))
# English paragraphs of 60 to 90 words, written for this project, so in no model's training data.
HELD_OUT: tuple[str, ...] = tuple(_DATA.pop("held_out"))
CATEGORIES = tuple(_DATA)

# 1,000 is one number but 1,2,3 are three, and the dash of 15-9 is no sign.
NUMBER = re.compile(r"(?<!\w)-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class CapabilityPrompt:
    """One prompt with the judge of its replies. `arguments` are handed to the judge after the reply."""

    prompt_id: str
    category: str
    prompt: str
    max_new_tokens: int
    judge: str
    arguments: tuple[str | int, ...]


_PROMPTS = tuple(
    CapabilityPrompt(f"{category}-{i:02d}", category, prompt, data["max_new_tokens"], name, tuple(arguments))
    for category, data in _DATA.items()
    for i, (prompt, name, *arguments) in enumerate(data["prompts"], start=1)
)


def prompts(category: str | None = None, per_category: int = 20) -> list[CapabilityPrompt]:
    """Return the first `per_category` prompts of one category, or of each in turn; always the same ones in the same order.

    Raises LabError: no such category, or not between 1 and 20 prompts.
    """
    if category is not None and category not in CATEGORIES:
        raise LabError(f"unknown capability category {category!r}", f"choose one of: {', '.join(CATEGORIES)}")
    if not 1 <= per_category <= 20:
        raise LabError(f"per_category is {per_category}", "choose 1 to 20")
    chosen = CATEGORIES if category is None else (category,)
    return [p for p in _PROMPTS if p.category in chosen and int(p.prompt_id[-2:]) <= per_category]


def judge(prompt: CapabilityPrompt, reply: str) -> bool:
    """Return True if `reply` solves `prompt`; accepts any text."""
    return JUDGES[prompt.judge](reply, *prompt.arguments)


def _words(text: str) -> list[str]:
    return [w.replace("’", "'") for w in WORD.findall(text.casefold())]


def _has(text: str, phrase: str) -> bool:
    """Return True if `phrase` is in `text` as whole words, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(phrase.casefold())}(?!\w)", text.casefold()) is not None


def _numbers(text: str) -> list[float]:
    return [float(n.replace(",", "")) for n in NUMBER.findall(text)]


def _lines(reply: str) -> list[str]:
    return [line.strip() for line in reply.splitlines() if line.strip()]


# Judges that forgive surroundings: instruction, arithmetic, knowledge.


def contains_word(reply: str, *alternatives: str) -> bool:
    """Return True if an alternative occurs as a whole word or phrase; a numeral as a number, so that 18.0 holds no 0."""
    numbers = _numbers(reply)
    return any(float(a) in numbers if a.isdecimal() else _has(reply, a) for a in alternatives)


def avoids(reply: str, banned: str, *expected: str) -> bool:
    """Return True if one of the expected words occurs and the banned one does not."""
    return not _has(reply, banned) and contains_word(reply, *expected)


def contains_some(reply: str, count: int, *candidates: str) -> bool:
    """Return True if at least `count` different candidates occur."""
    return sum(_has(reply, c) for c in candidates) >= count


def in_order(reply: str, *items: str) -> bool:
    """Return True if the items occur as words, each first seen after the one before."""
    words, at = _words(reply), -1
    for item in items:
        if item not in words[at + 1 :]:
            return False
        at = words.index(item, at + 1)
    return True


def word_times(reply: str, word: str, count: int) -> bool:
    """Return True if the word occurs exactly `count` times."""
    return _words(reply).count(word) == count


def exact_number(reply: str, number: str) -> bool:
    """Return True if the reply's answer is the number: what follows the last "=", else the last number in the reply."""
    _, equals, tail = reply.rpartition("=")
    after = _numbers(tail)[:1] if equals else []
    return (after or _numbers(reply)[-1:]) == [float(number)]


def exact_text(reply: str, text: str) -> bool:
    """Return True if the reply is these words and no other; case and punctuation are forgiven."""
    return _words(reply) == _words(text)


def word_count(reply: str, count: int) -> bool:
    """Return True if the reply has exactly `count` words."""
    return len(_words(reply)) == count


def starts_with(reply: str, word: str) -> bool:
    """Return True if the reply's first word is `word`."""
    return _words(reply)[:1] == [word]


def ends_with(reply: str, end: str) -> bool:
    """Return True if the reply's last word is `end`, or its last character when `end` is a mark."""
    if WORD.fullmatch(end):
        return _words(reply)[-1:] == [end]
    return reply.rstrip(" \t\r\n\"'”’").endswith(end)


# Judges of form: the whole reply counts, one word too many fails.


def matches(reply: str, pattern: str) -> bool:
    """Return True if the whole reply, without space around it, matches the regular expression."""
    return re.fullmatch(pattern, reply.strip()) is not None


def all_uppercase(reply: str, least_words: int) -> bool:
    """Return True if the reply has at least so many words, and no lowercase letter."""
    return len(_words(reply)) >= least_words and reply == reply.upper() and reply != reply.lower()


def sentence_count(reply: str, count: int) -> bool:
    """Return True if the reply ends in a full stop, question or exclamation mark, and holds exactly `count` sentences."""
    text = reply.strip()
    return text.endswith((".", "!", "?")) and len(re.findall(r"[.!?]+(?:\s|$)", text)) == count


def marked_lines(reply: str, count: int, mark: str) -> bool:
    """Return True if the reply has exactly `count` lines, each with the mark before a word; {} in it is the line's number."""
    lines = _lines(reply)
    marks = (mark.format(i) for i in range(1, count + 1))
    return len(lines) == count and all(re.match(rf"{m}\s*\w", line) for m, line in zip(marks, lines, strict=True))


def comma_list(reply: str, count: int) -> bool:
    """Return True if the reply is one line of exactly `count` items between commas, of at most three words each."""
    lines = _lines(reply)
    items = [_words(item) for item in lines[0].split(",")] if len(lines) == 1 else []
    return len(items) == count and all(1 <= len(item) <= 3 for item in items)


def _json(reply: str) -> object:
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):
        return None


def is_json_with_keys(reply: str, *keys: str) -> bool:
    """Return True if the whole reply is a JSON object with exactly these keys."""
    found = _json(reply)
    return isinstance(found, dict) and set(found) == set(keys)


def is_json_list(reply: str, length: int) -> bool:
    """Return True if the whole reply is a JSON list of this length."""
    found = _json(reply)
    return isinstance(found, list) and len(found) == length


JUDGES: dict[str, Callable[..., bool]] = {
    f.__name__: f
    for f in (
        *(contains_word, contains_some, avoids, in_order, word_times, exact_number, exact_text, word_count),
        *(starts_with, ends_with, matches, all_uppercase, sentence_count, marked_lines, comma_list),
        *(is_json_with_keys, is_json_list),
    )
}
