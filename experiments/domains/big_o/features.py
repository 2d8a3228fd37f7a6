"""Normal form, features and description of a Python function, all from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

ORDERING = frozenset(
    ("sorted sort heappush heappop heapify heapreplace heappushpop bisect bisect_left bisect_right insort").split()
)
SCANNING = frozenset({"sum", "any", "all", "list", "set", "index", "count", "insert", "remove", "copy", "extend"})
Scope = ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class _Rename:
    """Writes a tree with every name that the text defines as v0, v1, ... in order of first appearance.

    Each function and comprehension has its own names, so renaming a local of one changes nothing. Builtins, attributes
    and imports stay as they are.
    """

    def __init__(self) -> None:
        self.scopes: list[dict[str, str]] = [{}]
        self.numbered = 0

    def bind(self, name: str) -> None:
        if name not in self.scopes[-1]:
            self.scopes[-1][name] = f"v{self.numbered}"
            self.numbered += 1

    def _name(self, name: str) -> str:
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), name)

    def write(self, node: object) -> str:
        """Return the tree as ast.dump does, but the same on every Python version: no empty field, no context."""
        if isinstance(node, list):
            return "[" + ", ".join(self.write(item) for item in node) + "]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.arg):
            return self._name(node.arg)
        if not isinstance(node, Scope):
            return self._fields(node)
        name = self._name(node.name) if isinstance(node, ast.FunctionDef) else ""
        self.scopes.append({})
        for own in _bound(node):
            self.bind(own)
        text = self._fields(node, skip=("name",))
        self.scopes.pop()
        return f"{name} {text}"

    def _fields(self, node: ast.AST, skip: tuple[str, ...] = ()) -> str:
        parts = [
            f"{field}={self.write(value)}"
            for field, value in ast.iter_fields(node)
            if value is not None and value != [] and field not in skip and not isinstance(value, ast.expr_context)
        ]
        return f"{type(node).__name__}({', '.join(parts)})"


def _bound(scope: Scope) -> Iterator[str]:
    """Yield the names that a function or comprehension binds itself, in order of appearance."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(scope))[::-1]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if not isinstance(node, Scope):
            waiting += list(ast.iter_child_nodes(node))[::-1]


def normal_form(text: str) -> str:
    """Return a form that is equal for two texts exactly when they differ only in comments, docstrings, layout and names."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    rename = _Rename()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            rename.bind(node.name)  # functions first, in the order of their definition
    return rename.write(tree.body)


def _loop_depth(node: ast.AST, now: int = 0) -> int:
    depth = now + isinstance(node, ast.For | ast.While | ast.comprehension)
    return max([depth, *(_loop_depth(child, depth) for child in ast.iter_child_nodes(node))])


def _scales(node: ast.AST, factors: dict[type[ast.operator], float]) -> bool:
    """Return True if the node divides, multiplies or shifts by a constant up to the one given for its operator."""
    if isinstance(node, ast.AugAssign):
        right = node.value
    elif isinstance(node, ast.BinOp):
        right = node.right
    else:
        return False
    if not (isinstance(right, ast.Constant) and isinstance(right.value, int) and right.value >= 1):
        return False
    return right.value <= factors.get(type(node.op), 0)


HALVING: dict[type[ast.operator], float] = {ast.FloorDiv: 10, ast.RShift: 3, ast.Div: 3}
DOUBLING: dict[type[ast.operator], float] = {ast.Mult: 3, ast.LShift: 2}


def _doubles(node: ast.AST) -> bool:
    """Return True if the node doubles something: by a constant, as 2 * i, or as i += i."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.Constant):
        return node.left.value == 2
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        return ast.dump(node.value) == ast.dump(node.target).replace("Store()", "Load()")
    return _scales(node, DOUBLING)


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _calls(tree: ast.Module) -> tuple[int, int]:
    """Count the calls that can come back to the function they stand in, and other calls of the text's functions."""
    functions = {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}
    sites = [
        (name, _called(call))
        for name, function in functions.items()
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and _called(call) in functions
    ]
    reach = {name: {b for a, b in sites if a == name} for name in functions}
    for _ in functions:
        reach = {name: to.union(*(reach[t] for t in to)) for name, to in reach.items()}
    recursive = sum(caller in reach[callee] or caller == callee for caller, callee in sites)
    return recursive, len(sites) - recursive


def _scanning(node: ast.AST) -> bool:
    """Return True if the node walks a whole list inside one call: sum, min of one list, in, index, insert, pop(0)."""
    if isinstance(node, ast.Compare):
        return isinstance(node.ops[0], ast.In | ast.NotIn)
    if not isinstance(node, ast.Call):
        return False
    name = _called(node)
    if name in ("max", "min"):
        return len(node.args) == 1
    return name in SCANNING or (name == "pop" and len(node.args) == 1)


def measures(text: str) -> dict[str, int]:
    """Return the features by name."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    recursive, helpers = _calls(tree)
    return {
        "loop_depth": max(_loop_depth(node) for node in tree.body),
        "loops": sum(isinstance(n, ast.For | ast.While) for n in nodes),
        "while_loops": sum(isinstance(n, ast.While) for n in nodes),
        "recursive_calls": recursive,
        "halvings": sum(_scales(n, HALVING) for n in nodes),
        "doublings": sum(_doubles(n) for n in nodes),
        "ordering_calls": sum(isinstance(n, ast.Call) and _called(n) in ORDERING for n in nodes),
        "scans": sum(_scanning(n) for n in nodes),
        "slices": sum(isinstance(n, ast.Slice) for n in nodes),
        "comprehensions": sum(isinstance(n, ast.comprehension) for n in nodes),
        "helper_calls": helpers,
        "statements": sum(isinstance(n, ast.stmt) for n in nodes),
    }


FEATURE_NAMES = tuple(measures("pass"))


def features(text: str) -> NDArray[np.float64]:
    """Return the measures as an array, shape (len(FEATURE_NAMES),)."""
    return np.array(list(measures(text).values()), dtype=np.float64)


def describe(text: str) -> str:
    """Return one sentence on what the function contains; what is absent is not named, since a search would find its words."""
    found = measures(text)
    depth, calls = found["loop_depth"], found["recursive_calls"]
    parts: list[str] = []
    if depth == 1:
        parts.append("one loop" if found["loops"] + found["comprehensions"] == 1 else "loops one after another")
    elif depth > 1:
        parts.append("a loop inside a loop" if depth == 2 else f"loops nested {depth} deep")
    if calls:
        parts.append("recursion with a single call" if calls == 1 else f"recursion with {calls} calls")
    words = (
        ("halvings", "halving of a value"),
        ("doublings", "doubling of a value"),
        ("ordering_calls", "a sort, heap or bisect call"),
        ("scans", "a scan of a whole list"),
        ("slices", "a slice of the list"),
        ("helper_calls", "a helper function"),
    )
    parts += [phrase for name, phrase in words if found[name]]
    sentence = ", ".join(parts) or "a few single steps"
    return f"{sentence[0].upper()}{sentence[1:]}."
