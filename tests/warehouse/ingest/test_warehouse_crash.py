"""Processes killed while they write, deliver, collect, publish, migrate, decide, save and rebuild lose nothing and double nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from benchmarks.chaos.found import journals_in, look, look_migrated
from benchmarks.chaos.killing import COLLECTORS, VICTIMS, Forks, at_work, kill_in
from benchmarks.chaos.roles import STAGES
from benchmarks.chaos.work import WRITERS, plan
from experiments.seeds import generator
from warehouse.paths import Paths

KILLS = 35  # a stage
FEWER = {"backup": 10, "rebuild": 10}  # each of these deaths costs seconds
OTHERS = {"verdict", "backup", "rebuild"}  # stages of roles that work beside writers and collectors


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    found = Forks()
    yield found
    found.end()


def counted(paths: Paths) -> int:
    """Units with a result in the snapshot; a snapshot that does not open fails the test."""
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        (n,) = con.execute("SELECT count(DISTINCT unit_id) FROM counted_trials").fetchone() or (0,)
        return int(n)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a crowded machine takes ten times as long
@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_loses_and_doubles_nothing(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Two writers and two collectors share one home, others decide, save and rebuild beside them, and one of them dies again
    and again, most often in one stage: every unit that was written is counted exactly once with all its trials and its
    attachment, each verdict is the undisturbed one, the snapshot opens after each death of whoever writes it, and all of it
    verifies. A migrator dies within new warehouses, which come up migrated."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    monkeypatch.setenv("LAB_HOST", "chaos")
    seed = random.SystemRandom().randrange(2**32)
    paths, kills, seen = Paths(tmp_path), FEWER.get(stage, KILLS), [0]
    plan(paths, WRITERS)
    shared = [*WRITERS, *COLLECTORS, *(VICTIMS[stage] if stage in OTHERS else ())]

    def opens(victim: str) -> None:
        if victim not in WRITERS:
            now = counted(paths)
            assert now >= seen[0]
            seen[0] = now

    with at_work(forks, tmp_path, shared if stage != "migrate" else VICTIMS[stage]) as children:
        hit = kill_in(children, [stage], kills, generator(seed, "kills"), opens)
    print(f"{stage}: seed {seed}, {sum(hit.values())} kills, of them in that stage {hit[stage]}")
    assert hit[stage] > 0
    found = look(tmp_path, journals_in(tmp_path)) if stage != "migrate" else look_migrated(tmp_path)
    print(f"{found.units} units, {found.verdicts} verdicts")
    assert found.wrong == []
