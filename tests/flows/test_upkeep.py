"""The small flows around the pipeline: called as functions where no server is needed, by a server where machines are."""

from __future__ import annotations

import hashlib
import inspect
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.deployments import run_deployment
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings
from server_double import reply, run_row

from benchmarks.chaos.laboratory import HOST, Lab, kill
from common.logs import MAX_BYTES
from flows import upkeep
from flows.upkeep import assess_host, sync
from workpools.assess import parse_report


def test_assess_host_writes_and_registers_what_lab_assess_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is assessed through Prefect is known to its own lab up and to the coordinator, with one report."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_HOST", "pi-4")
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), disable_run_logger():
        said = assess_host.fn(quick=True)
    name = "capability_report_pi-4.json"
    content = (tmp_path / name).read_bytes()
    assert (tmp_path / "results" / "hosts" / name).read_bytes() == content
    report = parse_report(content)
    assert said == {"host": "pi-4", "tier": report.tier}
    assert report.clock_offset_s is None


def test_sync_delivers_and_says_why_when_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hourly run is how results of an idle machine leave it; its result tells where the way is closed."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_RESULTS_URL", str(tmp_path / "mount"))
    _wait_there(tmp_path / "home")
    with disable_run_logger():
        said = sync.fn()
        assert (said["delivered"], said["waiting"], said["asked"]) == (0, 1, [])
        assert "not mounted" in said["reason"]
        (tmp_path / "mount" / "inbox").mkdir(parents=True)
        assert sync.fn() == {"delivered": 1, "waiting": 0, "reason": None, "asked": []}


def test_sync_keeps_the_logs_to_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs for months is never started anew, so only what runs each hour can keep its log off the disk's end."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    log = tmp_path / "logs" / "worker.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (MAX_BYTES + 1))
    with disable_run_logger():
        sync.fn()
    assert (log.stat().st_size, log.with_name("worker.log.1").stat().st_size) == (0, MAX_BYTES + 1)


class FakeClient:
    """A server that knows which hosts still have a sync run that did not end."""

    def __init__(self, busy: set[str]) -> None:
        self.busy = {f"sync:{host}" for host in busy}

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def request(self, method: str, path: str, json: Any) -> Any:
        assert (method, path) == ("POST", "/flow_runs/filter") and json["flow_runs"]["state"]["type"]["any_"]
        return reply([run_row("sync", tags=[t]) for t in json["flow_runs"]["tags"]["all_"] if t in self.busy])


def test_each_other_machine_is_asked_once_and_not_while_it_has_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine that is busy for a day, 24 runs would wait; one that serves two pools has one spool."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_HOST", "desk")
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    asked: list[tuple[str, str]] = []

    def fake_run_deployment(*arguments: object, **named: object) -> None:
        given = inspect.signature(run_deployment).bind(*arguments, **named).arguments
        assert given["timeout"] == 0 and given["as_subflow"] is False
        asked.append((str(given["name"]), str(given["work_queue_name"])))

    online = {
        "coordinator": ["desk"],
        "weak": ["desk", "pi-4", "strong-1", "ProcessWorker 0a1b"],
        "strong": ["strong-1", "busy-1"],
        "somebody-elses": ["far"],
    }
    monkeypatch.setattr(upkeep, "online_workers", lambda _: online)
    monkeypatch.setattr(upkeep, "get_client", lambda sync_client: FakeClient({"busy-1"}))
    monkeypatch.setattr(upkeep, "run_deployment", fake_run_deployment)
    with disable_run_logger():
        assert sync.fn(everywhere=True)["asked"] == ["pi-4", "strong-1"]
    assert asked == [("sync/weak", "host-pi-4"), ("sync/weak", "host-strong-1")]


