"""A machine that serves several pools runs one shard at a time, on the kind of model that it was chosen for."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import LabError
from experiments.backends import placement
from experiments.backends.sizing import Size
from experiments.registry import configure, expected_findings, get_phase
from flows import shard
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths

HOLD = "import sys\nfrom flows import shard\nfrom warehouse.paths import Paths\n" + (
    "with shard.one_shard_at_a_time(Paths.local()):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_HOST", "pi")
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    monkeypatch.setattr(shard, "get_run_logger", lambda: logging.getLogger("test"))
    return Paths(tmp_path)


def test_a_second_shard_waits_until_the_first_is_gone_even_killed(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of three pools would load three models into memory that holds one; a killed shard must not block the host."""
    first = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout and first.stdout.readline() == b"held\n"
    waits: list[float] = []

    def kill_at_the_third(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            first.kill()
            first.wait()

    monkeypatch.setattr(shard.time, "sleep", kill_at_the_third)
    with shard.one_shard_at_a_time(paths):
        assert waits == [shard.ALONE_AGAIN_S] * 3
    with monkeypatch.context() as other:
        other.setenv("LAB_HOST", "desk")
        with shard.one_shard_at_a_time(paths):  # another host that shares the folder has its own
            pass


def test_a_shard_does_not_wait_for_ever_for_another(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped keeps its lock: whoever waited for it would never give the units to a machine that is free."""
    first = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout and first.stdout.readline() == b"held\n"
    waits: list[float] = []
    monkeypatch.setattr(shard.time, "sleep", waits.append)
    with (
        pytest.raises(LabError, match=f"^{shard.GIVEN_BACK} by pi: another shard has been running there"),
        shard.one_shard_at_a_time(paths),
    ):
        pass
    assert sum(waits) == shard.ALONE_S
    first.kill()
    first.wait()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"engines": {"transformers": {"torch": "1.0"}}}, "transformers computes with torch .* here, planned with 1.0"),
        ({}, "model 'smollm2-135m' is too big for this machine in float32"),
    ],
)
def test_a_host_that_cannot_compute_in_the_planned_numbers_gives_the_shard_back(
    change: dict[str, Any], why: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed in others it would be another result under the id; as a failed attempt it would count against the unit."""
    config = configure("p2", "smoke", {"n_problems": 24, "n_memory": 6, "n_test": 2})
    unit = get_phase("p2").units(config, expected_findings(), [])[0]
    unit = replace(unit, identity=unit.identity | change)
    monkeypatch.setattr(placement, "memory_gb", lambda device: 0.5)
    monkeypatch.setattr("experiments.backends.weights.size", lambda name: Size(10**8, 10**7))
    monkeypatch.setattr(shard, "work", lambda *_: pytest.fail("it was run"))
    monkeypatch.setattr(shard, "is_drained", lambda here: False)
    monkeypatch.setattr(shard, "unfit_now", lambda profile, needs: "")
    job = Store.configured(paths).put_file(json.dumps({"units": [unit.to_json()]}).encode())
    with pytest.raises(LabError, match=f"^{shard.GIVEN_BACK} by pi: {why}"):
        shard.shard.fn("run", "p2", "shard 1 of 1", job, [unit.unit_id])


def test_a_shard_loads_no_database() -> None:
    """DuckDB takes 34 MB in each shard, which writes Parquet and asks no database."""
    code = "import sys, flows.shard; assert not {'duckdb', 'torch', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
