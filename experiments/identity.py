"""What decides a result, hashed: the same unit id is never computed twice, on any host."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.contract import Json, PhaseConfig, Unit
from experiments.domains import domain_module
from experiments.errors import LabError

PACKAGE = Path(__file__).resolve().parent
# These pass data or find places; they cannot change a result.
NEUTRAL = frozenset({"contract", "environment", "errors", "identity", "registry"})
ENGINES = (
    "backends.base",
    "backends.catalog",
    "backends.transformers_lm",
    "backends.sentence_embedder",
    "backends.peft_trainer",
    "leakage_gate",  # a unit of every phase
)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; refuses NaN, so that equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _file(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "experiments":
            inside = node.module.partition(".")[2]
            found |= {inside} | {f"{inside}.{a.name}".strip(".") for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("experiments.")}
    return {m for m in found if m and _file(m)}


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:]  # type: ignore[attr-defined]
    return ast.dump(tree)


@cache
def code_version(phase: str, domain: str) -> str:
    """Hash of the syntax trees of the phase's module, all it imports from experiments/, the engines and the domain.

    Comments, docstrings and layout do not count. 16 hex digits.
    """
    from experiments.registry import module_of

    todo = [module_of(phase).partition(".")[2], domain_module(domain).partition(".")[2], *ENGINES]
    seen: dict[str, str] = {}
    while todo:
        module = todo.pop()
        path = _file(module)
        if module in seen or module in NEUTRAL or path is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        todo += _imports(tree)
        seen[module] = _without_docstrings(tree)
    return sha256_of(seen)[:16]


def identify(phase: str, config: PhaseConfig, models: Sequence[str]) -> Json:
    """{"code", "data", "models"}: the versions on this host of all that decides a result."""
    from experiments.backends.catalog import digest_of
    from experiments.data import universe

    return {
        "code": code_version(phase, config.domain),
        "data": universe(config).version,
        "models": {name: digest_of(name) for name in sorted(set(models))},
    }


def make_unit(
    phase: str, config: PhaseConfig, spec: Mapping[str, Any], *, models: Sequence[str], round: int = 1,
    depends_on: Sequence[str] = (), files: Sequence[str] = (), n_trials: int = 1, cost: float = 1.0,
) -> Unit:  # fmt: skip
    """A Unit with its id: 32 hex digits of the hash of phase, config, spec, files and identity."""
    plain, identity = config.model_dump(mode="json"), identify(phase, config, models)
    unit_id = _unit_id(phase, plain, spec, files, identity)
    return Unit(unit_id, phase, round, plain, dict(spec), identity, tuple(depends_on), tuple(files), n_trials, cost)


def _unit_id(phase: str, config: Json, spec: Mapping[str, Any], files: Sequence[str], identity: Json) -> str:
    return sha256_of({"phase": phase, "config": config, "spec": spec, "files": list(files), "identity": identity})[:32]


def check_unit(unit: Unit, config: PhaseConfig) -> None:
    """Refuse a unit whose code, data or models differ here from where it was planned, or whose id is not its hash.

    Raises:
        LabError: naming what differs; the host needs the coordinator's version of it.
    """
    if unit.unit_id != _unit_id(unit.phase, unit.config, unit.spec, unit.files, unit.identity):
        raise LabError(f"unit {unit.unit_id} does not hash to its id", "plan the run again: lab pipeline")
    here = identify(unit.phase, config, tuple(unit.identity["models"]))
    for what, mend in (
        ("code", "bring this host to the coordinator's commit: git pull"),
        ("data", "bring this host to the coordinator's commit: git pull"),
        ("models", "install the same model version as on the coordinator"),
    ):
        if here[what] != unit.identity[what]:
            raise LabError(f"{what} differ on this host: {here[what]} here, {unit.identity[what]} planned", mend)
