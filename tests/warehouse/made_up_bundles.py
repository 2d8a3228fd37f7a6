"""Units, a plan that asks for them, and bundles with made-up trials, as a host delivers them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from experiments.contract import Attachment, Trial, Unit
from warehouse.database.connection import writing
from warehouse.database.records import save_units
from warehouse.delivery.bundles import write_bundle
from warehouse.paths import Paths

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def make_unit(label: str, n: int = 2) -> Unit:
    """A unit of P1 of which nothing but the number of its trials is known."""
    unit_id = hashlib.sha256(label.encode()).hexdigest()[:32]
    return Unit(unit_id, "p1", 1, {}, {"label": label}, {"code": "c", "data": "d", "models": {}}, n_trials=n)


def plan(paths: Paths, *labels: str, n: int = 2) -> None:
    with writing(paths) as con:
        save_units(con, "run", "p1", [make_unit(label, n) for label in labels])


def put(
    folder: Path,
    label: str,
    attempt: int = 1,
    n: int = 2,
    content: bytes | None = None,
    key: bytes | None = None,
    **provenance: Any,
) -> Path:
    unit = make_unit(label)
    files = [] if content is None else [Attachment("a.safetensors", hashlib.sha256(content).hexdigest(), content)]
    trials = [Trial(f"{label}-{i}", "none", seed=100, attempts=i + 1, details={"i": i}) for i in range(n)]
    return write_bundle(
        folder,
        unit,
        trials,
        files,
        host="pi-4",
        attempt=attempt,
        started_at=NOW,
        finished_at=NOW,
        provenance={"code_commit": "abc", "identity": unit.identity} | provenance,
        key=key,
    )


def query(paths: Paths, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        return con.execute(sql).fetchall()
