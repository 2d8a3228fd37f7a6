"""Parse formulas in x by a whitelist and evaluate them with numpy, never with eval().

    parse("2.5*x**2 - sin(x)").at(np.array([0.0, 1.0]))   # [0., 1.6585]

Allowed: numbers, x, pi, e, + - * / **, signs, brackets, and sin cos exp log sqrt abs of one argument. Whatever else a
model writes is refused with a reason, in a time bounded by its length.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

MAX_CHARACTERS = 200  # the longest formula of the four families has 30
MAX_BRACKETS = 20  # open at once; Python's own parser gives up at 200
MAX_DEPTH = 24  # of the tree; the four families need 6
MAX_NODES = 80  # numbers, names, operators and calls
MAX_NUMBER = 1e9  # of a literal; x reaches 10 and the largest coefficient of a family is 20
MAX_EXPONENT = 64.0  # in size, at every point: 10**64 squared is still far below a float's 1.8e308

FUNCTIONS: dict[str, Callable[[Values], Values]] = {
    name: getattr(np, name) for name in "sin cos exp log sqrt abs".split()
}
CONSTANTS = {"pi": float(np.pi), "e": float(np.e)}
OPERATORS: dict[type[ast.operator], Callable[[Values, Values], Values]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
CHARACTERS = re.compile(r"[0-9A-Za-z+\-*/(). ]*")
NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
WORD = re.compile(r"[A-Za-z]+")
TOUCHING = re.compile(r"#[A-Za-z#(]|[A-Za-z]#")  # 2x, 0x10, x2: in a text whose numbers are written as #


class BadExpression(Exception):
    """A text that is no allowed formula, or has no finite value; the message is the reason."""


@dataclass(frozen=True)
class Expression:
    """A formula that passed the whitelist."""

    tree: ast.expr

    def at(self, x: Values) -> Values:
        """Return the values at `x`, same shape; BadExpression if an exponent is too large or a value is not finite."""
        with np.errstate(all="ignore"):
            values = _value(self.tree, x)
        if not np.isfinite(values).all():
            raise BadExpression(f"no finite value at x = {x[~np.isfinite(values)][0]:g}")
        return values

    def operations(self) -> frozenset[str]:
        """Return its operations, without numbers: signs and differences count as sums, x**2 and 2**x are two operations."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id == "x":
                found.add("x")
            elif isinstance(node, ast.Call):
                found.add(node.func.id)  # type: ignore[attr-defined]
            elif isinstance(node, ast.BinOp):
                kind = ast.Add if isinstance(node.op, ast.Sub) else type(node.op)
                raised = isinstance(node.op, ast.Pow) and _holds_x(node.right)
                found.add(f"{kind.__name__} of x" if raised else kind.__name__)
        return frozenset(found)


def _holds_x(node: ast.expr) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "x" for n in ast.walk(node))


def parse(text: str) -> Expression:
    """Parse a formula; BadExpression if it is too long or too deep, or holds something that is not allowed."""
    if len(text) > MAX_CHARACTERS:
        raise BadExpression(f"{len(text)} characters, more than {MAX_CHARACTERS}")
    text = text.strip()
    if not text:
        raise BadExpression("empty")
    _check_characters(text)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        raise BadExpression("not a formula") from None
    _checked(tree, MAX_DEPTH, MAX_NODES)
    return Expression(tree)


def _check_characters(text: str) -> None:
    """Check characters, words and open brackets, so that Python's parser only gets small plain texts."""
    if not CHARACTERS.fullmatch(text):
        raise BadExpression("a character that no formula has")
    bare = NUMBER.sub("#", text)
    for word in WORD.findall(bare):
        if word != "x" and word not in FUNCTIONS and word not in CONSTANTS:
            raise BadExpression(f"unknown word {word[:20]!r}")
    if TOUCHING.search(bare):
        raise BadExpression("an operator is missing beside a number")
    opened = 0
    for character in text:
        opened += (character == "(") - (character == ")")
        if not 0 <= opened <= MAX_BRACKETS:
            what = "brackets that do not match" if opened < 0 else f"more than {MAX_BRACKETS} open brackets"
            raise BadExpression(what)


def _checked(node: ast.expr, depth: int, left: int) -> int:
    """Check `node` and those below it; return how many more nodes are allowed."""
    if depth == 0:
        raise BadExpression(f"deeper than {MAX_DEPTH}")
    if left == 0:
        raise BadExpression(f"more than {MAX_NODES} parts")
    left -= 1
    if isinstance(node, ast.Constant):
        number = node.value
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MAX_NUMBER:
            raise BadExpression(f"a number larger than {MAX_NUMBER:g}, or no number")
    elif isinstance(node, ast.Name):
        if node.id != "x" and node.id not in CONSTANTS:
            raise BadExpression(f"{node.id} without its argument")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        left = _checked(node.operand, depth - 1, left)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left = _checked(node.right, depth - 1, _checked(node.left, depth - 1, left))
    elif isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or len(node.args) != 1 or node.keywords:
            raise BadExpression("a call that is not one of " + ", ".join(FUNCTIONS) + " of one argument")
        left = _checked(node.args[0], depth - 1, left)
    else:
        kind = type(node.op if isinstance(node, ast.BinOp | ast.UnaryOp) else node).__name__
        raise BadExpression(f"{kind} is not allowed")
    return left


def _value(node: ast.expr, x: Values) -> Values:
    if isinstance(node, ast.Constant):
        return np.full_like(x, float(node.value))  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return x if node.id == "x" else np.full_like(x, CONSTANTS[node.id])
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, x)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Call):
        return FUNCTIONS[node.func.id](_value(node.args[0], x))  # type: ignore[attr-defined]
    assert isinstance(node, ast.BinOp)  # noqa: S101
    left, right = _value(node.left, x), _value(node.right, x)
    if isinstance(node.op, ast.Pow) and not (np.abs(right) <= MAX_EXPONENT).all():
        raise BadExpression(f"an exponent larger than {MAX_EXPONENT:g}")
    return OPERATORS[type(node.op)](left, right)
