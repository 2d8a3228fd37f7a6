"""How long do readers wait while a snapshot of millions of trials is published, and does any of them fail?

    python -m benchmarks.snapshot_readers --trials 10000000 --publications 6

    {
      "benchmark": "snapshot_readers",
      "ratio": 0.5,
      "needed": null,
      "seconds": {"filling": 26.123, "publication": 1.664, "bare_copy": 0.826},
      "counts": {"trials": 10000000, "publications": 6, "bytes": 201601024, "questions": 569},
      "compared": "publishing a snapshot against a bare copy of it, while another process reads",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 1.1, "torch": "2.13.0+cpu"},
      "reader_errors": 0,
      "longest_pause_s": 0.125,
      "longest_pause_before_s": 0.008
    }

The plain way is a bare copy of the same file, which readers could see half written; ours also brings it to the disk and
renames it in one step. A second process asks the snapshot over and over, as the pages do, opening it once a publication: its
pauses are the times that its questions took. All trials are made up, streamed a million at a time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.common import Clock, show
from warehouse.database.connection import locked, open_warehouse, publish_snapshot
from warehouse.paths import Paths
from warehouse.queries import snapshot as reading

NAME = "snapshot_readers"
RUN = "bench-1"
A_BUNDLE = 10_000  # trials
AT_ONCE = 1_000_000
QUIET_S = 3.0  # that the reader asks before anything is published, to have something to compare with
UNITS = (
    "INSERT INTO units SELECT ?, lpad(i::VARCHAR, 32, '0'), 'e0', 1, i, '{}', '[]' FROM range(?, ?) r(i)",
    "INSERT INTO bundles (sha256, unit_id, host, attempt, replicate, received_at, size_bytes, schema_version, transport, manifest) "
    "SELECT lpad(i::VARCHAR, 64, '0'), lpad(i::VARCHAR, 32, '0'), 'bench', 1, 0, now(), 1, 1, 'directory', "
    "'{}' FROM range(?, ?) r(i)",
)
# hash() is DuckDB's own and the same in every run: the rows are made up, not random.
TRIALS = """
INSERT INTO trials
SELECT lpad((i // ?)::VARCHAR, 64, '0'), lpad((i // ?)::VARCHAR, 32, '0'), 'bench', i % ?, 'problem-' || hash(i) % 1650,
       'minilm k' || i % 4, 100 * (1 + i % 3), 1 + hash(i, 1) % 6, true, 'O(n)', 'O(n)', 200 + hash(i, 2) % 100, 1,
       hash(i, 3) % 1000000 / 1e6, NULL, '{"logprobs":[' || hash(i, 4) % 1000000 / -1e5 || ',' || hash(i, 5) % 1000000 / -1e5 || ']}', 0.5
FROM range(?, ?) r(i)
"""


def fill(con: duckdb.DuckDBPyConnection, trials: int) -> None:
    """Made-up trials in bundles of A_BUNDLE, a million at a time, so that memory stays small."""
    for start in range(0, trials, AT_ONCE):
        end = min(trials, start + AT_ONCE)
        first, last = -(-start // A_BUNDLE), -(-end // A_BUNDLE)
        con.execute(UNITS[0], [RUN, first, last])
        con.execute(UNITS[1], [first, last])
        con.execute(TRIALS, [A_BUNDLE, A_BUNDLE, A_BUNDLE, start, end])
        con.execute("CHECKPOINT")


def read_on(home: str, begun: Any, done: Any, found: Any) -> None:
    """Ask the snapshot until `done` is set; gives [(when it was asked, seconds, error or None)] to `found`.

    The first question loads libraries: it only says that the reader has `begun`.
    """
    os.environ["LAB_HOME"] = home
    asked = []
    reading.progress(RUN)
    begun.set()
    while not done.is_set():
        began, error = time.time(), None
        try:
            if reading.progress(RUN)["e0"][0] == 0:
                error = "no unit is done"
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"
        asked.append((began, time.time() - began, error))
    found.put(asked)


def published(paths: Paths, clock: Clock, publications: int) -> tuple[float, float]:
    """Publish, and copy plainly, by turns; (begin, end) of the time in which it was published, in seconds of the clock."""
    began = time.time()
    for _ in range(publications):
        with locked(paths), clock.side("publication"):
            publish_snapshot(paths)
        with clock.side("bare_copy"):
            shutil.copyfile(paths.warehouse, paths.home / "bare.duckdb")
    return began, time.time()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Raises:
        ValueError: a reader met an error, or asked nothing while it was published.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000_000, help="in the warehouse")
    parser.add_argument("--publications", type=int, default=6, help="of the snapshot, while the reader asks")
    given = parser.parse_args(arguments)
    clock = Clock()
    with ExitStack() as stack:
        paths = Paths(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-snapshot-"))))
        with clock.side("filling"), locked(paths), open_warehouse(paths) as con:
            fill(con, given.trials)
        publish_snapshot(paths)
        spawn = multiprocessing.get_context("spawn")
        begun, done, found = spawn.Event(), spawn.Event(), spawn.Queue()
        reader = spawn.Process(target=read_on, args=(str(paths.home), begun, done, found), daemon=True)
        reader.start()
        if not begun.wait(120):
            raise ValueError("the reader could not ask anything")
        time.sleep(QUIET_S)
        began, ended = published(paths, clock, given.publications)
        done.set()
        asked = found.get(timeout=120)
        reader.join()
        size = paths.snapshot.stat().st_size
    during = [s for at, s, _ in asked if at + s > began and at < ended]
    before = [s for at, s, _ in asked if at + s <= began]
    errors = [e for _, _, e in asked if e]
    if errors or not during:
        raise ValueError(
            f"{len(errors)} of {len(asked)} questions failed, {len(during)} while it was published: {errors[:1]}"
        )
    show(
        NAME,
        clock.seconds["bare_copy"] / clock.seconds["publication"],
        None,
        clock.seconds,
        {"trials": given.trials, "publications": given.publications, "bytes": size, "questions": len(during)},
        "publishing a snapshot against a bare copy of it, while another process reads",
        reader_errors=len(errors),
        longest_pause_s=round(max(during), 3),
        longest_pause_before_s=round(max(before), 3) if before else None,
    )


if __name__ == "__main__":
    main()
