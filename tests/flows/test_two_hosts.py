"""Two hosts on one server: a phase on both, work meant for one that the other's worker takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from laboratory import ROOT, Lab, environment, kill

SMALL = ("pipeline", "--scale", "smoke", "--mode", "replicate")
OTHER = "other-host"


@pytest.fixture(scope="module")
def two_hosts(new_lab: Callable[[str], Lab]) -> Iterator[Lab]:
    """A laboratory whose own workers serve all tiers, and a worker of another name that polls every queue of pool weak."""
    lab = new_lab("two-hosts")
    lab.up()
    with (lab.home / "other.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "weak", "--name", OTHER, "--type", "process"],
            env=environment(
                lab.home, LAB_HOST=OTHER, PREFECT_HOME=str(lab.home / "prefect"), PREFECT_WORKER_QUERY_SECONDS="1",
                PREFECT_API_URL=f"http://127.0.0.1:{lab.port}/api", PREFECT_RESULTS_DEFAULT_SERIALIZER="json",
            ),
            cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    from workpools.pools import online_workers

    deadline = time.monotonic() + 120
    while OTHER not in online_workers(lab.client()).get("weak", []):
        assert worker.poll() is None and time.monotonic() < deadline, lab.logs()
        time.sleep(1)
    yield lab
    # It has nothing to finish, and a worker that signs off may take its server's timeouts to do so.
    family = psutil.Process(worker.pid)
    kill([family, *family.children(recursive=True)])
    worker.wait(10)
    lab.down()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_replicated_phase_runs_on_both_and_they_agree(two_hosts: Lab) -> None:
    """Hosts can only be compared on the same units; a unit is its own whoever computes it, and counts once."""
    from test_pipeline import METRICS

    lab = two_hosts
    done = lab.lab(*SMALL)
    assert done.returncode in (0, 3), done.stdout + done.stderr + lab.logs()
    hosts = {"test-host", OTHER}
    rows = lab.query("SELECT DISTINCT host FROM host_comparison WHERE phase = 'p1'")
    assert {host for (host,) in rows} == hosts
    per_unit = lab.query(
        "SELECT u.unit_id, count(DISTINCT b.host), count(*) FILTER (WHERE b.replicate = 0) FROM units u "
        "JOIN bundles b USING (unit_id) WHERE u.phase = 'p1' GROUP BY 1"
    )
    assert len(per_unit) == 3 and all(row[1:] == (2, 1) for row in per_unit)
    numbers: dict[str, list[tuple[object, ...]]] = {}
    for phase, host, *row in lab.query(METRICS):
        if phase == "p1":
            numbers.setdefault(host, []).append(tuple(row))
    assert numbers["test-host"] == numbers[OTHER] == numbers["all"]
    trials = dict(lab.query("SELECT host, count(*) FROM trials GROUP BY 1"))
    assert trials["test-host"] == trials[OTHER] > 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_work_meant_for_another_host_is_given_back(two_hosts: Lab) -> None:
    """A worker without a queue of its own polls all of them: it must not run what is meant for another, and says so."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    from workpools.pools import queue_of

    lab = two_hosts
    client = lab.client()
    deployment = client.read_deployment_by_name("shard/weak")
    job = {"run_id": "none", "phase": "p1", "label": "stray", "job": "0" * 64, "unit_ids": ["0" * 32], "host": "nobody"}
    client.create_flow_run_from_deployment(
        deployment.id, parameters=job, tags=["stray"], work_queue_name=queue_of("nobody")
    )
    deadline = time.monotonic() + 240
    while True:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["stray"])))
        if run.state.is_final():
            break
        assert time.monotonic() < deadline, lab.logs()
        time.sleep(1)
    assert run.state.name == "Failed"
    assert f"given back by {OTHER}: meant for nobody, taken by {OTHER}" in run.state.message
