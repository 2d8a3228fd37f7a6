"""Versions of the code that decides something: hashes of the definitions that can be reached from its roots.

A unit's result is decided by what `units`, `sides` and `run` reach; a plan also by what `metrics` and `gate` reach. So an
analysis can be corrected without computing a trial again, and is a new plan all the same. Data files beside a definition that
reads any (importlib.resources) count as well: prompts, templates.

A definition is hashed by its content, and a name in it by the content it refers to. So these cost no id: moving a definition or
a module, renaming it, comments, docstrings, layout, estimates of cost. References are read off the names in the text: too many at
times, never too few, since nothing is looked up by a name made at run time but phases, domains and backends, which are roots: of
the backends those that serve the unit's own models, so that another engine changes no unit that does without it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent
# These pass data or find files; they cannot change a result.
NEUTRAL = frozenset(
    {"contract", "findings", "registry", "protocol.identity", "protocol.code_version", "backends.catalog"}
)
ENGINES = ("backends.model_cache", "backends.protocols", "backends.sentence_embedder")
DEFAULT_MODELS = ("smollm2-135m",)
TRIALS = ("Config", "units", "sides", "run")  # of a phase: what decides its trials
ANALYSIS = ("metrics", "gate")  # and what is made of them
UNUSED = ("cost", "description")  # arguments that decide no result: of make_unit, of a config's field
WHOLE, LOOSE = "", "*"  # of a module: all its names, and the statements that give no name
DATA_SUFFIXES = (".json", ".toml", ".txt")
ROUNDS = 8  # of hashing, each of which looks one reference further


class Name(NamedTuple):
    """A name at the top of a module below experiments/."""

    module: str
    name: str


class Content(NamedTuple):
    """A definition: its text with references left open, and what they refer to, in the order of the text."""

    text: str
    references: tuple[Name, ...]


@cache
def code_version(phase: str, domain: str, analysis: bool = False, models: tuple[str, ...] = DEFAULT_MODELS) -> str:
    """Return 16 hex digits: the hash of all definitions that decide the trials of `phase`, and with `analysis` its verdict.

    Args:
        phase: p1 to e2.
        domain: as in a Config.
        models: names of the models that are used; the backends of the language models among them count.
    """
    from experiments.backends.catalog import BACKENDS, language_models, prefix_of
    from experiments.domains import domain_module
    from experiments.registry import module_of

    module = module_of(phase).partition(".")[2]
    roots = [Name(module, name) for name in (*TRIALS, *(ANALYSIS if analysis else ()))]
    backends = {f"backends.{BACKENDS[prefix_of(name)]}" for name in language_models(models)}
    roots += [Name(m, WHOLE) for m in (*ENGINES, *sorted(backends), domain_module(domain).partition(".")[2])]
    # The search for near pairs is a unit of every phase.
    gate = ("next_units", "run", *(("measured", "decided") if analysis else ()))
    return hashed(PACKAGE, [*roots, *(Name("protocol.leakage_gate", name) for name in gate)])


def hashed(package: Path, roots: Sequence[Name]) -> str:
    """Return 16 hex digits that change with any definition in `package` that `roots` reach, and with no name or place."""
    sources, known = sources_of(package), dict[Name, Content]()
    roots = [sources.defined(name) or name for name in roots]
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in known:
            known[name] = sources.content(name)
            todo += known[name].references
    digests = {name: _digest(content.text) for name, content in known.items()}
    for _ in range(ROUNDS):
        digests = {name: _digest(known[name].text, *(digests[r] for r in known[name].references)) for name in known}
    return _digest(*(digests[name] for name in roots), *sorted(set(digests.values())))[:16]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class _Sources:
    """The modules of a package, parsed when they are first asked for."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.modules: dict[str, _Module] = {}
        self.contents: dict[Name, Content] = {}
        self.files: dict[str, Path | None] = {}

    def file(self, module: str) -> Path | None:
        if module not in self.files:
            base = self.package.joinpath(*module.split("."))
            both = (base.with_suffix(".py"), base / "__init__.py")
            self.files[module] = next((p for p in both if p.is_file()), None)
        return self.files[module]

    def module(self, name: str) -> _Module:
        if name not in self.modules:
            path = self.file(name)
            self.modules[name] = _Module(path.read_text(encoding="utf-8") if path else "", self)
        return self.modules[name]

    def defined(self, name: Name) -> Name | None:
        """Return the place where `name` is defined, through re-exports; None for a neutral module and foreign names."""
        while name.module not in NEUTRAL and self.file(name.module):
            module = self.module(name.module)
            if name.name in (WHOLE, LOOSE) or name.name in module.given:
                return name
            if name.name not in module.imported:
                return None
            name = module.imported[name.name]
        return None

    def content(self, name: Name) -> Content:
        if name not in self.contents:
            self.contents[name] = self._content(name)
        return self.contents[name]

    def _content(self, name: Name) -> Content:
        module = self.module(name.module)
        if name.name == WHOLE:
            return Content("", tuple(Name(name.module, n) for n in sorted(module.given)))
        statements = module.given.get(name.name, [])
        reading = _Reading(name, self)
        text = "".join(reading.read(statement) for statement in statements)
        loose = () if name.name == LOOSE else (Name(name.module, LOOSE),)
        if reading.resources and (path := self.file(name.module)):
            text += "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in data_files(path.parent))
        return Content(f"{reading.position} {text}", (*reading.references, *loose))


