"""lab join, hosts, drain and undrain on a real server: a machine that joins, drains, comes back and leaves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from lab_process import Run, bare_environment
from made_up_host import made_up_report

from common.errors import LabError
from lab.commands.hosts import print_hosts, remarks
from lab.services import environments, processes, up
from lab.services import join as joining
from lab.services.processes import recorded
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools import hosts
from workpools.hosts import HOST_TAG, UNNAMED, VARIABLE, WorkerState, combined
from workpools.pools import connect, create_pools
from workpools.tiers import POOLS

RUN = "e1 · shard 1 of 2 · desk"
pytestmark = pytest.mark.timeout(600)  # a busy machine may take minutes to bring the server up


def test_what_another_machine_wrote_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of workers and runs come from anybody who reaches the server."""
    workers = [WorkerState("weak", "a\x1b[2J", True, None), WorkerState("weak", f"{UNNAMED}7", True, None)]
    rows = combined([made_up_report("b")], workers, {"b": ["[red]run\u202e[/red]"]}, frozenset({"b"}))
    print_hosts(rows)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown
    assert r"[red]run\u202e[/red]" in shown
    assert remarks(rows) == [
        f"Workers started without --name, so their machine is unknown: {UNNAMED}7.",
        "Without a report, so they are assumed to be able to run everything: a\x1b[2J. On each: lab assess",
        "Get no more work: b. To undo this: lab undrain HOST",
    ]
    assert remarks(rows[1:1]) == []


