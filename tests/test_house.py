"""Rules that hold for every file: its size, calls that never stand in it, its place in the wheel.

Which package may import which is checked by import-linter (pyproject.toml).
"""

from __future__ import annotations

import ast
import fnmatch
import importlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from checkout import ROOT, tracked

from workpools.tiers import POOLS, TIERS

FLOORS = ("app", "benchmarks", "common", "experiments", "flows", "lab", "warehouse", "workpools")


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module."""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def within(dotted: str, names: set[str]) -> bool:
    return any(dotted == n or dotted.startswith(f"{n}.") for n in names)


def test_the_modules_were_found() -> None:
    """The rules below would all pass on a search that found nothing."""
    assert len(modules()) > 40


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
    assert {p.split(".")[0] for p in named} == set(FLOORS) - {"benchmarks"}


def test_files_beside_the_code_go_into_the_wheel() -> None:
    """Migrations and styles are data files, which a wheel leaves out unless they are named."""
    patterns = setuptools()["package-data"]
    wrong = []
    for name in tracked():
        path = Path(name)
        if path.parts[0] in FLOORS and path.suffix != ".py":
            globs = [(folder, g) for folder in path.parents for g in patterns.get(".".join(folder.parts), [])]
            if not any(fnmatch.fnmatch(str(path.relative_to(folder)), g) for folder, g in globs):
                wrong.append(name)
    assert wrong == []


DEPLOYMENTS = (
    {
        "pipeline/smoke",
        "pipeline/demo",
        "pipeline/full",
        "collect/coordinator",
        "sync/coordinator",
        "backup/coordinator",
    }
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
    """Values for parameters that a flow's caller always gives (the shard's, the backup's), so that those of the file can be checked."""
    given = {"run_id": "x", "phase": "p1", "label": "x", "job": "0" * 64, "unit_ids": ["0" * 32], "to": "/backups"}
    return {name: given[name] for name in flow.parameters.required}
