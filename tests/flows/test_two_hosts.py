"""Two hosts on one server: a phase on both, work meant for one that the other's worker takes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.chaos.laboratory import HOST, METRICS, Lab, given, kill
from workpools.pools import create_queues, queue_of

N_MEMORY = 16  # units that no other test has had computed
OTHER = "other-host"


@pytest.fixture(scope="module")
def two_hosts(light: Lab) -> Iterator[Lab]:
    """A laboratory whose own workers serve all tiers, and a worker of another name that polls every queue of pool weak."""
    worker = light.worker(OTHER, "weak")
    light.wait_online("weak", {HOST, OTHER})
    yield light
    # It has nothing to finish, and a worker that signs off may take its server's timeouts to do so.
    family = psutil.Process(worker.pid)
    kill([family, *family.children(recursive=True)])
    worker.wait(10)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_replicated_phase_runs_on_both_and_they_agree(two_hosts: Lab) -> None:
    """Hosts can only be compared on the same units; a unit is its own whoever computes it, and counts once."""
    lab = two_hosts
    done = lab.lab("pipeline", "--mode", "replicate", *given(2, N_MEMORY))
    assert done.returncode in (0, 3), done.stdout + done.stderr + lab.logs()
    run, hosts = [lab.run_of(n_memory=N_MEMORY)], {HOST, OTHER}
    rows = lab.query("SELECT DISTINCT host FROM host_comparison WHERE run_id = ? AND phase = 'p1'", run)
    assert {host for (host,) in rows} == hosts
    per_unit = lab.query(
        "SELECT u.unit_id, count(DISTINCT b.host), count(*) FILTER (WHERE b.replicate = 0) FROM units u "
        "JOIN bundles b USING (unit_id) WHERE u.run_id = ? AND u.phase = 'p1' GROUP BY 1",
        run,
    )
    assert len(per_unit) == 3 and all(row[1:] == (2, 1) for row in per_unit)
    numbers: dict[str, list[tuple[object, ...]]] = {}
    for phase, host, *row in lab.query(METRICS, run):
        if phase == "p1":
            numbers.setdefault(host, []).append(tuple(row))
    assert numbers[HOST] == numbers[OTHER] == numbers["all"]
    counts = "SELECT host, count(*) FROM trials JOIN units USING (unit_id) WHERE run_id = ? AND phase = 'p1' GROUP BY 1"
    trials = dict(lab.query(counts, run))
    assert trials[HOST] == trials[OTHER] == 1 + 2 * 12


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_audit_asks_the_other_host(two_hosts: Lab) -> None:
    """A host that computes something else shows only when another one does the same work, and no number may change by it."""
    lab = two_hosts
    counted = lab.query("FROM counted_trials ORDER BY ALL")
    done = lab.lab("audit", "--fraction", "1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr + lab.logs()
    found = json.loads(done.stdout)
    assert found["disagreeing"] == [] and sum(p["agreeing"] for p in found["pairs"]) == 3
    assert {frozenset((p["host"], p["other"])) for p in found["pairs"]} == {frozenset(("test-host", OTHER))}
    assert "in another process" not in done.stderr
    assert lab.query("FROM counted_trials ORDER BY ALL") == counted
    ((replicates, hosts),) = lab.query("SELECT count(*), count(DISTINCT host) FROM bundles WHERE replicate = 2")
    assert (replicates, hosts) == (3, len({p["other"] for p in found["pairs"]}))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_machine_with_another_results_store_is_left_out(two_hosts: Lab, tmp_path: Path) -> None:
    """It failed each shard within seconds, took all attempts of all units, and the gate decided on nothing. Now the others go
    on, no attempt is counted, and lab hosts says what to do."""
    lab, name = two_hosts, "storeless"
    (tmp_path / "store" / "inbox").mkdir(parents=True)
    create_queues(lab.client(), ["weak"], name)
    worker = lab.worker(name, "weak", [queue_of(name)], LAB_RESULTS_URL=str(tmp_path / "store"))
    try:
        lab.wait_online("weak", {HOST, OTHER, name})
        done = lab.lab("pipeline", "--mode", "replicate", *given(1, N_MEMORY + 2))
    finally:
        family = psutil.Process(worker.pid)
        kill([family, *family.children(recursive=True)])
        worker.wait(10)
    assert done.returncode in (0, 3), done.stdout + done.stderr + lab.logs()
    run = [lab.run_of(n_memory=N_MEMORY + 2)]
    rows = lab.query("SELECT DISTINCT host FROM host_comparison WHERE run_id = ? AND phase = 'p1'", run)
    assert {host for (host,) in rows} == {HOST, OTHER}
    assert lab.query("SELECT count(*) FROM given_up WHERE run_id = ?", run) == [(0,)]
    assert len(lab.shards(run[0], name)) == 1
    shown = lab.lab("hosts").stdout
    assert f"{name} was left out: its results store is not the coordinator's: file " in shown


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_work_meant_for_another_host_is_given_back(two_hosts: Lab) -> None:
    """A worker without a queue of its own polls all of them: it must not run what is meant for another, and says so."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

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
