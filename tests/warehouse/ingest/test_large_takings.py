"""Takings so large that DuckDB writes them past its log: killed anywhere, they are there as a whole or not at all."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from made_up_bundles import plan, put, query

from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import SETTINGS, collect
from warehouse.maintenance import verify as checks
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths

KILLS = 4
TRIALS = 12_000  # a bundle
LABELS = [f"u{i}" for i in range(11)]  # together more trials than one row group of DuckDB's, 122,880
COLLECT = """
from warehouse.ingest.collector import collect
from warehouse.database.connection import writing
from warehouse.paths import Paths
from warehouse.delivery.results_store import Store
paths = Paths.local()
with writing(paths, publish=True) as con:
    print("begun", flush=True)
    collect(paths, Store.configured(paths), con)
    print("taken", flush=True)
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose plan asks for what lies in its inbox."""
    home = tmp_path_factory.mktemp("full") / "home"
    paths = Paths(home)
    plan(paths, *LABELS, n=TRIALS)
    for label in LABELS:
        put(home / "results" / "inbox", label, n=TRIALS)
    return home


def collector(home: Path) -> subprocess.Popen[str]:
    saved = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")} | {"LAB_HOME": str(home)}
    command = [sys.executable, "-c", COLLECT]
    return subprocess.Popen(command, env=saved, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def check_whole(paths: Paths) -> None:
    with writing(paths, publish=True) as con:
        collect(paths, Store.configured(paths), con)
    found = query(paths, "SELECT count(*), count(DISTINCT (unit_id, ordinal)) FROM counted_trials")
    assert found == [(len(LABELS) * TRIALS, len(LABELS) * TRIALS)]
    assert query(paths, "SELECT count(*), max(replicate) FROM bundles") == [(len(LABELS), 0)]
    assert list((paths.home / "results" / "inbox").iterdir()) == []
    assert len(list(paths.bundles.iterdir())) == len(LABELS)
    with writing(paths) as con:
        done = Verified()
        checks.check_summaries(con, done)
        checks.check_bundles(con, paths, done)
        checks.check_records(paths, done)
    assert done.faults == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_large_taking_survives_kill_9(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that skips the log for speed must be as safe as one that does not: after a kill the next call completes it."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    whole = shutil.copytree(full, tmp_path / "whole")
    process = collector(whole)
    assert process.stdout and process.stdout.readline() == "begun\n"
    began = time.monotonic()
    assert process.stdout.readline() == "taken\n"
    takes = time.monotonic() - began
    assert process.wait(60) == 0
    check_whole(Paths(whole))
    seed = random.SystemRandom().randrange(2**32)
    rng, ended = random.Random(seed), Counter[str]()
    for i in range(KILLS):
        home = shutil.copytree(full, tmp_path / str(i))
        process = collector(home)
        assert process.stdout and process.stdout.readline() == "begun\n"
        time.sleep(rng.uniform(0, 1.2 * takes))
        process.kill()
        ended[process.stdout.read()] += 1
        process.wait(60)
        check_whole(Paths(home))
        shutil.rmtree(home)
    print(f"seed {seed}: killed before all was in {ended['']} of {KILLS} times, {takes:.2f} s undisturbed")
    assert ended[""] > 0


@pytest.mark.parametrize("past", [True, False])
def test_a_large_taking_leaves_nothing_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past: bool) -> None:
    """All of it would be written twice: into the log, and from there into the database; as DuckDB does when left alone."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    paths, labels = Paths(tmp_path / "home"), LABELS[:2]
    plan(paths, *labels, n=TRIALS)
    for label in labels:
        put(paths.home / "results" / "inbox", label, n=TRIALS)
    if not past:
        monkeypatch.delitem(SETTINGS, "checkpoint_threshold")
    with writing(paths) as con:
        assert collect(paths, Store.configured(paths), con).ingested == len(labels)
        log = paths.home / "warehouse.duckdb.wal"
        written = log.stat().st_size if log.exists() else 0
    assert (written < 100_000) is past, written
