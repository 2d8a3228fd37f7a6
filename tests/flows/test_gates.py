"""A gate that fails: the chain stops there with what to try, and a retry in Prefect repeats nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, LogFilter, LogFilterFlowRunId
from prefect.states import Failed

from benchmarks.chaos.laboratory import BUNDLES, ROOT, Lab, environment, given

SMALL = given(2, 28)  # units that no other test has had computed


@pytest.fixture(scope="module")
def stopped(light: Lab) -> tuple[Lab, subprocess.CompletedProcess[str]]:
    """A pipeline whose P1 says FAIL, its threshold out of reach, after a run with the phase's own threshold."""
    before = light.lab("run", "p1", *SMALL)
    assert before.returncode in (0, 3), before.stdout + before.stderr
    return light, light.lab("pipeline", *SMALL, "--set", "p1.knn_threshold=1.0")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_failed_gate_stops_the_chain_and_says_what_to_try(
    stopped: tuple[Lab, subprocess.CompletedProcess[str]],
) -> None:
    """What rests on a failed prerequisite is not worth its computing time."""
    lab, done = stopped
    assert done.returncode == 3, done.stdout + done.stderr + lab.logs()
    run = [lab.run_of(knn_threshold=1.0)]
    assert lab.query("SELECT phase, status, why FROM verdicts WHERE run_id = ?", run) == [("p1", "FAIL", None)]
    assert lab.query("SELECT DISTINCT phase FROM units WHERE run_id = ?", run) == [("p1",)]
    assert "P1 stopped the chain" in done.stdout and "Try:\n  lab run p1" in done.stdout
    assert "p1  0 of 3 units reused\np1  3 not reused: settings changed: knn_threshold 0.7, now 1.0" in done.stdout
    assert "--override" in done.stdout


@pytest.mark.slow
def test_prefects_retry_of_a_stopped_pipeline_redoes_nothing(
    stopped: tuple[Lab, subprocess.CompletedProcess[str]],
) -> None:
    """Retry in Prefect's page, or by its command, only does what has no result yet, and says so in the log."""
    lab, _ = stopped
    client, own = lab.client(), [lab.run_of(knn_threshold=1.0)]
    bundles = lab.query(BUNDLES, own)
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_="pipeline")))
    (run,) = [r for r in runs if "knn_threshold" in str(r.parameters)]
    client.set_flow_run_state(run.id, Failed(message="the test says so"), force=True)
    address = {"PREFECT_API_URL": f"http://127.0.0.1:{lab.port}/api", "PREFECT_HOME": str(lab.home / "prefect")}
    retried = subprocess.run(
        [sys.executable, "-m", "prefect", "flow-run", "retry", str(run.id)],
        env=environment(lab.home, **address),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert retried.returncode == 0, retried.stdout + retried.stderr
    deadline = time.monotonic() + 60
    while not ((now := client.read_flow_run(run.id)).state.is_completed() and now.run_count == 2):
        assert time.monotonic() < deadline, now
        time.sleep(0.5)
    assert lab.query(BUNDLES, own) == bundles
    assert len(lab.shards(*own)) == 1
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    while "p1  3 of 3 units reused" not in {r.message for r in client.read_logs(log_filter=wanted)}:
        assert time.monotonic() < deadline, lab.logs()  # logs are sent every two seconds
        time.sleep(0.5)
