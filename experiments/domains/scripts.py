"""Letters, combining marks and words in any script, and the form in which two texts are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

LAST = 0x20000  # beyond it stand ideographs only
# Scripts whose words stand without spaces, and Hangul, whose words carry their particles: here no letter beside a word makes
# it another. Thai, Lao, Tibetan, Myanmar, Jamo, Khmer, Tai, Balinese, Javanese, Kana, Bopomofo, ideographs, Yi, Hangul.
UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9df\ua9e0-\ua9ff"
    "\uaa60-\uaadf\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U000323af"
)


def _marks() -> str:
    """Return all combining marks as ranges of a character class."""
    found, start = [], 0
    for code in range(0x300, LAST + 1):
        mark = unicodedata.category(chr(code))[0] == "M"
        if mark and not start:
            start = code
        elif not mark and start:
            found.append(f"{chr(start)}-{chr(code - 1)}")
            start = 0
    return "".join(found)


MARKS = _marks()
WORD = re.compile(rf"[^\W_][^\W_{MARKS}]*(?:(?:[{MARKS}]|['’])+[^\W_]+|[{MARKS}]+)*")
_EDGES = re.compile(rf"^(?:(?![{MARKS}])\W)+|(?:(?![{MARKS}])\W)+$")
_UNSPACED = re.compile(f"[{UNSPACED}]")


def composed(text: str) -> str:
    """Return the text in NFKC, without invisible characters, its layout as single spaces."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return " ".join(plain.split())


def normal_text(text: str) -> str:
    """Return the text without case, layout and the marks around it; marks inside stay, since in code they matter."""
    folded = composed(text).casefold()
    return _EDGES.sub("", folded) or folded


def first_of(words: tuple[str, ...], text: str) -> str:
    """Return the first of `words` in `text` as it stands there, "" if there is none.

    Letters and digits beside it make it another word, _ does not; in scripts without spaces they do not either.
    """
    found = _any_of(words).search(composed(text))
    return found.group() if found else ""


@lru_cache(maxsize=64)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first, or "O(n" would be found where "O(n^2)" stands.
    either = "|".join(_bounded(w) for w in sorted(map(composed, words), key=lambda w: (-len(w), w)) if w)
    return re.compile(either or r"(?!)", re.IGNORECASE)


def _bounded(word: str) -> str:
    beside = rf"[^\W_{UNSPACED}]"
    before = "" if _UNSPACED.match(word) else rf"(?<!{beside})(?<![{MARKS}])"
    after = "" if _UNSPACED.match(word[-1]) else rf"(?!{beside})"
    return rf"{before}{re.escape(word)}{after}(?![{MARKS}])"
