"""Counts what a generated function does: executed lines, and what C code would do out of sight of a tracer.

Lists are counted lists, sorting counts its comparisons, heaps and bisection run in their Python form.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import nnls

PROBLEM = "<problem>"
# Branches on values let constant work vary a little; a logarithm over these sizes grows by 40 % or more (measured).
STILL = 1.25
CURVES: dict[str, Callable[[float], float]] = {
    "O(1)": lambda n: 1.0,
    "O(log n)": lambda n: float(np.log2(n)),
    "O(n)": float,
    "O(n log n)": lambda n: n * float(np.log2(n)),
    "O(n^2)": lambda n: float(n * n),
    "O(2^n)": lambda n: 2.0**n,
}


def _pure(name: str) -> Any:
    """A standard module without its C half, so that its lines can be counted."""
    hidden, sys.modules[f"_{name}"] = sys.modules.get(f"_{name}"), None  # type: ignore[assignment]
    try:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        del sys.modules[f"_{name}"]
        if hidden is not None:
            sys.modules[f"_{name}"] = hidden


HEAPQ, BISECT = _pure("heapq"), _pure("bisect")
COUNTED_FILES = {PROBLEM, HEAPQ.__file__, BISECT.__file__}


class Counter:
    """Steps so far."""

    steps = 0

    def add(self, n: int) -> None:
        self.steps += n

    def trace(self, frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in COUNTED_FILES:
            return None
        self.steps += event == "line"
        return self.trace


def _key_type(counter: Counter) -> type:
    class Key:
        """A sort key that counts its comparisons."""

        def __init__(self, value: Any) -> None:
            self.value = value

        def __lt__(self, other: Any) -> bool:
            counter.add(1)
            return bool(self.value < other.value)

    return Key


def _list_type(counter: Counter) -> type:
    key_type = _key_type(counter)

    class Counted(list):  # type: ignore[type-arg]
        """A list whose whole-list operations cost their length."""

        def __getitem__(self, at: Any) -> Any:
            found = super().__getitem__(at)
            if isinstance(at, slice):
                counter.add(len(found))
                return Counted(found)
            return found

        def __contains__(self, value: object) -> bool:
            counter.add(len(self))
            return super().__contains__(value)

        def __add__(self, other: Any) -> Any:
            counter.add(len(self) + len(other))
            return Counted(super().__add__(other))

        def __iadd__(self, other: Any) -> Any:
            other = list(other)
            counter.add(len(other))
            super().extend(other)
            return self

        def __mul__(self, times: Any) -> Any:
            counter.add(len(self) * max(0, times))
            return Counted(super().__mul__(times))

        __rmul__ = __mul__

        def extend(self, other: Any) -> None:
            self.__iadd__(other)

        def pop(self, at: int = -1) -> Any:
            counter.add(1 if at == -1 else len(self))
            return super().pop(at)

        def insert(self, at: Any, value: Any) -> None:
            counter.add(len(self))
            super().insert(at, value)

        def remove(self, value: Any) -> None:
            counter.add(len(self))
            super().remove(value)

        def index(self, *given: Any) -> int:
            counter.add(len(self))
            return super().index(*given)

        def count(self, value: Any) -> int:
            counter.add(len(self))
            return super().count(value)

        def copy(self) -> Any:
            counter.add(len(self))
            return Counted(self)

        def sort(self, *, key: Any = None, reverse: bool = False) -> None:
            counter.add(len(self))
            super().sort(key=lambda v: key_type(v if key is None else key(v)), reverse=reverse)

    return Counted


class _Lists(ast.NodeTransformer):
    """Makes every list that the text writes a counted one."""

    def _wrapped(self, node: ast.expr) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(ast.Call(ast.Name("_counted", ast.Load()), [node], []), node)

    def visit_List(self, node: ast.List) -> ast.AST:
        return self._wrapped(node) if isinstance(node.ctx, ast.Load) else node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._wrapped(node)


def _space(counter: Counter) -> dict[str, Any]:
    """Names that the text sees: builtins that walk what they are given count its length."""
    counted = _list_type(counter)

    def walking(function: Any) -> Any:
        def wrapper(*given: Any, **named: Any) -> Any:
            if len(given) == 1 and not isinstance(given[0], int):
                given = (list(given[0]),)
                counter.add(len(given[0]))
            return function(*given, **named)

        return wrapper

    def as_sorted(values: Any, *, key: Any = None, reverse: bool = False) -> Any:
        made = counted(values)
        counter.add(len(made))
        made.sort(key=key, reverse=reverse)
        return made

    def as_list(values: Any = ()) -> Any:
        made = counted(values)
        counter.add(len(made))
        return made

    walkers = {name: walking(getattr(builtins, name)) for name in ("sum", "any", "all", "max", "min", "set")}
    return {"_counted": counted, "sorted": as_sorted, "list": as_list, "heapq": HEAPQ, "bisect": BISECT, **walkers}


def steps_of(text: str, arguments: tuple[Any, ...]) -> int:
    """Steps of one call of the last function that `text` defines."""
    tree = _Lists().visit(ast.parse(text))
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import)]
    counter = Counter()
    space = _space(counter)
    exec(compile(ast.fix_missing_locations(tree), PROBLEM, "exec"), space)  # noqa: S102 - our own generated text
    function = space[next(n.name for n in reversed(tree.body) if isinstance(n, ast.FunctionDef))]
    given = [space["_counted"](a) if isinstance(a, list) else a for a in arguments]
    counter.steps, before = 0, sys.gettrace()
    sys.settrace(counter.trace)
    try:
        function(*given)
    finally:
        sys.settrace(before)
    return counter.steps


def fitted(sizes: tuple[int, ...], counts: list[int]) -> str:
    """The label whose curve a + b * f(n) with a >= 0 and b > 0 fits best (least squares of relative residuals)."""
    found = np.array(counts, dtype=float)
    if found[-1] <= STILL * found[: len(found) // 2].max():
        return "O(1)"
    residuals = {}
    for label, curve in CURVES.items():
        if label == "O(1)" or (label == "O(2^n)" and max(sizes) > 60):
            continue
        columns = np.stack([np.ones(len(sizes)), [curve(n) for n in sizes]], axis=1) / found[:, None]
        solution, residual = nnls(columns, np.ones(len(sizes)))
        residuals[label] = float(residual) if solution[1] > 0 else np.inf
    return min(residuals, key=lambda label: residuals[label])
