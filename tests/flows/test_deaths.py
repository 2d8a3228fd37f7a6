"""Machines that die at work, on a real server with real workers: no result is lost or doubled, and the work goes on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
from deaths import ASLEEP, BOTH, FLOW, HOSTS, WORKER, Disturbed, delivered, disturb, kill_each_flow, register

from benchmarks.chaos.fake_models import embedders
from benchmarks.chaos.laboratory import HOST, Lab, given, kill
from flows import attempts, dispatch
from lab.services import up
from workpools import heartbeats
from workpools.hosts import HOST_TAG
from workpools.pools import create_queues, queue_of

UNITS = 15  # embedders of P1: three for each of five machines, so that each that dies owes some
OTHER_DOMAIN = "domain=equations"  # in which no machine's speed is recorded by earlier tests: each gets an equal part
METRICS = (
    "SELECT metric, condition, value, low, high, n, failed, method FROM metrics WHERE run_id = ? AND host = 'all' "
    "AND NOT timing ORDER BY position"
)
VERDICTS = "SELECT phase, status, main_metric, value, low, high, n, findings FROM verdicts WHERE run_id = ?"
TRIALS = (
    "SELECT unit_id, problem_id, condition, answer, truth, error FROM counted_trials JOIN units USING (unit_id) "
    "WHERE run_id = ? ORDER BY unit_id, ordinal"
)
COUNTED = (
    "SELECT count(DISTINCT unit_id), count(sha256) FILTER (replicate = 0) FROM units LEFT JOIN bundles USING (unit_id) "
    "WHERE run_id = ?"
)


@pytest.fixture(scope="module")
def begun(new_lab: Callable[[str], Lab]) -> tuple[Lab, subprocess.Popen[bytes]]:
    """Where one process computes the same undisturbed, while the laboratory starts."""
    lab = new_lab("alone")
    lab.more = embedders(lab.home)
    return lab, lab.start("run", "p1", *given(UNITS, 64, OTHER_DOMAIN))


@pytest.fixture(scope="module")
def several(begun: object, light: Lab) -> Iterator[tuple[Lab, dict[str, psutil.Process]]]:
    """A laboratory in which four more hosts serve the weak pool."""
    lab = light
    register(lab.home, HOST)
    client, started = lab.client(), {}
    for h in HOSTS:
        create_queues(client, ["weak"], h)
        started[h] = lab.worker(h, "weak", ("default", queue_of(h)))
    workers = {host: psutil.Process(p.pid) for host, p in started.items()}
    lab.wait_online("weak", {HOST, *HOSTS})
    yield lab, workers
    kill([p for w in workers.values() if w.is_running() for p in (w, *w.children(recursive=True))])
    for process in started.values():
        process.wait(10)


@pytest.fixture(scope="module")
def disturbed(several: tuple[Lab, dict[str, psutil.Process]]) -> Disturbed:
    """A pipeline over five machines of which four die; the automation is given less time, so that the test needs less."""
    lab, workers = several
    assert heartbeats.create_watches(lab.client()) == []  # lab up has made them
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(heartbeats.HEARTBEAT_WITHIN, "shard", timedelta(seconds=60))  # a heartbeat comes every 30 s
        watch_anew(lab)
    seen = disturb(lab, workers, given(UNITS, 64, OTHER_DOMAIN))
    watch_anew(lab)
    return seen


def watch_anew(lab: Lab) -> None:
    """Make the automation that gives silent shards up once more, with the time that is set now."""
    client = lab.client()
    (watch,) = client.read_automations_by_name(heartbeats.name_of("shard"))
    client.delete_automation(watch.id)
    assert heartbeats.create_watches(client) == [heartbeats.name_of("shard")]


def died(lab: Lab, host: str) -> Any:
    (shard, *_) = lab.shards(lab.run_of(n_memory=64), host)
    return shard


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_nothing_is_lost_or_doubled_and_every_number_is_the_undisturbed_one(
    begun: tuple[Lab, subprocess.Popen[bytes]], several: tuple[Lab, dict[str, psutil.Process]], disturbed: Disturbed
) -> None:
    """Which machines died while a phase was computed must not be found in any of its numbers."""
    lab, alone = several[0], begun[0]
    assert begun[1].wait(600) == 3, alone.logs()
    assert disturbed.done.returncode == 3, disturbed.done.stdout.decode() + lab.logs()
    run = lab.run_of(n_memory=64)
    assert lab.query(COUNTED, [run]) == [(UNITS + 1, UNITS + 1)]
    assert lab.query("SELECT * FROM quarantine") == []
    for sql in (VERDICTS, METRICS, TRIALS):
        assert lab.query(sql, [run]) == alone.query(sql, [alone.run_of(n_memory=64)])
    assert len(lab.query(TRIALS, [run])) == UNITS * 12 + 1
    for host in HOSTS:
        print(f"{host}: {died(lab, host).state.message}; others went on after", end=" ")
        print(disturbed.goes_on_s(host, died(lab, host).parameters["unit_ids"]), "s")


@pytest.mark.slow
def test_a_flow_whose_worker_died_ends_by_itself(
    several: tuple[Lab, dict[str, psutil.Process]], disturbed: Disturbed
) -> None:
    """Its results count although nobody of its machine answers any more, and its memory is free again."""
    lab = several[0]
    shard = died(lab, WORKER)
    assert disturbed.ended[WORKER]
    assert shard.state.is_completed() or shard.state.is_crashed()
    assert delivered(lab, disturbed.seen)[WORKER]


@pytest.mark.slow
def test_what_a_killed_flow_owed_goes_to_a_bigger_tier_once(
    several: tuple[Lab, dict[str, psutil.Process]], disturbed: Disturbed
) -> None:
    """The kernel kills so when memory is out: the same tier would only be killed again."""
    lab = several[0]
    shard = died(lab, FLOW)
    assert shard.state.is_crashed() and "status code: -9" in shard.state.message
    owed = set(shard.parameters["unit_ids"]) - set(delivered(lab, disturbed.seen)[FLOW])
    later = [
        s for s in lab.shards(lab.run_of(n_memory=64)) if set(s.parameters["unit_ids"]) & owed and s.id != shard.id
    ]
    assert owed and later and all("medium" in s.tags for s in later), [(s.name, s.tags) for s in later]


@pytest.mark.slow
def test_a_machine_that_is_gone_altogether_is_given_up(
    several: tuple[Lab, dict[str, psutil.Process]], disturbed: Disturbed
) -> None:
    """Prefect leaves its run Running for ever; a pipeline that believed that would wait for ever."""
    lab = several[0]
    said = str(died(lab, BOTH).state.message)
    assert died(lab, BOTH).state.is_crashed() and (said == dispatch.NO_HEARTBEATS or "no heartbeat" in said)
    assert set(died(lab, BOTH).parameters["unit_ids"]) - set(delivered(lab, disturbed.seen)[BOTH])


@pytest.mark.slow
def test_a_stopped_process_that_wakes_up_after_its_replacement_does_no_harm(
    several: tuple[Lab, dict[str, psutil.Process]], disturbed: Disturbed
) -> None:
    """Its worker lives, so only its silence tells; awake it delivers what it had begun, and that is not counted twice."""
    lab = several[0]
    shard = died(lab, ASLEEP)
    assert disturbed.ended[ASLEEP]
    assert any("no heartbeat" in str(s.message) for s in lab.client().read_flow_run_states(shard.id))
    twice = lab.query("SELECT count(*) FROM bundles WHERE host = ? AND replicate > 0", [ASLEEP])
    assert twice in ([(0,)], [(1,)]), disturbed.seen  # none if it was stopped between two units


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_unit_that_fails_everywhere_is_given_up_on_record(several: tuple[Lab, dict[str, psutil.Process]]) -> None:
    """A unit that kills each machine must end after three tries; where it is all of a phase, nothing is decided of it."""
    lab, workers = several
    arguments = given(1, 60)
    killed = kill_each_flow(lab, workers, command := lab.start("pipeline", *arguments))
    assert command.returncode == 1, lab.logs()
    run = lab.run_of(n_memory=60)
    assert killed == len(lab.shards(run)) == attempts.MAX_ATTEMPTS
    assert [s.tags for s in lab.shards(run) if "weak" not in s.tags] and "weak" in lab.shards(run)[0].tags
    lost = lab.query("SELECT why FROM given_up WHERE run_id = ?", [run])
    assert len(lost) == 2 and all("no result after 3 attempts" in why and "status code: -9" in why for (why,) in lost)
    assert lab.query("SELECT phase, status FROM verdicts WHERE run_id = ?", [run]) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_is_gone_for_a_while_costs_nothing_but_time(
    several: tuple[Lab, dict[str, psutil.Process]],
) -> None:
    """Machines finish what they have and keep the results; the pipeline goes on where it was, with no command given."""
    lab, _ = several
    seen: dict[str, dict[str, Any]] = {}
    before = sum(map(len, delivered(lab, seen).values()))
    command = lab.start("pipeline", *given(UNITS, 56), log="away")
    deadline = time.monotonic() + 800

    def until(check: Callable[[], object]) -> None:
        while not check():
            assert time.monotonic() < deadline, lab.logs()
            time.sleep(0.2)

    def all_at_work() -> bool:
        there = lab.shards(lab.run_of(n_memory=56)) if lab.run_of(n_memory=56) else []
        # As many as the machines' recorded speeds make worth their start.
        number = int(there[0].parameters["label"].rpartition(" ")[2]) if there else 0
        # Prefect itself waits for its server between Running and the flow's first line, which says where it runs.
        return len(there) == number > 0 and all(any(t.startswith(HOST_TAG) for t in s.tags) for s in there)

    until(all_at_work)
    there = sum(map(len, delivered(lab, seen).values()))
    server = psutil.Process(lab.services()[up.SERVER])
    kill([server, *server.children(recursive=True)])
    assert there < before + UNITS + 1
    until(lambda: sum(map(len, delivered(lab, seen).values())) == before + UNITS + 1)
    lab.up()
    run = lab.run_of(n_memory=56)
    until(lambda: lab.query("SELECT 1 FROM verdicts WHERE run_id = ?", [run]))
    until(lambda: all(s.state.is_completed() for s in lab.shards(run)))
    assert command.wait(120) == 3, lab.logs()
    assert lab.query(COUNTED, [run]) == [(UNITS + 1, UNITS + 1)]
    said = (lab.home / "logs" / "away.log").read_text()
    assert said.count("the server does not answer") == said.count("the server answers again") == 1, said
