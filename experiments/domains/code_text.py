"""Features of code in any language by its tokens and indentation; of other texts they are counts of signs and words.

No language is parsed: comments and strings of Python, Java, C and JavaScript are left out, and what remains is read token by
token. So a text of several languages, or with an error in it, has features as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

NAMES = (
    *"log_lines indent_depth brace_depth bracket_depth loop_depth".split(),
    *"log_loops log_branches log_returns log_calls log_operators log_halvings log_self_calls".split(),
)
NOISE = re.compile(
    r"\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|/\*.*?(?:\*/|\Z)"  # block strings and comments
    r"|\"(?:\\.|[^\"\\\n])*\"|(?<!\w)'(?:\\.|[^'\\\n])*'"  # strings; an apostrophe in a word is none
    r"|//[^\n]*|^[ \t]*\#(?!include|define)[^\n]*|(?<=\s)\#[^\n]*",  # comments; // of Python divides, see features
    re.DOTALL | re.MULTILINE,
)
TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|<<=?|>>=?|[-+*/%&|^=!<>]=?|[{}()\[\];:]")
LOOPS = frozenset({"for", "while", "foreach", "do", "loop", "until"})
BRANCHES = frozenset({"if", "elif", "else", "switch", "case", "match", "when", "catch", "except"})
NO_CALLS = LOOPS | BRANCHES | {"return", "def", "function", "fn", "func", "and", "or", "not", "in", "is", "sizeof"}
DEFINES = frozenset({"def", "function", "fn", "func"})
HALVES = re.compile(r"//?=?\s*2\b|>>=?\s*1\b|\*=\s*2\b|<<=?\s*1\b")  # what logarithms come from
OPERATOR = re.compile(r"<<=?|>>=?|[-+*/%&|^=!<>]=?")
TAB = 4  # columns


def features(text: str) -> NDArray[np.float64]:
    """Return the features of NAMES, shape (12,); counts as log(1 + n)."""
    floor_division = bool(re.search(r"^\s*(?:def|class)\b.*:\s*$", text, re.MULTILINE))
    code = NOISE.sub(lambda found: found[0] if floor_division and found[0].startswith("//") else " ", text)
    tokens = TOKEN.findall(code)
    calls = [a for a, b in pairwise(tokens) if b == "(" and _is_name(a) and a not in NO_CALLS]
    own = {b for a, b in pairwise(tokens) if a in DEFINES}
    own = own or set(calls[:1])  # C and Java name a function before its parameters and with no keyword
    again = sum(name in own for name in calls) - len(own.intersection(calls))
    counts = (
        sum(t in LOOPS for t in tokens),
        sum(t in BRANCHES for t in tokens),
        tokens.count("return"),
        len(calls),
        sum(bool(OPERATOR.fullmatch(t)) for t in tokens),
        len(HALVES.findall(code)),
        max(0, again),
    )
    lines = [line for line in code.splitlines() if line.strip()]
    indents = [_indent(line) for line in lines]
    depths = (
        len(set(indents)) - 1 if indents else 0,
        _deepest(tokens, "{", "}"),
        _deepest(tokens, "(", ")"),
        max(_loop_depths(lines, tokens), default=0),
    )
    return np.array([np.log1p(len(lines)), *depths, *np.log1p(counts)], dtype=np.float64)


def _is_name(token: str) -> bool:
    return token[0].isalpha() or token[0] == "_"


def _indent(line: str) -> int:
    expanded = line.expandtabs(TAB)
    return len(expanded) - len(expanded.lstrip())


def _deepest(tokens: list[str], opening: str, closing: str) -> int:
    """Return how deep brackets stand in each other; one that closes nothing is passed over."""
    depth = deepest = 0
    for token in tokens:
        depth = depth + 1 if token == opening else max(0, depth - (token == closing))
        deepest = max(deepest, depth)
    return deepest


def _loop_depths(lines: list[str], tokens: list[str]) -> Iterator[int]:
    """Yield how many loops stand around each loop, itself counted: by indentation, and by braces where there are any."""
    around: list[int] = []  # columns of the loops that are open
    for line in lines:
        column = _indent(line)
        while around and around[-1] >= column:
            around.pop()
        found = sum(t in LOOPS for t in TOKEN.findall(line))
        if found and not line.lstrip().startswith("}"):  # the while of a do
            around.append(column)
            yield len(around) + found - 1
    if "{" not in tokens:
        return
    open_braces: list[bool] = []  # whether a loop opened it
    waiting = False
    for sign in tokens:
        if sign in LOOPS:
            waiting = True
            yield sum(open_braces) + 1
        elif sign == "{":
            open_braces.append(waiting)
            waiting = False
        elif sign == "}" and open_braces:
            open_braces.pop()
