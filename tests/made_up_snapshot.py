"""A snapshot with made-up rows, written through the real migrations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from made_up_report import REPORT

from experiments.registry import PHASES, get_phase
from warehouse.database import summaries
from warehouse.database.connection import migrate
from workpools.report import CapabilityReport

HOSTILE = '<img src=x onerror="window.hurt=1"><b>bold</b>'
START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
HOSTS = (("laptop", "strong"), ("pi-4", "weak"))
MINILM = "all-MiniLM-L6-v2"


def verdict(
    phase: str, status: str, reason: str, metric: str, condition: str, numbers: tuple[Any, ...], **more: Any
) -> Any:
    """One row of verdicts; numbers are value, low, high, n, threshold."""
    value, low, high, n, threshold = numbers
    return [
        phase,
        status,
        reason,
        "{}",
        json.dumps(more.get("steps", [])),
        metric,
        condition,
        value,
        low,
        high,
        n,
        threshold,
        START + timedelta(minutes=5),
        more.get("by"),
        more.get("why"),
    ]


PHASE_TEXTS = {
    name: {"title": p.TITLE, "question": p.QUESTION, "blocking": p.BLOCKING, "answers": ["O(1)", "O(n)", HOSTILE]}
    for name in PHASES
    if (p := get_phase(name))
}
VERDICTS = {
    "p1": verdict(
        "p1",
        "PASS",
        "all-MiniLM-L6-v2: ratio 1.342 (needs > 1.2), kNN 0.83 (needs > 0.7).",
        "similarity_ratio",
        MINILM,
        (1.342, 1.281, 1.411, 100, 1.2),
    ),
    "p2": verdict(
        "p2",
        "FAIL",
        "semantic is not shown to need fewer attempts than none: semantic - none -0.21 attempts, adjusted p "
        "0.0812 (needs < 0.05), n 30.",
        "adjusted_p",
        "semantic - none",
        (0.0812, None, None, 30, 0.05),
        steps=[
            {"command": "lab run p2 --set n_test=64", "reason": "the seen effect asks for 64 problems at 80 % power"},
            {"command": "lab run p1 --set 'embedders=[\"all-mpnet-base-v2\"]'", "reason": "another embedder"},
        ],
        by="laptop",
        why=f"pilot says go on {HOSTILE}",
    ),
    "p3": verdict(
        "p3",
        "INCONCLUSIVE",
        "Too little to retain; the base scores 0 in instruction and arithmetic.",
        "retention",
        "overall",
        (None, None, None, 40, 0.8),
        steps=[{"command": "lab run p3 --scale full", "reason": "20 prompts a category"}],
    ),
    "e0": verdict(
        "e0",
        "PASS",
        f"{MINILM} 0.7:0.3 k5 cosine: relevance 0.812 (needs > 0.75).",
        "relevance",
        f"{MINILM} 0.7:0.3 k5 cosine",
        (0.812, 0.779, 0.841, 50, 0.75),
    ),
    "e1": verdict(
        "e1",
        "PASS",
        "amplification: semantic needs fewer, p 0.004; semantic - temporal -0.43 attempts, n 150.",
        "mean_difference",
        "semantic - temporal",
        (-0.431, -0.612, -0.248, 150, None),
    ),
    "e2": verdict(
        "e2",
        "INCONCLUSIVE",
        "amplification not shown: tuned_s - base_query -0.06 attempts, n 150.",
        "mean_difference",
        "tuned_s - base_query",
        (-0.062, -0.184, 0.059, 150, None),
        steps=[{"command": "lab run e2 --scale full", "reason": "412 problems for this effect"}],
    ),
}


def write_run(con: duckdb.DuckDBPyConnection, run_id: str, decided: str, running: str | None, at: datetime) -> None:
    """One run: verdicts, metrics and bundles of the phases in `decided`, and half of the units of `running`."""
    content = {
        "scale": "demo",
        "phases": PHASE_TEXTS,
        "data_version": ["big_o-1650-42-9f3c21aa"],
        "digests": {"smollm2-135m": "5d1c3b0e8a77", MINILM: "c0ffee124d55"},
    }
    con.execute(
        "INSERT INTO plans VALUES (?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
        ["plan-1", at, json.dumps(content), "ab12" * 16],
    )
    con.execute(
        "INSERT INTO runs VALUES (?, 'plan-1', 'demo', 'big_o', 'smollm2-135m', ?, NULL, 'laptop', ?, true, ?, ?, ?)",
        [run_id, at, "34c42bd" * 5, '{"duckdb":"1.5.5","torch":"2.13.0"}', '{"scale":"demo"}', '{"p1":{"k":5}}'],
    )
    for phase in decided.split():
        row = VERDICTS[phase]
        con.execute(f"INSERT INTO verdicts VALUES ({', '.join('?' * 16)}, 1)", [run_id, *row])
        con.execute("INSERT INTO predictions VALUES (?, ?, 180, ?)", [run_id, phase, 200.0 if phase == "p1" else 48.2])
        write_metrics(con, run_id, phase, row)
    for phase in [*decided.split(), *([running] if running else [])]:
        for i in range(8):
            unit = f"{run_id}-{phase}-{i}"
            con.execute("INSERT INTO units VALUES (?, ?, ?, 1, ?, '{}', '[]')", [run_id, unit, phase, i])
            if phase != running or i < 3:
                write_bundle(con, unit, HOSTS[i % 2][0], at)


def write_bundle(con: duckdb.DuckDBPyConnection, unit: str, host: str, at: datetime) -> None:
    """A counted bundle of three trials, one of them failed, and a replicate that must not count."""
    for replicate in (0, 1):
        sha = f"{unit}-{replicate}"
        con.execute(
            "INSERT INTO bundles VALUES (?, ?, ?, 1, ?, ?, 900, 1, 'directory', '{}', 1)",
            [sha, unit, host, replicate, at],
        )
        for j in range(3):
            con.execute(
                "INSERT INTO trials (bundle_sha256, unit_id, host, ordinal, problem_id, condition, attempts, first_right, error) "
                "VALUES (?, ?, ?, ?, ?, 'none', ?, ?, ?)",
                [sha, unit, host, j, f"problem-{j}", *[None if j == 2 else 1] * 2, "timed out" if j == 2 else None],
            )


def write_metrics(con: duckdb.DuckDBPyConnection, run_id: str, phase: str, row: Any) -> None:
    """The main metric and an accuracy, per host; pi-4 a little lower, one row undefined."""
    metric, condition, value, low, high, n = row[5], row[6], row[7], row[8], row[9], row[10]
    others = {"p1": "hybrid", "p2": "random - none", "p3": "arithmetic", "e0": "hybrid 1:0 k7 euclidean", "e1": HOSTILE}
    for host, shift in (("all", 0.0), ("laptop", 0.0), ("pi-4", 0.02)):

        def moved(x: float | None, by: float = shift) -> float | None:
            return None if x is None else x - by

        rows = [
            (metric, condition, moved(value), moved(low), moved(high), "bootstrap by problem, 1000 resamples, 95 %"),
            (
                metric,
                others.get(phase, "tuned_r"),
                moved(value, shift + 0.05),
                moved(low, shift + 0.05),
                moved(high, shift + 0.05),
                "bootstrap by problem, 1000 resamples, 95 %",
            ),
            ("accuracy", "none", 0.564, 0.48, 0.646, "Wilson 95 %"),
            ("accuracy", "semantic", 0.731 - shift, 0.655, 0.794, "Wilson 95 %"),
            ("accuracy", "random", None, None, None, "no problem answered"),
        ]
        for i, (name, about, v, lo, hi, method) in enumerate(rows):
            con.execute(
                "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, false)",
                [run_id, phase, host, i, name, about, v, lo, hi, n, 1 if v is None else 0, method],
            )


_MADE: dict[Any, bytes] = {}


def publish(home: Path, *runs: tuple[str, str, str | None], more: Callable[..., None] | None = None) -> Path:
    """Write a snapshot of (run_id, decided, running) beside the old one and rename it into place, as the collector does.

    Args:
        more: called with the connection, a run's id and its decided phases, to write what else they left.
    """
    home.mkdir(parents=True, exist_ok=True)
    new = home / "new.duckdb"
    if (runs, more) in _MADE:  # made once a session: hundreds of small inserts take seconds
        new.write_bytes(_MADE[runs, more])
        return new.rename(home / "snapshot.duckdb")
    with duckdb.connect(str(new)) as con:
        con.execute("SET TimeZone = 'UTC'")
        migrate(con)
        con.begin()  # one transaction: a commit a row would cost seconds
        for i, (host, tier) in enumerate(HOSTS):
            seen = START + timedelta(minutes=i)
            report = CapabilityReport.model_validate(REPORT | {"host": host, "tier": tier, "created_at": seen})
            values = [host, tier, seen, seen, report.model_dump_json()]
            con.execute("INSERT INTO hosts VALUES (?, ?, ?, ?, ?, '3.11.9', '{}')", values)
        for i, (run_id, decided, running) in enumerate(runs):
            write_run(con, run_id, decided, running, START + timedelta(hours=i))
            if more:
                more(con, run_id, decided.split())
        con.commit()
        summaries.refresh(con)
        con.execute("CHECKPOINT")
    _MADE[runs, more] = new.read_bytes()
    return new.rename(home / "snapshot.duckdb")


@contextmanager
def changed(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a copy of a snapshot, or to a new one, that is then renamed into its place, as the collector does."""
    new = path.with_name("changed.duckdb")
    if path.exists():
        shutil.copy(path, new)
    with duckdb.connect(str(new)) as con:
        yield con
    new.rename(path)
