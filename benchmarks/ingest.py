"""How near does taking bundles in come to DuckDB reading the same Parquet files directly?

    python -m benchmarks.ingest --bundles 10 --trials 6000 --turns 8

    {
      "benchmark": "ingest",
      "ratio": 0.86,
      "needed": 0.8,
      "seconds": {"collector": 2.128, "duckdb": 1.825},
      "counts": {"bundles": 10, "trials": 480000, "turns": 8, "bytes": 25437008},
      "compared": "the collector against one INSERT from read_parquet; tables equal",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 1.2, "torch": "2.13.0+cpu"},
      "trials_per_s": {"collector": 225516, "duckdb": 263061}
    }

The plain way is one INSERT of all files' rows into an empty warehouse, with the same columns and the same cast of details
to JSON, and DuckDB as it comes. Ours is the collector: checksum, manifest, plan and rows of every bundle are checked, they go
in together in one transaction, exactly once, and their files are moved to the archive. Both end with a checkpoint, and their
tables are compared; a turn of each before is not counted, since it loads libraries. A thread checks the bundles that come
next, so the ratio needs a second core that is free, and swings where other work takes it: 0.81 to 0.92 in eight runs on two
quiet cores. Of 40 bundles 0.70 to 0.78: DuckDB compresses in two threads what it reads alone, and here one of them checks.
Half of what the collector gains on the plain way is that a large transaction skips the log (`collector.SETTINGS`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from benchmarks.common import Clock, show
from experiments.contract import Trial, Unit
from experiments.seeds import generator
from warehouse.database.connection import migrate, writing
from warehouse.database.records import RunRecord, save_plan, save_run, save_units
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

NAME = "ingest"
RUN = "bench-1"
NEEDED = 0.8
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CLASSES = ("O(1)", "O(log n)", "O(n)", "O(n log n)", "O(n^2)", "O(2^n)")
DIRECT = (
    "INSERT INTO trials SELECT regexp_extract(filename, '([0-9a-f]{64})[^/]*$', 1), "
    "regexp_extract(filename, '([0-9a-f]{32})[.][^/]*$', 1), 'bench', ordinal, problem_id, condition, seed, attempts, solved, "
    "answer, truth, tokens_in, tokens_out, latency_s, error, details::JSON, first_right "
    "FROM read_parquet(?, filename = true) WHERE ordinal >= 0"
)


def unit(i: int, trials: int) -> Unit:
    """A unit that nothing computes."""
    unit_id = hashlib.sha256(f"{NAME} {i}".encode()).hexdigest()[:32]
    return Unit(unit_id, "e0", 1, {}, {"part": i}, {"code": "c", "data": "d", "models": {}}, n_trials=trials)


def make_bundles(folder: Path, bundles: int, trials: int) -> list[Unit]:
    """Units, each with a bundle in `folder`: made-up trials with E0's fields (about 200 bytes of details)."""
    units = [unit(i, trials) for i in range(bundles)]
    for i, one in enumerate(units):
        rng = generator(42, NAME, i)
        relevance, seconds = rng.random(trials), rng.random(trials)
        picked = rng.integers(0, 1650, (trials, 5))
        rows = [
            Trial(
                f"problem-{picked[j, 0]:04d}",
                f"all-MiniLM-L6-v2 0.7:0.3 k{j % 4} cosine",
                seed=100 * (1 + j % 3),
                attempts=1.0 + j % 6,
                first_right=float(j % 6 == 0),
                solved=True,
                answer=CLASSES[j % 6],
                truth=CLASSES[j % 5],
                latency_s=float(seconds[j]),
                details={
                    "relevance": float(relevance[j]),
                    "retrieved": [f"problem-{k:04d}" for k in picked[j]],
                    "scores": [round(float(x), 9) for x in (relevance[j], 1 - relevance[j], seconds[j])],
                },
            )
            for j in range(trials)
        ]
        write_bundle(
            folder,
            one,
            rows,
            host="bench",
            attempt=1,
            started_at=NOW,
            finished_at=NOW,
            provenance={"identity": one.identity},
        )
    return units


def planned(paths: Paths, units: Sequence[Unit]) -> Store:
    """A warehouse that has asked for these units, and its store."""
    with writing(paths) as con:
        save_plan(con, RUN, {"scale": "bench"})
        save_run(con, RunRecord(RUN, RUN, "bench", "big_o", "m", "bench", "0", False, {}, {}, {}))
        save_units(con, RUN, "e0", units)
    return Store(paths.home / "results", paths.spool, paths.bundles)


def taken_in(home: Path, source: Path, units: Sequence[Unit], clock: Clock) -> int:
    """The collector's way; returns a hash of the trials."""
    paths = Paths(home)
    store = planned(paths, units)
    shutil.copytree(source, store.inbox)
    os.sync()  # a delivery has done so; a copy has not
    with writing(paths) as con, clock.side("collector"):
        found = collect(paths, store, con)
        con.execute("CHECKPOINT")
    if found.ingested != len(units):
        raise ValueError(f"{found} of {len(units)} bundles")
    with duckdb.connect(str(paths.warehouse), read_only=True) as con:
        return _content(con)


def read_directly(home: Path, source: Path, clock: Clock) -> int:
    """DuckDB's way; returns a hash of the trials."""
    home.mkdir()
    with duckdb.connect(str(home / "warehouse.duckdb")) as con:
        migrate(con)
        os.sync()
        with clock.side("duckdb"):
            con.execute(DIRECT, [[str(p) for p in sorted(source.glob("*.parquet"))]])
            con.execute("CHECKPOINT")
        return _content(con)


def _content(con: duckdb.DuckDBPyConnection) -> int:
    (found,) = con.execute("SELECT bit_xor(hash(t)) FROM trials t").fetchone() or (0,)
    return int(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Raises:
        ValueError: the two ways gave different tables.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundles", type=int, default=10, help="files")
    parser.add_argument("--trials", type=int, default=6000, help="rows of each; E0 has 6,000 a unit at full scale")
    parser.add_argument("--turns", type=int, default=2, help="times that each way takes them all")
    given = parser.parse_args(arguments)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as name:
        folder = Path(name)
        source = folder / "source"
        units = make_bundles(source, given.bundles, given.trials)
        size = sum(p.stat().st_size for p in source.glob("*.parquet"))
        for turn in range(-1, given.turns):
            counted = clock if turn >= 0 else Clock()  # the first loads libraries
            ours = taken_in(folder / f"ours-{turn}", source, units, counted)
            if read_directly(folder / f"direct-{turn}", source, counted) != ours:
                raise ValueError("the tables of the two ways differ: the times compare unequal work")
            shutil.rmtree(folder / f"ours-{turn}")
            shutil.rmtree(folder / f"direct-{turn}")
    rows = given.bundles * given.trials * given.turns
    show(
        NAME,
        clock.seconds["duckdb"] / clock.seconds["collector"],
        NEEDED,
        clock.seconds,
        {"bundles": given.bundles, "trials": rows, "turns": given.turns, "bytes": size * given.turns},
        "the collector against one INSERT from read_parquet; tables equal",
        trials_per_s={side: round(rows / seconds) for side, seconds in clock.seconds.items()},
    )


if __name__ == "__main__":
    main()
