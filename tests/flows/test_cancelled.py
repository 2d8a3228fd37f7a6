"""A pipeline that is cancelled in Prefect's page: its shards stop as well, and soon."""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.states import Cancelling

from benchmarks.chaos.laboratory import HOST, Lab, given

N_MEMORY = 52  # units that no other test has had computed; each takes the fake embedder 0.4 s
STOPS_WITHIN_S = 10.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shards_of_a_cancelled_pipeline_stop_within_ten_seconds(light: Lab) -> None:
    """Prefect looks for such shards every 20 s (12.9 s were seen); meanwhile machines computed what nobody waits for."""
    client, running = light.client(), light.start("pipeline", *given(30, N_MEMORY))
    worker, begun = psutil.Process(light.services()["worker-weak"]), list[Any]()
    light.wait_for("FROM runs", running)
    deadline = time.monotonic() + 120
    while not begun:
        assert time.monotonic() < deadline and running.poll() is None, light.logs()
        begun = [s for s in light.shards(light.run_of(n_memory=N_MEMORY), HOST) if s.state.is_running()]
    engines = light.flow_processes(worker, "shard")
    assert engines
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=["pipeline"]))
    (run,) = [r for r in client.read_flow_runs(flow_run_filter=wanted) if r.state.is_running()]
    began = time.monotonic()
    client.set_flow_run_state(run.id, Cancelling())
    psutil.wait_procs(engines, timeout=60)
    took_s = time.monotonic() - began
    print(f"its shards stopped after {took_s:.1f} s")
    assert took_s < STOPS_WITHIN_S
    while not all(client.read_flow_run(r.id).state.is_cancelled() for r in (run, *begun)):
        assert time.monotonic() < began + 60, light.logs()
        time.sleep(0.2)
    assert running.wait(60) == 1