def _wait_there(home: Path) -> str:
    """Something that is called like a bundle, in a spool."""
    name = f"{5:032x}.{hashlib.sha256(b'5').hexdigest()}.parquet"
    (home / "spool").mkdir(parents=True)
    (home / "spool" / name).write_bytes(b"5")
    return name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_hourly_sync_reaches_machines_that_joined(light: Lab, tmp_path: Path) -> None:
    """What waits on a worker's own disk is delivered there: the coordinator alone would sync only itself."""
    far = "far-host"
    name = _wait_there(tmp_path)
    delivered = light.home / "results" / "inbox" / name
    worker = light.worker(far, "weak", LAB_HOME=str(tmp_path), LAB_RESULTS_URL=str(light.home / "results"))
    try:
        deadline = time.monotonic() + 300
        client = light.client()
        while not (seen := [w.name for w in client.read_workers_for_work_pool("weak")]) or far not in seen:
            assert time.monotonic() < deadline, light.logs()
            time.sleep(0.5)
        deployment = client.read_deployment_by_name("sync/coordinator")
        assert deployment.parameters == {"everywhere": True}
        client.create_flow_run_from_deployment(deployment.id)
        while not delivered.is_file():
            assert time.monotonic() < deadline, light.logs()
            time.sleep(0.5)
        assert list((tmp_path / "spool").glob("*.parquet")) == []
        there = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"sync:{far}"]))
        # To its end, or its run would stay under way in a server that other tests look at.
        meant = client.read_flow_runs(flow_run_filter=there)
        while not all(r.state and r.state.is_final() for r in meant):
            assert time.monotonic() < deadline, light.logs()
            time.sleep(0.5)
            meant = client.read_flow_runs(flow_run_filter=there)
        assert [r.work_queue_name for r in meant] == [f"host-{far}"]
        ours = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"sync:{HOST}"]))
        assert client.read_flow_runs(flow_run_filter=ours) == []
    finally:
        delivered.unlink(missing_ok=True)
        family = psutil.Process(worker.pid)
        kill([family, *family.children(recursive=True)])
        worker.wait(10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_backups_are_written_as_often_as_asked(light: Lab, tmp_path: Path) -> None:
    """`lab backup --every` is given once: the schedule stays over a new `lab up`, and runs that waited while the coordinator
    was off write one backup and not one each."""
    assert light.lab("collect").returncode == 0
    client = light.client()
    refused = light.lab("backup", str(tmp_path / "missing"), "--every", "1h")
    assert (refused.returncode, "is no folder" in refused.stderr) == (2, True)
    assert light.lab("backup", str(tmp_path), "--every", "2h").returncode == 0
    done = light.lab("backup", str(tmp_path), "--every", "1h", "--keep", "2")
    assert done.returncode == 0, done.stderr
    (light.home / "prefect" / "deployed").unlink()
    light.up()  # deploys again
    deployment = client.read_deployment_by_name("backup/coordinator")
    (schedule,) = client.read_deployment_schedules(deployment.id)
    assert schedule.schedule.interval == timedelta(hours=1) and schedule.active
    given = {"to": str(tmp_path), "keep": 2, "every_s": 3600.0}
    assert schedule.parameters == given
    before = saved(tmp_path)
    assert len(before) == 2
    late = client.create_flow_run_from_deployment(deployment.id, parameters=given)
    due = client.create_flow_run_from_deployment(deployment.id, parameters=given | {"every_s": 0})
    deadline = time.monotonic() + 300
    while not all(client.read_flow_run(r.id).state.is_final() for r in (late, due)):
        assert time.monotonic() < deadline, light.logs()
        time.sleep(0.5)
    assert all(client.read_flow_run(r.id).state.is_completed() for r in (late, due)), light.logs()
    after = saved(tmp_path)
    assert len(after) == 2 and after[0] == before[1]
    assert light.lab("restore", str(tmp_path), LAB_HOME=str(tmp_path / "other")).returncode == 0
    assert light.lab("backup", "--every", "never").returncode == 0
    assert client.read_deployment_schedules(deployment.id) == []


def saved(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("lab-backup-*.tar"))
