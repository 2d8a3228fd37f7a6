"""A machine that serves several pools runs one shard at a time, on the kind of model that it was chosen for."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from server_double import reply

from common.errors import LabError
from experiments.backends import placement
from experiments.backends.sizing import Size
from experiments.contract import Unit
from experiments.protocol.identity import _unit_id
from experiments.registry import configure, expected_findings, get_phase
from flows import shard
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.faults import Fault, fault_in

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


@pytest.fixture
def unit(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """A unit of P2, on a machine that must not run it."""
    monkeypatch.setattr(shard, "work", lambda *_: pytest.fail("it was run"))
    monkeypatch.setattr(shard, "unwanted", lambda: None)
    monkeypatch.setattr(shard, "unfit_now", lambda profile: "")
    config = configure("p2", "smoke", {"n_problems": 24, "n_memory": 6, "n_test": 2})
    return get_phase("p2").units(config, expected_findings(), [])[0]


def given_back(unit: dict[str, Any], store: Store | None = None) -> str:
    """What a shard of this unit says, whose file is in the host's own store."""
    job = (store or Store.configured(Paths.local())).put_file(json.dumps({"units": [unit]}).encode())
    with pytest.raises(LabError, match=f"^{shard.GIVEN_BACK} by pi") as ended:
        shard.shard.fn("run", "p2", "shard 1 of 1", job, [unit["unit_id"]])
    return str(ended.value)


def planned_elsewhere(unit: Unit, **identity: Any) -> Unit:
    """The unit as a coordinator with this identity plans it, its id included."""
    other = unit.identity | identity
    return replace(unit, unit_id=_unit_id("p2", unit.config, unit.spec, unit.files, other), identity=other)


def test_a_host_whose_memory_is_too_small_for_the_planned_numbers_gives_the_shard_back(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed in others it would be another result under the id; as a failed attempt it would count against the unit."""
    monkeypatch.setattr(placement, "memory_gb", lambda device: 0.5)
    monkeypatch.setattr("experiments.backends.weights.size", lambda name: Size(10**8, 10**7))
    said = given_back(unit.to_json())
    assert said.startswith("given back by pi: model 'smollm2-135m' is too big for this machine in float32")
    assert fault_in(said) is None  # a smaller plan fits, and memory may be free later


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        ({"code": "0" * 16}, "code differ on this host: "),
        ({"data": "another"}, "data differ on this host: "),
        ({"models": {"smollm2-135m": "another"}}, "models differ on this host: "),
        ({"engines": {"transformers": {"torch": "1.0"}}}, "transformers computes with torch "),
    ],
)
def test_a_host_with_another_installation_is_to_blame_itself(identity: Any, why: str, unit: Unit) -> None:
    """It took all three attempts of each unit in 97 s, and the gate then decided on nothing."""
    if "models" in identity:
        identity = {"models": unit.identity["models"] | identity["models"]}
    fault = fault_in(given_back(planned_elsewhere(unit, **identity).to_json()))
    assert fault and fault.host == "pi" and fault.of == "this run" and fault.why.startswith(why)
    assert fault.why.endswith("on pi: lab join --upgrade")


def test_a_host_that_does_not_know_the_plan_or_lacks_an_engine_is_to_blame(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older code fails at a value that it does not know; what is not installed concerns the phases that need it."""
    newer = unit.to_json()
    fault = fault_in(given_back(newer | {"config": newer["config"] | {"of_tomorrow": 1}}))
    assert fault and fault.why.startswith("its code does not know the plan: of_tomorrow") and fault.of == "this run"
    fault = fault_in(given_back({"unit_id": unit.unit_id, "of": "tomorrow"}))
    assert fault and fault.why.startswith("its code cannot read the units")
    monkeypatch.setattr(shard, "lacks_now", lambda needs: "it lacks lora")
    fault = fault_in(given_back(newer))
    assert fault == Fault("pi", "it lacks lora. on pi: lab doctor", "p2")
    assert fault.concerns("p2") and not fault.concerns("p1")


def test_a_host_without_the_coordinators_results_store_is_to_blame(
    unit: Unit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker looks into a store of its own, where no unit is; or into none, since the address or its package is wrong."""
    elsewhere = Store(tmp_path / "elsewhere", tmp_path / "spool", tmp_path / "archive")
    fault = fault_in(given_back(unit.to_json(), elsewhere))
    assert fault and fault.why.startswith("its results store is not the coordinator's: file ")
    assert "on pi: lab down, set LAB_RESULTS_URL" in fault.why
    monkeypatch.setenv("LAB_RESULTS_URL", "nonsense://there")
    fault = fault_in(given_back(unit.to_json(), elsewhere))
    assert fault and "nonsense" in fault.why
    monkeypatch.setenv("LAB_RESULTS_URL", str(tmp_path / "not-mounted"))
    monkeypatch.setattr(shard, "DELIVER_S", -1.0)
    fault = fault_in(given_back(unit.to_json(), elsewhere))
    assert fault and "has no folder inbox" in fault.why


def test_a_shard_loads_no_database() -> None:
    """DuckDB takes 34 MB in each shard, which writes Parquet and asks no database."""
    code = "import sys, flows.shard; assert not {'duckdb', 'torch', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("states", "why"),
    [
        ("SCHEDULED PENDING RUNNING", None),
        ("SCHEDULED PENDING CRASHED RUNNING", "it began after the shard had been given up: CRASHED"),
        ("SCHEDULED CRASHED SCHEDULED PENDING RUNNING", None),  # by Prefect's retry
        ("SCHEDULED CANCELLING CANCELLED RUNNING", "it began after the shard had been given up: CANCELLED"),
    ],
)
def test_a_shard_asks_before_its_first_unit_whether_it_was_given_up(
    states: str, why: str | None, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect lets a run that was marked as crashed begin all the same: its units were computed twice."""
    asked = []

    def request(method: str, path: str, params: dict[str, str]) -> Any:
        asked.append((method, path, params))
        return reply([{"type": kind, "name": kind} for kind in states.split()])

    client, this = SimpleNamespace(request=request, read_variable_by_name=lambda name: None), uuid4()
    monkeypatch.setattr(shard, "_if_answered", lambda ask: ask(client))
    monkeypatch.setattr(shard.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=SimpleNamespace(id=this)))
    if why is None:
        shard._check_host("pi")
    else:
        with pytest.raises(LabError, match=f"given back by pi: {why}"):
            shard._check_host("pi")
    assert asked == [("GET", "/flow_run_states/", {"flow_run_id": str(this)})]
