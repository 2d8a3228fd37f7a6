"""Versions of the code that decides something: hashes of the definitions that can be reached from its roots.

A unit's result is decided by what `units`, `sides` and `run` reach; a plan also by what `metrics` and `gate` reach. So an
analysis can be mended without computing a trial again, and is a new plan all the same. Comments, docstrings, layout and
estimates of cost do not count. Reached is read off the names in the text: too much at times, never too little, since nothing here is
looked up by a name made at run time but phases, domains and backends, which are roots: of the backends those that serve the
unit's own models, so that another engine changes no unit that does without it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# These pass data or find places; they cannot change a result.
NEUTRAL = frozenset(
    {"contract", "environment", "errors", "identity", "registry", "code_version", "fitting", "backends.catalog"}
)
ENGINES = ("backends.base", "backends.sentence_embedder")
DEFAULT_MODELS = ("smollm2-135m",)
TRIALS = ("Config", "units", "sides", "run")  # of a phase: what decides its trials
ANALYSIS = ("metrics", "gate")  # and what is made of them
SAID = ("cost", "description")  # arguments that decide no result: of make_unit, of a config's field
WHOLE, LOOSE = "", "*"  # of a module: all names, and the statements that give none
Name = tuple[str, str]  # module below experiments/, a name at its top


@cache
def code_version(phase: str, domain: str, analysis: bool = False, models: tuple[str, ...] = DEFAULT_MODELS) -> str:
    """16 hex digits: the hash of all definitions that decide the trials of `phase`, and with `analysis` its verdict.

    Args:
        models: names of the models that are used; the backends of the language models among them count.
    """
    from experiments.backends.catalog import is_language_model, prefix_of
    from experiments.domains import domain_module
    from experiments.registry import module_of

    module = module_of(phase).partition(".")[2]
    roots = [(module, name) for name in (*TRIALS, *(ANALYSIS if analysis else ()))]
    backends = {f"backends.for_{prefix_of(name)}" for name in models if is_language_model(name)}
    roots += [(engine, WHOLE) for engine in (*ENGINES, *sorted(backends), domain_module(domain).partition(".")[2])]
    # The search for near pairs is a unit of every phase.
    roots += [("leakage_gate", name) for name in ("next_units", "run", *(("measured", "decided") if analysis else ()))]
    return _hash(roots)


def _hash(roots: Sequence[Name]) -> str:
    todo, seen = list(roots), dict[Name, str]()
    while todo:
        module, name = todo.pop()
        if (module, name) in seen or module in NEUTRAL:
            continue
        if (path := _file(module)) is not None:
            seen[module, name], more = _source(path, module).look_up(name)
            todo += more
    lines = "\n".join(f"{module} {name} {text}" for (module, name), text in sorted(seen.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _file(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def _source(path: Path, module: str) -> _Source:
    return _Source(path, module)


class _Source:
    """One module's top: statements by the name they give, and where imported names come from."""

    def __init__(self, path: Path, module: str) -> None:
        self.module = module
        self.given: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, Name] = {}
        for statement in _bare(ast.parse(path.read_text(encoding="utf-8"))).body:
            for inner in ast.walk(statement):
                self.imported |= _imported(inner)
            for name in _names(statement):
                self.given.setdefault(name, []).append(statement)

    def look_up(self, name: str) -> tuple[str, list[Name]]:
        """(text, what it mentions) of the statements that give `name`."""
        statements = self.given.get(name, [])
        used = {n.id for s in statements for n in ast.walk(s) if isinstance(n, ast.Name)} | {name}
        if name == WHOLE:
            used |= set(self.given)
        found = [(self.module, u) for u in used if u in self.given]
        found += [self.imported[u] for u in used if u in self.imported]
        return "".join(map(ast.dump, statements)), [*found, (self.module, LOOSE)]


def _names(statement: ast.stmt) -> list[str]:
    """The names that a statement at a module's top gives; none for imports and for what only type checkers see."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return []
    if isinstance(statement, ast.If) and isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING":
        return []
    stored = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return stored or [LOOSE]


def _imported(node: ast.AST) -> dict[str, Name]:
    """Names that an import from this package binds, and where each comes from."""
    if not isinstance(node, ast.ImportFrom) or not node.module or node.module.split(".")[0] != PACKAGE.name:
        return {}
    inside = node.module.partition(".")[2]
    found: dict[str, Name] = {}
    for alias in node.names:
        module = f"{inside}.{alias.name}".strip(".")
        found[alias.asname or alias.name] = (module, WHOLE) if _file(module) else (inside, alias.name)
    return found


def _bare(tree: ast.Module) -> ast.Module:
    """The same without docstrings, and without what only tells people or the planner something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [k for k in node.keywords if k.arg not in SAID]
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:]  # type: ignore[attr-defined]
    return tree
