"""Each call into the system fails once, wherever it is: nothing is lost, doubled, torn or refused, and the next try completes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import missing
from stores import scene

from benchmarks import injected_errors as layer

ROOT = Path(__file__).parents[3]
CASES = {"write": 40, "deliver": 60, "collect": 24, "rebuild": 16, "backup": 20}  # tried of each, of up to 500


class Roles:
    """The process that forks one child a case, with the layer below it."""

    def __init__(self, root: Path) -> None:
        self.root, self.cases, self.prepared = root, 0, set[str]()
        folders = (ROOT, ROOT / "tests", ROOT / "tests" / "warehouse")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")}
        environment |= {"PYTHONPATH": os.pathsep.join(map(str, folders))} | layer.environment(layer.build(root))
        script = ROOT / "tests" / "warehouse" / "failing_roles.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **asked: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{json.dumps(asked)}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def prepare(self, scenario: str) -> None:
        """Build what all cases of the scenario begin from, once: its tests share it, in any order."""
        if scenario in self.prepared:
            return
        self.prepared.add(scenario)
        assert self.ask(scenario=scenario, prepare=str(self.root / scenario)) == 0

    def case(
        self, scenario: str, kind: str, at: int, number: int, environment: Any = None, **more: Any
    ) -> dict[str, Any]:
        self.cases += 1
        home, template = self.root / f"home-{self.cases}", self.root / scenario
        asked = {"scenario": scenario, "template": str(template), "home": str(home), "may_die": False, **more}
        found: dict[str, Any] = self.ask(**asked, kinds=[kind], at=at, number=number, environment=environment or {})
        return found

    def fail(
        self, scenario: str, calls: Iterable[tuple[str, int, int]], begin: Callable[[], None] | None = None, **how: Any
    ) -> None:
        """Let each of these calls (kind, number of the call, errno) fail, after `begin`; nothing may be wrong afterwards."""
        hit, wrong = 0, list[str]()
        for kind, at, number in calls:
            if begin:
                begin()
            found = self.case(scenario, kind, at, number, **how)
            hit += found["injected"]
            wrong += [f"{kind} {at} {os.strerror(number)} ({found['said'][:200]}): {w}" for w in found["wrong"]]
        print(f"{scenario}: {hit} failed")
        assert hit > 0
        assert wrong == []


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    if layer.compiler() is None:
        missing("gcc")
    found = Roles(tmp_path_factory.mktemp("injected"))
    yield found
    found.process.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", CASES)
def test_no_error_of_the_system_loses_doubles_or_refuses_anything(roles: Roles, scenario: str) -> None:
    """Permission, input/output, a lost mount, too many files, no memory, no room, no thread, at opens, reads, writes, syncs,
    renames, removals, looks and new threads of Python, Arrow and DuckDB: the error is reported as one, every bundle is still
    there, whole, none is in quarantine, nothing half-written is left, and a second try brings all in exactly once."""
    seed = random.SystemRandom().randrange(2**32)
    rng, calls = random.Random(seed), list[tuple[str, int]]()
    roles.prepare(scenario)
    for kind in (*layer.FILES, "thread"):
        found = roles.case(scenario, kind, 0, 0)
        assert found["wrong"] == [], "without an error"
        calls += [(kind, at) for at in range(1, found["calls"] + 1)]
    print(f"seed {seed}, {len(calls)} calls")
    sample = rng.sample(calls, min(len(calls), CASES[scenario]))
    roles.fail(scenario, [(kind, at, rng.choice(layer.ERRORS[kind])) for kind, at in sample])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quack", "sftp"])
def test_a_connection_that_cannot_be_made_leaves_what_was_to_be_delivered(
    roles: Roles, tmp_path: Path, kind: str
) -> None:
    """Refused, timed out, no route, and no thread for it: bundles wait, and the next delivery brings each once and whole."""
    roles.prepare("deliver")
    with scene(kind, tmp_path) as store:
        inbox = (store.coordinator_home / "results" if store.coordinator_home else store.folder / "store") / "inbox"
        # DuckDB's extension ends the process where it cannot start a thread for a request.
        how: dict[str, Any] = {"may_die": kind == "quack", "environment": store.environment, "inbox": str(inbox)}
        calls = [
            (call, at, number)
            for call in ("connect", "thread")
            for at in range(1, min(roles.case("deliver", call, 0, 0, **how)["calls"], 6) + 1)
            for number in layer.ERRORS[call]
        ]
        roles.fail("deliver", calls, lambda: emptied(inbox), **how)


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_costs_the_collector_nothing(roles: Roles, tmp_path: Path) -> None:
    """What lies in a remote store stays there when a connection, or a thread for it, is refused; what is here is taken in, and the
    next collection brings the rest in exactly once."""
    roles.prepare("collect")
    with scene("sftp", tmp_path) as store:
        inbox = store.folder / "store" / "inbox"

        def filled() -> None:
            emptied(inbox)
            for path in (roles.root / "collect" / "results" / "inbox").glob("*.parquet"):
                shutil.copy(path, inbox)

        calls = []
        for call in ("connect", "thread"):
            filled()
            found = roles.case("collect", call, 0, 0, environment=store.environment)
            assert found["wrong"] == [], "without an error"
            calls += [(call, at, layer.ERRORS[call][0]) for at in range(1, min(found["calls"], 6) + 1)]
        roles.fail("collect", calls, filled, environment=store.environment)


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
