"""Made-up work for machines that die: units whose trials follow from a label, and the verdicts that rest on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import canonical
from common.environment import ALL_HOSTS
from experiments import p1_embedding_validity as p1
from experiments.contract import Attachment, Metric, Metrics, PhaseConfig, Status, Trial, Unit, Verdict
from experiments.domains import Problem
from experiments.findings import Earlier
from experiments.registry import configure
from experiments.seeds import generator
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.database.statements import column_of
from warehouse.delivery.bundles import write_bundle
from warehouse.paths import Paths

PHASE = "p1"
WRITERS = ("writer-a", "writer-b")
UNITS = 120  # of each writer that are planned
BLOCK = 10  # units of one writer, one after the other, that a verdict rests on
HOST = "pi-4"
GIVEN: dict[str, Any] = {"n_problems": 96, "n_memory": 12, "n_queries": 24, "embedders": ["all-MiniLM-L6-v2"]}


@cache
def config() -> PhaseConfig:
    return configure(PHASE, "smoke", GIVEN)


@cache
def problems() -> list[Problem]:
    """The problems of each unit."""
    return list(p1.sides(cast(p1.Config, config()), Earlier()).test or ())


def unit_id_of(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()[:32]


def unit_of(label: str) -> Unit:
    return Unit(unit_id_of(label), PHASE, 1, config().model_dump(mode="json"), {"embedder": label}, {})


def content_of(label: str) -> bytes:
    """The file that is attached to the unit's bundle."""
    return label.encode() * 1000


def trials_of(label: str) -> list[Trial]:
    """P1's trials, with numbers that nothing computed."""
    drawn = generator(0, "chaos", label).uniform(size=(len(problems()), 4)).round(6)
    sizes = p1.memory_sizes(cast(p1.Config, config()))
    return [
        Trial(
            p.problem_id,
            label,
            truth=p.label,
            latency_s=0.001,
            details={
                "group": p.group,
                "nearest": {str(size): [p.label] * min(5, size) for size in sizes},
                "nearest_other_families": [p.label] * 5,
                "auc": float(drawn[i, 0]),
                "auc_other_families": float(drawn[i, 1]),
                "map": drawn[i, 2:].tolist(),
            },
        )
        for i, p in enumerate(problems())
    ]


def put_bundle(folder: Path, label: str) -> Path:
    """Write the unit's bundle into a folder and return its path."""
    content, now = content_of(label), datetime.now(UTC)
    return write_bundle(
        folder,
        unit_of(label),
        trials_of(label),
        [Attachment("a.bin", hashlib.sha256(content).hexdigest(), content)],
        host=HOST,
        attempt=1,
        started_at=now,
        finished_at=now,
        provenance={"identity": {}},
    )


def labels_of(writer: str) -> list[str]:
    return [f"{writer}-{i}" for i in range(UNITS)]


def blocks_of(writer: str) -> dict[str, list[str]]:
    """Run id -> labels of its units."""
    labels = labels_of(writer)
    return {f"{writer}.{i // BLOCK}": labels[i : i + BLOCK] for i in range(0, UNITS, BLOCK)}


def plan(paths: Paths, writers: Sequence[str], units: int = UNITS) -> None:
    """Make a warehouse that asks for the first units of these writers."""
    with writing(paths, publish=True) as con:
        records.save_plan(con, "chaos", {"scale": "chaos"})
        records.save_units(con, "all", PHASE, [unit_of(label) for w in writers for label in labels_of(w)[:units]])


Row = tuple[str, str, str, str]  # unit, problem, condition and details of a trial


def verdict_from(rows: list[Row]) -> Verdict:
    """Return the verdict that rests on these trials; all of each is in its reason."""
    reason = hashlib.sha256(canonical([list(row) for row in rows]).encode()).hexdigest()
    mean = sum(json.loads(details)["auc"] for *_, details in rows) / len(rows)
    return Verdict(Status.PASS if mean > 0.5 else Status.FAIL, reason, None, Metric("auc", mean, n=len(rows)))


def expected(labels: list[str]) -> Verdict:
    """Return the verdict of a run that nothing disturbed."""
    known = sorted((unit_id_of(label), label) for label in labels)
    of = [(u, t.problem_id, t.condition, canonical(t.details)) for u, label in known for t in trials_of(label)]
    return verdict_from(of)


def decide(con: Connection, writers: Sequence[str]) -> None:
    """Decide each block whose units all have results and that has no verdict, as a run of its own."""
    done = set(column_of(con, "SELECT DISTINCT unit_id FROM bundles"))
    decided = set(column_of(con, "SELECT run_id FROM verdicts"))
    for run_id, labels in ((r, b) for writer in writers for r, b in blocks_of(writer).items()):
        if run_id in decided or not {unit_id_of(label) for label in labels} <= done:
            continue
        records.save_run(con, records.RunRecord(run_id, "chaos", "chaos", "big_o", "m", HOST, "0", False, {}, {}, {}))
        records.save_units(con, run_id, PHASE, [unit_of(label) for label in labels])
        rows = con.execute(
            "SELECT unit_id, problem_id, condition, details::VARCHAR FROM counted_trials JOIN units USING (unit_id) "
            "WHERE run_id = ? ORDER BY unit_id, ordinal",
            [run_id],
        ).fetchall()
        found = verdict_from(rows)
        records.save_metrics(con, run_id, PHASE, ALL_HOSTS, Metrics((found.main,)))
        records.save_verdict(con, run_id, PHASE, found)