@dataclass
class Network:
    """A coordinator with a real server and a joined machine, each with a LAB_HOME of its own."""

    coordinator: Path
    desk: Path
    port: int
    url: str
    first: subprocess.CompletedProcess[str]

    def join(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        own = {"LAB_HOST": "desk", "LAB_RESULTS_URL": str(self.coordinator / "results")}
        return subprocess.run(
            [sys.executable, "-m", "lab", "join", self.url, "--quick", *arguments],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
            cwd=self.desk,
            env=bare_environment(self.desk) | own,
        )

    def client(self) -> Any:
        return connect(f"{self.url}/api")

    def pids(self) -> dict[str, int]:
        return {s.name: s.pid for s in recorded(Paths(self.desk)) if s.alive}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One that is up, with `desk` joined once."""
    coordinator, desk = tmp_path_factory.mktemp("coordinator"), tmp_path_factory.mktemp("desk")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    there = Paths(coordinator)
    (coordinator / "results" / "inbox").mkdir(parents=True)  # who shares a folder has made it
    environment = environments.prefect_environment(there, port) | {"PREFECT_SERVER_UI_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = processes.start(there, up.SERVER, command, environment, port)
    try:
        health = f"http://127.0.0.1:{port}/api/health"
        assert processes.wait_until(lambda: up.answers(health), 240, server), "the server did not come up"
        found = Network(coordinator, desk, port, f"http://127.0.0.1:{port}", subprocess.CompletedProcess([], 0))
        found.first = found.join()
        yield found
    finally:
        processes.stop(recorded(Paths(desk)))
        processes.stop([server])


@pytest.fixture
def ask(network: Network, called: Run) -> Run:
    """`lab` on the coordinator, whose server it finds by itself."""
    return partial(called, LAB_HOME=str(network.coordinator), LAB_HOST="coordinator")


def row_of(ask: Run, host: str) -> dict[str, Any]:
    done = ask("hosts", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [r for r in json.loads(done.stdout) if r["host"] == host]
    return dict(row)


@pytest.mark.slow
def test_a_machine_joins_by_one_command_and_keeps_what_runs(network: Network, ask: Run) -> None:
    """All that a new machine takes; typed again it must not start a second worker, which would take two shards at once."""
    first = network.first
    assert first.returncode == 0, first.stdout + first.stderr
    before = network.pids()
    (worker,) = before
    tier = worker.removeprefix("worker-")
    lines = first.stdout.splitlines()
    assert lines[0].startswith("the server does not say which code its coordinator has")  # it is Prefect's own
    assert lines[1] == "looking at desk"
    assert f"desk is {tier}" in lines[2]
    assert f"registered in {network.coordinator / 'results'}" in lines
    assert f"started    {worker}" in lines
    row = row_of(ask, "desk")
    assert (row["tier"], row["status"], row["pools"]) == (tier, "online", [tier])
    assert abs(datetime.fromisoformat(row["last_heartbeat"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert row["versions"]["prefect"] == version("prefect")
    # Workers of many machines that asked a server on SQLite each second would cost each other heartbeats.
    assert psutil.Process(before[worker]).environ()["PREFECT_WORKER_QUERY_SECONDS"] == "5"
    again = network.join()
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"running    {worker}" in again.stdout and "started" not in again.stdout
    assert network.pids() == before
    helping = network.join("--also", "weak")
    assert helping.returncode == 0, helping.stdout + helping.stderr
    after = network.pids()
    assert set(after) == {worker, "worker-weak"} and after[worker] == before[worker]
    assert row_of(ask, "desk")["pools"] == list(dict.fromkeys(["weak", tier]))


@pytest.mark.slow
def test_workers_on_this_machine_for_other_results_are_not_kept(network: Network, called: Run) -> None:
    """LAB_RESULTS_URL set after the first join changes nothing in a worker that runs; the user is told how it does."""
    done = called("join", network.url, LAB_HOME=str(network.desk), LAB_HOST="desk", LAB_RESULTS_URL="/elsewhere")
    assert done.returncode == 2
    assert "with LAB_RESULTS_URL" in done.stderr and "lab down, then: lab join" in done.stderr


class LateClient:
    """A client that read the list of pools before another machine made them; all else is the real one's."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def read_work_pools(self) -> list[Any]:
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


@pytest.mark.slow
def test_two_machines_that_join_a_new_server_at_once_both_find_its_pools(network: Network) -> None:
    """Whoever came second by a moment would be told that a pool exists, in a traceback, and start no worker."""
    assert create_pools(LateClient(network.client())) == []
    assert {pool.name for pool in network.client().read_work_pools()} >= set(POOLS)


@pytest.mark.slow
def test_the_list_names_machines_however_they_came(network: Network, ask: Run) -> None:
    """Registered and away, started by hand with a name or without: each has its row, and those without a report are named."""
    pi = made_up_report(
        "pi-4",
        3.2,
        versions={"torch": "2.13.0"},
        matrix_gflops=8.25,
        embedding_texts_per_s=2.0,
        prefill_tokens_per_s=33.3,
    )
    Store.configured(Paths(network.coordinator)).put_report("pi-4", pi.model_dump_json().encode())
    client = network.client()
    create_pools(client)
    client.send_worker_heartbeat("medium", "guest", 30)
    client.send_worker_heartbeat("medium", f"{UNNAMED}0f3b", 30)
    done = ask("hosts")
    assert (done.returncode, done.stderr) == (0, "")
    body = [[c.strip() for c in line.strip("│").split("│")] for line in done.stdout.splitlines() if line[0] == "│"]
    assert sorted(r[0] for r in body if r[0]) == [f"{UNNAMED}0f3b", "desk", "guest", "pi-4"]
    cells = {r[0]: r[1:] for r in body}
    assert cells["pi-4"] == ["weak", "offline", "", "never", "", "8.25", "2", "33.3", "3.11.2", "2.13.0", ""]
    assert cells["guest"][:3] == ["unknown", "online", "medium"]
    assert f"machine is unknown: {UNNAMED}0f3b." in done.stdout
    assert "assumed to be able to run everything: guest. On each: lab assess" in done.stdout


@pytest.mark.slow
def test_a_drained_machine_finishes_and_comes_back(network: Network, ask: Run) -> None:
    """What a machine's owner needs before switching it off: no new work, sight of what still runs, and the way back."""
    from prefect import flow
    from prefect.states import Completed, Running

    client = network.client()
    assert hosts.drained(client) == frozenset()
    run = client.create_flow_run(flow(lambda: None, name="shard"), name=RUN, tags=[f"{HOST_TAG}desk"], state=Running())
    drained = ask("drain", "desk")
    assert (drained.returncode, drained.stdout) == (0, f"desk gets no more work; still running: {RUN}\n")
    assert hosts.drained(client) == {"desk"}
    row = row_of(ask, "desk")
    assert (row["status"], row["running"]) == ("draining", [RUN])
    client.set_flow_run_state(run.id, Completed(), force=True)
    row = row_of(ask, "desk")
    assert (row["status"], row["running"]) == ("drained", [])
    assert ask("drain", "desk").stdout == "desk was drained already; nothing runs there\n"
    assert "Get no more work: desk. To undo this: lab undrain HOST\n" in ask("hosts").stdout
    assert "desk is drained and gets no work until: lab undrain desk" in network.join().stdout
    assert ask("undrain", "desk").stdout == "desk gets work again\n"
    assert ask("undrain", "desk").stdout == "desk was not drained\n"
    assert row_of(ask, "desk")["status"] == "online"


@pytest.mark.slow
def test_what_a_dead_machine_had_under_way_is_given_up(network: Network, ask: Run) -> None:
    """The owner knows that it is dead before the server does; work meant for others goes on."""
    from prefect import flow
    from prefect.states import Running, Scheduled

    client = network.client()
    nothing = flow(lambda host=None: None, name="shard")

    def shard(name: str, state: Any, tag: str = "", meant_for: str | None = None) -> Any:
        tags = [f"{HOST_TAG}{tag}"] if tag else []
        return client.create_flow_run(nothing, name=name, parameters={"host": meant_for}, tags=tags, state=state).id

    here = [shard("runs", Running(), "desk"), shard("waits", Scheduled(), meant_for="desk")]
    others = [shard("other", Running(), "guest"), shard("anybody's", Scheduled())]
    done = ask("redistribute", "--failed-machine", "desk")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()[:-1]) == ["given up   runs", "given up   waits"]
    assert done.stdout.endswith("comes back: lab drain desk\n")
    assert [client.read_flow_run(i).state.name for i in here] == ["Crashed", "Crashed"]
    assert not any(client.read_flow_run(i).state.is_final() for i in others)
    assert "desk has no unfinished shard" in ask("redistribute", "--failed-machine", "desk").stdout
    assert ask("redistribute", "--failed-machine", "desks").returncode == 2
    for run_id in others:
        client.delete_flow_run(run_id)


