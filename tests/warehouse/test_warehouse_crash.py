"""Processes killed at any moment, while they write, deliver and collect, lose nothing and double nothing."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from crash_roles import TRIALS, content_of, unit_id_of

from warehouse.collector import collect
from warehouse.places import Places
from warehouse.transport import Store

KILLS = 25
LONGEST_S = 25.0  # no further kills after that, however slow the machine is
ROLES = ("writer-a", "writer-b", "collector-a", "collector-b")


class Children:
    """Processes of one role each, forked by crash_roles.py."""

    def __init__(self, home: Path) -> None:
        script = Path(__file__).with_name("crash_roles.py")
        self.server = subprocess.Popen(
            [sys.executable, str(script), str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pids: dict[str, int] = {}

    def _ask(self, command: str) -> int:
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.write(f"{command}\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(self, role: str) -> None:
        self.pids[role] = self._ask(f"start {role}")

    def kill(self, role: str) -> int:
        """kill -9, and the exit code: -9 unless it had ended by itself."""
        os.kill(self.pids[role], signal.SIGKILL)
        return self.wait(role)

    def wait(self, role: str) -> int:
        return self._ask(f"wait {self.pids.pop(role)}")


def counted(places: Places) -> int:
    """Units with a result in the snapshot; a snapshot that does not open fails the test."""
    if not places.snapshot.exists():
        return 0
    with duckdb.connect(str(places.snapshot), read_only=True) as con:
        (n,) = con.execute("SELECT count(DISTINCT unit_id) FROM counted_trials").fetchone() or (0,)
        return int(n)


@pytest.mark.slow
def test_kill_9_at_random_points_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers and two collectors share one home and die some 25 times: every unit that was written is counted
    exactly once with all its trials and its attachment, and the snapshot opens after each death."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng, places, children = random.Random(seed), Places(tmp_path), Children(tmp_path)
    kills, seen = 0, 0
    try:
        for role in ROLES:
            children.start(role)
        began = time.monotonic()
        while kills < KILLS and time.monotonic() - began < LONGEST_S:
            time.sleep(rng.uniform(0.02, 0.6))
            role = rng.choice(ROLES)
            assert children.kill(role) == -9, f"{role} ended by itself"
            children.start(role)
            kills += 1
            now = counted(places)
            assert now >= seen
            seen = now
        (tmp_path / "stop").touch()
        assert [children.wait(role) for role in ROLES] == [0, 0, 0, 0]
    finally:
        for role in list(children.pids):
            children.kill(role)
        children.server.communicate(timeout=10)
    assert kills >= 10
    _check(places, kills)


def _check(places: Places, kills: int) -> None:
    store = Store.here(places)
    assert store.deliver(places.spool).reason is None
    collect(places, store)
    written = set()
    for role in ("writer-a", "writer-b"):
        numbers = [int(line) for line in (places.home / f"{role}.journal").read_text().split()]
        # A writer killed between its bundle and its journal leaves a gap there; the unit was written all the same.
        written |= {f"{role}-{i}" for i in range(max(numbers) + 1)}
    ids = {unit_id_of(label): label for label in written}
    with duckdb.connect(str(places.snapshot), read_only=True) as con:
        bundles = con.execute("SELECT unit_id, replicate FROM bundles").fetchall()
        trials = con.execute("SELECT unit_id, list(problem_id ORDER BY ordinal) FROM trials GROUP BY 1").fetchall()
    print(f"{kills} kills, {len(bundles)} bundles")
    found = {unit_id for unit_id, _ in bundles}
    assert ids.keys() <= found, "lost"
    assert len(found - ids.keys()) <= 2  # of each writer the last one may lack its line in the journal
    assert len(bundles) == len(found), "doubled"
    assert all(replicate == 0 for _, replicate in bundles)
    names = dict(trials)
    assert names.keys() == found
    for unit_id, label in ids.items():
        assert names[unit_id] == [f"{label}-{j}" for j in range(TRIALS)]
        assert store.get_file(hashlib.sha256(content_of(label)).hexdigest()) == content_of(label)
    assert len(list(places.bundles.glob("*.parquet"))) == len(found)
    assert store.waiting() == set()
    assert not places.quarantine.exists()
