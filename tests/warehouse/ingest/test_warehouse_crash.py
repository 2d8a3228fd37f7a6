"""Processes killed while they write, deliver, collect, publish and migrate lose nothing and double nothing."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from crash_roles import STAGES, TRIALS, UNITS, content_of, unit_id_of, unit_of

from common.canonical_json import canonical
from warehouse.database.connection import migrations, schema_version, writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance import verify as checks
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths

KILLS = 35  # a stage; over the six stages 210
LOOK_S = 20.0  # that a stage is waited for; then the role dies wherever it is
WRITERS = ("writer-a", "writer-b")
ROLES = {
    "spool": WRITERS,
    "delivery": WRITERS,
    "ingest": ("collector-a", "collector-b"),
    "snapshot": ("collector-a", "collector-b"),
    "records": ("collector-a", "collector-b"),
    "migrate": ("migrator-a",),
}


class Server:
    """The process that forks the roles."""

    def __init__(self) -> None:
        script = Path(__file__).parents[1].joinpath("crash_roles.py")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")}
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, command: str) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


class Children:
    """Processes of one role each, in one home."""

    def __init__(self, server: Server, home: Path) -> None:
        self.server, self.home = server, home
        self.pids: dict[str, int] = {}

    def start(self, role: str) -> None:
        self.pids[role] = self.server.ask(f"start {role} {self.home}")

    def kill(self, role: str) -> int:
        """kill -9, and the exit code: -9 unless it had ended by itself."""
        os.kill(self.pids[role], signal.SIGKILL)
        return self.wait(role)

    def wait(self, role: str) -> int:
        return self.server.ask(f"wait {self.pids.pop(role)}")

    def stage(self, role: str) -> bytes:
        try:
            return (self.home / f"stage.{role}").read_bytes()
        except FileNotFoundError:
            return b""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.process.communicate(timeout=30)


def plan(paths: Paths) -> None:
    labels = [f"{writer}-{i}" for writer in WRITERS for i in range(UNITS)]
    specs = [canonical(unit_of(label).to_json()) for label in labels]
    with writing(paths, publish=True) as con:
        con.execute(
            "INSERT INTO units SELECT 'run', unnest(?::VARCHAR[]), 'p1', 1, unnest(range(?)), unnest(?::VARCHAR[]), '[]'",
            [[unit_id_of(label) for label in labels], len(labels), specs],
        )


def counted(paths: Paths) -> int:
    """Units with a result in the snapshot; a snapshot that does not open fails the test."""
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        (n,) = con.execute("SELECT count(DISTINCT unit_id) FROM counted_trials").fetchone() or (0,)
        return int(n)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a crowded machine takes ten times as long
@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_loses_and_doubles_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Two writers and two collectors share one home, and one of them dies again and again, most often in one stage: every
    unit that was written is counted exactly once with all its trials and its attachment, the snapshot opens after each
    death of whoever writes it, and all of it verifies. A migrator dies within new warehouses, which come up migrated."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    seed = random.SystemRandom().randrange(2**32)
    rng, paths, children = random.Random(seed), Paths(tmp_path), Children(server, tmp_path)
    plan(paths)
    roles = [*WRITERS, *ROLES["ingest"]] if stage != "migrate" else [*ROLES["migrate"]]
    hit: Counter[bytes] = Counter()
    seen = 0
    try:
        for role in roles:
            children.start(role)
        for _ in range(KILLS):
            victim = rng.choice(ROLES[stage])
            end = time.monotonic() + LOOK_S
            while children.stage(victim) != STAGES[stage] and time.monotonic() < end:
                # Of two collectors one waits for the lock: whoever gets there first.
                victim = next((r for r in ROLES[stage] if children.stage(r) == STAGES[stage]), victim)
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.01))
            hit[children.stage(victim)] += 1
            assert children.kill(victim) == -9, f"{victim} ended by itself, seed {seed}"
            children.start(victim)
            if victim not in WRITERS:
                now = counted(paths)
                assert now >= seen
                seen = now
        (tmp_path / "stop").touch()
        assert [children.wait(role) for role in roles] == [0] * len(roles)
    finally:
        for role in list(children.pids):
            children.kill(role)
    print(f"{stage}: seed {seed}, {KILLS} kills, of them in that stage {hit[STAGES[stage]]}")
    assert hit[STAGES[stage]] > 0
    _check(paths) if stage != "migrate" else _check_migrated(paths)


def _check(paths: Paths) -> None:
    store = Store.configured(paths)
    assert store.deliver(paths.spool).reason is None
    collect(paths, store)
    written = set()
    for role in WRITERS:
        numbers = [int(line) for line in (paths.home / f"{role}.journal").read_text().split()]
        # A writer killed between its bundle and its journal leaves a gap there; the unit was written all the same.
        written |= {f"{role}-{i}" for i in range(max(numbers) + 1)}
    ids = {unit_id_of(label): label for label in written}
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        bundles = con.execute("SELECT unit_id, replicate FROM bundles").fetchall()
        trials = con.execute("SELECT unit_id, list(problem_id ORDER BY ordinal) FROM trials GROUP BY 1").fetchall()
    print(f"{len(bundles)} bundles")
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
    assert len(list(paths.bundles.glob("*.parquet"))) == len(found)
    assert store.waiting() == set()
    assert not paths.quarantine.exists()
    with writing(paths) as con:
        done = Verified()
        checks.check_schema(con, done)
        checks.check_summaries(con, done)
        checks.check_bundles(con, paths, done)
        checks.check_records(paths, done)
    assert done.faults == []


def _check_migrated(paths: Paths) -> None:
    homes = sorted((paths.home / "migrating").iterdir())
    assert homes
    for home in homes:
        with writing(Paths(home)) as con:
            assert schema_version(con) == len(migrations())
            done = Verified()
            checks.check_schema(con, done)
            assert done.findings == []