@pytest.mark.slow
def test_only_known_machines_are_drained(network: Network, ask: Run) -> None:
    """A misspelt name would leave the machine at work; the answer names those that there are."""
    for command in ("drain", "undrain"):
        done = ask(command, "desks")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("unknown host 'desks'. known: desk")
    assert hosts.drained(network.client()) == frozenset()


@pytest.mark.slow
def test_a_joined_machine_knows_its_coordinator(network: Network, called: Run) -> None:
    """Each command asked for PREFECT_API_URL and LAB_RESULTS_URL again, and without the second showed no machine's tier."""
    on_desk = partial(called, LAB_HOME=str(network.desk), LAB_HOST="desk")
    done = on_desk("hosts", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert {r["host"]: r["status"] for r in json.loads(done.stdout)}["desk"] == "online"
    assert f"joined                 {network.url}/api" in on_desk("status").stdout
    assert f"found    Prefect server               {network.url}/api" in on_desk("doctor").stdout


@pytest.mark.slow
def test_a_plan_counts_on_the_machines_that_are_online(network: Network, ask: Run) -> None:
    """Planned with a machine that is off, a night's run takes longer than was said, and nobody sees why."""
    done = ask("plan", "--scale", "smoke")
    assert done.returncode == 0, done.stderr
    assert "on 1 online machine" in done.stdout and "Not planned with: pi-4 is offline." in done.stdout
    found = json.loads(ask("plan", "--scale", "smoke", "--json").stdout)
    assert ([m["machine"] for m in found["machines"]], found["left_out"]) == (["desk"], {"pi-4": "is offline"})
    assert ask("drain", "desk").returncode == 0
    try:
        none = ask("plan", "--scale", "smoke")
        assert "on 2 registered machines" in none.stdout and "None of them is online; the plan is for" in none.stdout
    finally:
        assert ask("undrain", "desk").returncode == 0


@pytest.mark.slow
def test_a_machine_that_does_not_come_back_is_forgotten(network: Network, ask: Run) -> None:
    """A laptop that was given away stood in every list and plan for good. One that is at work is not forgotten by mistake."""
    network.client().send_worker_heartbeat("weak", "pi-4", 30)
    assert "pi-4 is online" in ask("forget", "pi-4").stderr
    for worker in [w for w in hosts.worker_states(network.client()) if w.name == "pi-4"]:
        network.client().request("DELETE", f"/work_pools/{worker.pool}/workers/pi-4")
    assert ask("drain", "pi-4").returncode == 0
    assert ask("forget", "pi-4").stdout == "pi-4 is forgotten; its results stay\n"
    assert "pi-4" not in {r["host"] for r in json.loads(ask("hosts", "--json").stdout)}
    assert hosts.drained(network.client()) == frozenset()
    assert "unknown host 'pi-4'" in ask("forget", "pi-4").stderr


@pytest.mark.slow
def test_the_drained_are_kept_by_a_real_server(network: Network) -> None:
    """The variable is what the dispatcher and every shard read; each client must see what the other wrote."""
    one, other = network.client(), network.client()
    try:
        assert hosts.drain(one, "b") and hosts.drain(other, "a") and not hosts.drain(one, "a")
        assert hosts.drained(other) == {"a", "b"}
        assert one.read_variable_by_name(VARIABLE).value == ["a", "b"]
        assert hosts.undrain(other, "b") and hosts.undrain(one, "a") and not hosts.undrain(one, "a")
        assert hosts.drained(other) == frozenset()
        one.delete_variable_by_name(VARIABLE)
        assert hosts.drained(other) == frozenset() and not hosts.undrain(other, "a")
    finally:
        for name in hosts.drained(one):
            hosts.undrain(one, name)


@pytest.mark.slow
def test_a_machine_that_comes_back_is_waited_for(network: Network, ask: Run) -> None:
    """The server calls a worker online for a minute after it ended: a join that believed that would report a worker that
    may never come. Nor is it its own namesake: only the next heartbeat of another machine would tell of one."""
    processes.stop(recorded(Paths(network.desk)))
    before = row_of(ask, "desk")
    assert before["status"] == "online"
    back = network.join()
    assert back.returncode == 0, back.stdout + back.stderr
    assert "a worker named desk was online just now; looking whether it still is" in back.stdout
    assert "started    worker-" in back.stdout and network.pids()
    assert datetime.fromisoformat(row_of(ask, "desk")["last_heartbeat"]) > datetime.fromisoformat(
        before["last_heartbeat"]
    )


@pytest.mark.slow
def test_a_worker_that_dies_is_told_at_once_with_its_log(
    network: Network, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that fails must not wait out its minute and a half, and says where to read why."""
    monkeypatch.setenv("LAB_HOST", "broken")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    said: list[str] = []
    with pytest.raises(LabError, match="worker-weak did not come online") as refused:
        joining.start_workers(paths, network.client(), ["weak"], {}, dict(os.environ), said.append)
    assert refused.value.mend == f"see {paths.home / 'logs'}, then: lab down"
    assert said == ["starting workers: weak"]


@pytest.mark.slow
def test_lab_down_takes_the_machine_back(network: Network, called: Run) -> None:
    """The same command as on the coordinator ends the workers that a join started, and the server elsewhere stays up."""
    before = network.pids()
    assert before
    done = called("down", LAB_HOME=str(network.desk))
    assert done.stdout == f"stopped {', '.join(before)}\n"
    assert network.pids() == {}
    for pid in before.values():
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert up.answers(f"{network.url}/api/health")