def data_files(folder: Path) -> list[Path]:
    """Return the data that the modules of a folder read: files with DATA_SUFFIXES in it, and in folders without modules."""
    below = [f for f in folder.iterdir() if f.is_dir() and not (f / "__init__.py").exists()]
    return sorted(p for f in (folder, *below) for p in f.iterdir() if p.suffix in DATA_SUFFIXES)


sources_of = cache(_Sources)


class _Module:
    """One module's top: statements by the name they give, and where imported names come from."""

    def __init__(self, text: str, sources: _Sources) -> None:
        self.given: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, Name] = {}
        for statement in _bare(ast.parse(text)).body:
            for inner in ast.walk(statement):
                self.imported |= dict(_imported(inner, sources))
            for name in _names(statement):
                self.given.setdefault(name, []).append(statement)


class _Reading(ast.NodeTransformer):
    """The text of one definition: references, its own name and private methods stand as marks, imports are left out."""

    def __init__(self, name: Name, sources: _Sources) -> None:
        self.name = name
        self.sources = sources
        self.references: list[Name] = []
        self.own: list[str] = []  # names that the statement gives
        self.local: set[str] = set()  # names bound somewhere inside it
        self.private: list[str] = []  # its private methods
        self.resources = False  # True if it reads data files, by importlib.resources
        self.position = 0  # of the name among those that the statement gives

    def read(self, statement: ast.stmt) -> str:
        self.own = [n for n in _names(statement) if n != LOOSE]
        if self.name.name in self.own:
            self.position = self.own.index(self.name.name)
        inside = [n for n in ast.walk(statement) if n is not statement]
        self.local = {n.arg for n in inside if isinstance(n, ast.arg)}
        self.local |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} - set(self.own)
        if isinstance(statement, ast.ClassDef):
            methods = [n.name for n in statement.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            self.private = [m for m in methods if m.startswith("_") and not m.endswith("__")]
        # Statements that give several names are read once for each.
        return _text(self.visit(deepcopy(statement) if len(self.own) > 1 else statement))

    def _reference(self, name: Name) -> ast.expr | None:
        defined = self.sources.defined(name)
        if defined is None:
            return None
        self.references.append(defined)
        return ast.Name("@reference", ast.Load())

    def _own_name(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        if node.name in self.own:
            node.name = f"@own{self.own.index(node.name)}"
        elif node.name in self.private:
            node.name = f"@private{self.private.index(node.name)}"
        return self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _own_name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.own:
            return ast.Name(f"@own{self.own.index(node.id)}", node.ctx)
        self.resources |= node.id == "resources"
        module = self.sources.module(self.name.module)
        found = self._reference(module.imported.get(node.id, Name(self.name.module, node.id)))
        # Bound in one of its scopes, a name may still refer to the module's in another: it stays, and is a reference too.
        return node if node.id in self.local else found or node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        base = node.value
        if isinstance(base, ast.Name) and base.id in ("self", "cls") and node.attr in self.private:
            node.attr = f"@private{self.private.index(node.attr)}"
        elif isinstance(base, ast.Name) and base.id not in self.local:
            module = self.sources.module(self.name.module).imported.get(base.id)
            found = self._reference(Name(module.module, node.attr)) if module and module.name == WHOLE else None
            if found is not None:
                return found
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        # What it binds is a reference wherever it is used; elsewhere than here a name may lie.
        return None if (node.module or "").split(".")[0] in (self.sources.package.name, "common") else node


def _text(node: object) -> str:
    """Return a syntax tree as text, the same for every version of Python (`ast.dump` differs from 3.13 on)."""
    if isinstance(node, ast.AST):
        fields = [(n, v) for n, v in ast.iter_fields(node) if n not in ("kind", "type_comment") and v not in (None, [])]
        return f"{type(node).__name__}({', '.join(f'{name}={_text(value)}' for name, value in fields)})"
    return f"[{', '.join(map(_text, node))}]" if isinstance(node, list) else repr(node)


def _names(statement: ast.stmt) -> list[str]:
    """Return the names that a statement at a module's top gives; none for imports and for what only type checkers see."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return []
    if isinstance(statement, ast.If) and isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING":
        return []
    stored = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(stored)) or [LOOSE]


def _imported(node: ast.AST, sources: _Sources) -> Iterator[tuple[str, Name]]:
    """Yield names that an import from the package binds, and where each comes from."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == sources.package.name:
        inside = str(node.module).partition(".")[2]
        for alias in node.names:
            module = f"{inside}.{alias.name}".strip(".")
            is_module = sources.file(module) is not None
            yield alias.asname or alias.name, Name(module, WHOLE) if is_module else Name(inside, alias.name)


def _bare(tree: ast.Module) -> ast.Module:
    """Return the tree without docstrings and without arguments that only inform people or the planner."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [k for k in node.keywords if k.arg not in UNUSED]
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body):
            node.body = body[1:]  # type: ignore[attr-defined]
    return tree


def _is_docstring(body: Iterable[ast.stmt]) -> bool:
    first = next(iter(body))
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
