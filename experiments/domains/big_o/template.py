"""A small template language: one family of the domain big_o is a function with gaps, filled from one generator.

    def F(XS):
        @guard XS
        T = «0|1|#»
        @each X in XS:
            @fold T by «X|X * X»
        @give T

«a|b» picks one of its alternatives (they nest and may span lines, but hold no | of their own), # is a small number and
## a larger one, words in capitals become names, and a line that starts with @ is a part written in several ways (PARTS).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

HELPER = "combine"  # natural name of the small function that a fold calls
# Words without a hint at what a function costs.
FUNCTIONS = tuple(
    (
        "compute process handle evaluate resolve measure derive inspect task run_it act make work apply_it assess "
        "treat respond produce transform consider perform obtain"
    ).split()
)
LISTS = ("items", "values", "data", "seq", "nums", "rows", "arr", "xs", "ys", "entries", "record", "block")
INTEGERS = ("n", "size", "amount", "num", "limit", "given", "quantity", "extent")
INDICES = ("i", "j", "k", "idx", "pos", "at", "spot", "h")
SUMS = ("t", "acc", "total", "res", "out", "cur", "result", "s", "kept")
ELEMENTS = ("x", "y", "v", "e", "item", "val", "w", "entry")
OTHERS = ("a", "b", "c", "d", "p", "q", "r", "u", "z", "first", "second", "left", "right", "one", "two", "g", "m")
POOLS = {
    "N": INTEGERS,
    **dict.fromkeys("FGH", FUNCTIONS),
    **dict.fromkeys("IJK", INDICES),
    **dict.fromkeys("TSU", SUMS),
    **dict.fromkeys("XYZ", ELEMENTS),
}

WORD = re.compile(r"\b[A-Z]S?\d*\b")
CHOICE = re.compile(r"«([^«»]*)»")
PART = re.compile(r"( *)@(\w+) (\w+)(?: (?:in|by) (.+?))?(:?)$")
EXPRESSION = re.compile(r"( *)@(give) (.+)()()$")

# Each part's forms: {a} and {b} are what follows it, {body} the block under it, {i} an index of its own.
PARTS: dict[str, tuple[str, ...]] = {
    "guard": (
        "",
        "",
        "if not {a}:\n    return #",
        "if len({a}) < 2:\n    return #",
        "if len({a}) == 0:\n    return -#",
    ),
    "check": (
        "",
        "",
        "if {a} < 1:\n    return #",
        "if {a} <= 0:\n    return -#",
        "{a} = abs({a})",
        "{a} = max({a}, 1)",
    ),
    "halve": ("{a} //= 2", "{a} = {a} // 2", "{a} >>= 1", "{a} //= 3", "{a} = int({a} / 2)"),
    "double": ("{a} *= 2", "{a} = {a} * 2", "{a} += {a}", "{a} <<= 1", "{a} *= 3"),
    "each": (
        "for {a} in {b}:\n{body}",
        "for {a} in {b}:\n{body}",
        "for {i} in range(len({b})):\n    {a} = {b}[{i}]\n{body}",
        "{i} = 0\nwhile {i} < len({b}):\n    {a} = {b}[{i}]\n{body}\n    {i} += 1",
        "for {a} in reversed({b}):\n{body}",
    ),
    "index": (
        "for {a} in range(len({b})):\n{body}",
        "for {a} in range(len({b})):\n{body}",
        "{a} = 0\nwhile {a} < len({b}):\n{body}\n    {a} += 1",
        "{a} = len({b}) - 1\nwhile {a} >= 0:\n{body}\n    {a} -= 1",
        "for {a} in range(len({b}) - 1, -1, -1):\n{body}",
    ),
    "times": (
        "for {a} in range({b}):\n{body}",
        "for {a} in range({b}):\n{body}",
        "for {a} in range(1, {b} + 1):\n{body}",
        "{a} = 0\nwhile {a} < {b}:\n{body}\n    {a} += 1",
        "{a} = {b}\nwhile {a} > 0:\n{body}\n    {a} -= 1",
    ),
    "fold": (
        "{a} += {b}",
        "{a} -= {b}",
        "{a} ^= {b}",
        "{a} = max({a}, {b})",
        "{a} = ({a} * # + {b}) % ##",
        "if {b} > {a}:\n    {a} = {b}",
        "if ({b}) % # == 0:\n    {a} += «1|#»",
        "if {b} > #:\n    {a} += {b}\nelse:\n    {a} -= #",
        "{a} += 1 if {b} «<|>» ## else #",
        "if {b} «<|>» ##:\n    {a} += 1",
        "{a} = H9({a}, {b})",
    ),
    "give": (
        "return {a}",
        "return {a}",
        "return {a} «+|-» #",
        "return # * ({a})",
        "return ({a}) % ##",
        "return {a} if {a} > # else #",
        "if {a} «<|>» #:\n    return -#\nreturn {a}",
    ),
}
HELPERS = (
    "def H9(P9, Q9):\n    return (P9 * # + Q9) % ##",
    "def H9(P9, Q9):\n    return P9 + Q9 if Q9 > # else P9",
    "def H9(P9, Q9):\n    if Q9 % # == 0:\n        return P9\n    return P9 + 1",
    "def H9(P9, Q9):\n    if P9 > Q9:\n        return P9\n    return Q9",
)


class _Filling:
    """Fills one template."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.indices = 1

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def chosen(self, text: str) -> str:
        """Replace every «a|b» by one alternative, the innermost first."""
        while CHOICE.search(text):
            text = CHOICE.sub(lambda m: self.pick(m[1].split("|")), text)
        return text

    def expand(self, lines: Sequence[str]) -> list[str]:
        """Replace every @part by one of its forms."""
        done: list[str] = []
        i = 0
        while i < len(lines):
            found = EXPRESSION.match(lines[i]) or PART.match(lines[i])
            if not found:
                done.append(lines[i])
                i += 1
                continue
            pad, name, a, b, opens = found.groups()
            end = i + 1
            while opens and end < len(lines) and lines[end].startswith(pad + "    "):
                end += 1
            body = "\n".join(line[len(pad) :] for line in self.expand(lines[i + 1 : end]))
            self.indices += 1
            form = self.chosen(self.pick(PARTS[name]))
            text = form.format(a=a, b=b, body=body, i=f"I{self.indices}")
            done += [pad + line for line in text.splitlines()]
            i = end
        return done

    def named(self, text: str, called: Sequence[str]) -> str:
        """Replace words in capitals by names and each # by a number; functions get one of the names `called`, if there are any."""
        names: dict[str, str] = {}
        for word in dict.fromkeys(WORD.findall(text)):
            pool = LISTS if word[1:2] == "S" else POOLS.get(word[0], OTHERS)
            free = [name for name in pool if name not in names.values()]
            names[word] = self.pick(free)
        if called:
            # Chosen by the text, not by the generator: natural and neutral problems of one seed differ only in names.
            name = called[int(hashlib.sha256(text.encode()).hexdigest(), 16) % len(called)]
            natural = {"F": name, "G": f"{name}_step", "H9": HELPER}
            names |= {word: natural[word] for word in names if word in natural}
        text = WORD.sub(lambda m: names[m[0]], text)
        text = re.sub("##", lambda _: str(self.rng.integers(11, 99)), text)
        return re.sub("#", lambda _: str(self.rng.integers(2, 10)), text)


def fill(template: str, rng: np.random.Generator, called: Sequence[str] = ()) -> str:
    """Return a Python function made from a template; the function to call is the last one defined.

    It gets one of the natural names `called`, if there are any; the draws are the same.
    """
    filling = _Filling(rng)
    lines = filling.expand([line for line in filling.chosen(template).splitlines() if line.strip()])
    if any("H9(" in line for line in lines):
        start = next(i for i, line in enumerate(lines) if line.startswith("def "))
        lines[start:start] = filling.pick(HELPERS).splitlines()
    text = filling.named("\n".join(line.rstrip() for line in lines), called)
    return re.sub(r"\n(?=def )", "\n\n", text) + "\n"
