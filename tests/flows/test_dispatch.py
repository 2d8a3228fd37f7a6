"""What the end of shards means for their units, and how often these are tried."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from server_double import reply, run_row

from common.errors import LabError
from experiments.contract import Unit
from experiments.registry import configure
from flows import attempts, dispatch
from flows.attempts import MAX_ATTEMPTS, MAX_RETURNS, Attempts
from flows.dispatch import Dispatcher, Outcome, Shard, UnitOnHost, without_worker
from flows.plan import Run
from lab.services import environments
from warehouse.delivery.results_store import Store

LONG_AGO = datetime.now(UTC) - timedelta(days=1)
RUN = Run("smoke-1", "1", "smoke", {})


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a flow there is no run to log to."""
    for module in (dispatch, attempts):
        monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))


def units(*costs: float) -> list[Unit]:
    return [Unit(f"{i:032x}", "p2", 1, {}, {}, {}, cost=cost) for i, cost in enumerate(costs)]


class FakeRuns:
    """A server's answers about flow runs, each in its given state; it keeps the messages of states that are set."""

    def __init__(self, **names: str) -> None:
        self.names = {UUID(int=int(i.removeprefix("run"))): name for i, name in names.items()}
        self.set: dict[UUID, str] = {}
        self.since: dict[UUID, datetime] = {}  # when it came into its state

    def set_flow_run_state(self, run_id: UUID, state: Any, force: bool) -> None:
        assert state.is_crashed() and force
        self.set[run_id] = state.message

    def request(self, method: str, path: str) -> Any:
        assert (method, path[:11]) == ("GET", "/flow_runs/")
        name = self.names[UUID(path[11:])]
        since = self.since.get(UUID(path[11:]), LONG_AGO).isoformat()
        state = {"type": name.upper(), "name": name, "message": name, "timestamp": since}
        return reply(run_row("a shard", id=path[11:], state=state))


@pytest.mark.parametrize(
    ("states", "left"),
    [({"run1": "Running", "run2": "Crashed"}, ("a",)), ({"run1": "Completed", "run2": "Failed"}, ())],
)
def test_a_failed_shard_is_not_waited_for_beside_the_others(
    states: dict[str, str], left: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine that died in the first minute must not keep its units from the others for the hours these still need."""
    monkeypatch.setattr(dispatch, "POLL_S", 0.0)
    monkeypatch.setattr(dispatch, "STATES_S", 0.0)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher.client, dispatcher.store = FakeRuns(**states), Store(tmp_path, tmp_path / "spool", tmp_path / "bundles")
    dispatcher.open_shards = {UUID(int=i): Shard(UUID(int=i), "weak", (unit,)) for i, unit in ((1, "a"), (2, "b"))}
    outcome = dispatcher.wait(lambda: False)
    assert outcome.failed and dispatcher.under_way() == {(unit, None) for unit in left}
    assert dispatcher.wait(lambda: True) == Outcome() and not dispatcher.under_way()


def test_a_shard_that_its_machine_does_not_begin_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose one place is taken by a process that hangs stays online: what is meant for it would wait for ever.
    What begins slowly, what runs, what anybody may take and what compares machines is left alone, and no attempt is counted;
    a slow machine's shard was taken back after 90 s while it began, and ran as well."""
    for name in ("POLL_S", "STATES_S", "WORKERS_S"):
        monkeypatch.setattr(dispatch, name, 0.0)
    monkeypatch.setattr(dispatch, "online_workers", lambda client: {"weak": ["pi"]})
    now = time.monotonic()
    late, long = now - dispatch.NOT_BEGUN_S - 1, now - 9999
    shards = {
        "a": Shard(UUID(int=1), "weak", ("a",), "pi", at=late),
        "b": Shard(UUID(int=2), "weak", ("b",), "pi", at=now),
        "c": Shard(UUID(int=3), "weak", ("c",), "pi", at=long),
        "d": Shard(UUID(int=4), "weak", ("d",), None, at=long),
        "e": Shard(UUID(int=5), "weak", ("e",), "pi", True, at=long),
        "f": Shard(UUID(int=6), "weak", ("f",), "pi", at=long),
        "g": Shard(UUID(int=7), "weak", ("g",), None, at=long),
    }
    dispatcher = Dispatcher.__new__(Dispatcher)
    states = "Scheduled Scheduled Running Scheduled Scheduled Pending Pending".split()
    dispatcher.client = FakeRuns(**{f"run{i + 1}": state for i, state in enumerate(states)})
    dispatcher.client.since = {UUID(int=6): datetime.now(UTC) - dispatch.BEGINNING / 2, UUID(int=7): LONG_AGO}
    dispatcher.open_shards = {s.flow_run_id: s for s in shards.values()}
    outcome = dispatcher.wait(lambda: False)
    assert outcome.given_back == {("a", None), ("g", None)} and outcome.failed and not outcome.too_small
    assert dispatcher.client.set == {
        UUID(int=1): "given back: pi did not take it within 90 s",
        UUID(int=7): "given back: a worker took it and did not begin it within 10 min",
    }
    assert dispatcher.under_way() == {("b", None), ("c", None), ("d", None), ("e", "pi"), ("f", None)}
    unit, counted = Unit("a", "p2", 1, {}, {}, {}), Attempts(RUN, "p2")
    for _ in range(MAX_ATTEMPTS):
        counted.begin([unit])
        counted.record(outcome)
    assert counted.exhausted([unit])[0] == []


def ended(said: str, name: str = "Failed", host: str | None = None) -> tuple[Shard, Outcome]:
    """What `take_ended` makes of one shard that ended in a state with this message."""
    shard, outcome = Shard(uuid4(), "strong", ("a", "b"), host), Outcome()
    state = SimpleNamespace(is_final=lambda: True, is_completed=lambda: name == "Completed", name=name, message=said)
    open_shards = {shard.flow_run_id: shard}
    dispatch.take_ended(open_shards, {shard.flow_run_id: SimpleNamespace(name="p2 - shard", state=state)}, outcome)
    assert not open_shards
    return shard, outcome


def test_what_a_shards_end_means() -> None:
    """Given back is no failure, out of memory asks for a bigger machine, whatever else is told and attempted again."""
    assert ended("", "Completed")[1] == Outcome()
    _, back = ended("Flow run encountered an exception: LabError: given back by pi: 2.0 GB RAM available, 5 needed.")
    assert (
        back.given_back == {("a", None), ("b", None)}
        and not back.too_small
        and len(back.errors) == 1
        and not back.failed
    )
    for said in (
        "Process for flow run 'x' exited with status code: -9; This indicates that the process exited due to a SIGKILL",
        "MemoryError: out of memory on pi: ",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory",
    ):
        assert ended(said)[1].too_small == {"a": "strong", "b": "strong"}
    other = ended("ConnectError: no route to host")[1]
    assert (other.given_back, other.too_small, other.failed) == (set(), {}, True) and "no route" in other.errors[0]


def test_a_unit_is_tried_three_times_and_a_return_is_no_try() -> None:
    """A unit that kills every machine must end; a machine that is only busy must not use up its attempts."""
    work = units(1.0)
    counted = Attempts(RUN, "p2")
    for _ in range(5):
        counted.begin(work)
        counted.record(Outcome(["given back by pi"], given_back={UnitOnHost(work[0].unit_id)}))
    for i in range(MAX_ATTEMPTS):
        assert counted.begin(work) == 6 + i  # the numbers of submissions never repeat
        counted.record(Outcome([f"shard crashed {i}"]))
    assert counted.exhausted(units(1.0, 1.0)) == (work, "no result after 3 attempts: shard crashed 2")
    patient = Attempts(RUN, "p2")
    for _ in range(MAX_RETURNS + 1):
        patient.begin(work)
        patient.record(Outcome(["given back by pi"], given_back={UnitOnHost(work[0].unit_id)}))
    assert patient.exhausted(work)[0] == []
    with pytest.raises(LabError, match=f"given back {MAX_RETURNS} times; given back by pi") as caught:
        patient.begin(work)
    assert "lab pipeline --scale smoke" in caught.value.mend


OTHER_CODE = "given back by pi, which is left out of this run: code differ. on pi: lab join --upgrade"


def test_a_machine_that_is_to_blame_gets_nothing_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It gave all back within seconds and was the first to be free again. No attempt of the units counts; it is named once,
    with the command that mends it; and a machine can blame itself, not another."""
    for name in ("POLL_S", "STATES_S", "WORKER_WAIT_S"):
        monkeypatch.setattr(dispatch, name, 0.0)
    monkeypatch.setattr(dispatch, "_reports", lambda store: [])
    monkeypatch.setattr(dispatch, "drained", lambda client: frozenset())
    online = {"weak": ["pi", "desk", "Living Room", f"{dispatch.UNNAMED}1"]}
    monkeypatch.setattr(dispatch, "online_workers", lambda client: online)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher.store, dispatcher.run, dispatcher.client = (
        Any,
        replace(RUN, configs={"p1": configure("p1", "smoke")}),
        Any,
    )
    dispatcher.faults, dispatcher._named, dispatcher.pins = {}, set(), {}
    assert set(dispatcher.hosts("p1")) == {"pi", "desk"}
    shard, outcome = ended(OTHER_CODE)
    assert outcome.given_back == shard.attempted and outcome.failed
    for _ in range(2):
        dispatcher._leave_out(outcome.faults)
    assert dispatcher.left_out("pi", "p1") and set(dispatcher.hosts("p1")) == {"desk"}
    lines = [r.getMessage() for r in caplog.records]
    assert [x for x in lines if x.startswith("pi is left out")] == [
        OTHER_CODE.replace("given back by ", "").replace(", which", "")
    ]
    assert len([x for x in lines if "no name of a host" in x]) == 2 and "'Living Room' gets no work" in " ".join(lines)
    online["weak"] = ["pi"]
    with pytest.raises(LabError, match="pi is left out of this run: code differ"):
        dispatcher.hosts("p1")
    assert ended(OTHER_CODE, host="desk")[1].faults == []


def test_a_worker_that_is_named_after_another_machine_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine gives back all that is meant for the name, thirty times, and then the whole comparison ended. Where workers
    poll all queues, it may have been one of those."""
    back = "given back by desk: meant for pi, taken by desk, whose worker polls all queues"
    (stray,) = ended(back, host="pi")[1].strays
    assert stray == ("pi", "desk")
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher.client = None
    for names, blamed in ((["pi"], ["pi"]), (["pi", "desk"], []), (["pi", f"{dispatch.UNNAMED}1"], [])):
        monkeypatch.setattr(dispatch, "online_workers", lambda client, names=names: {"weak": names})
        assert [f.host for f in dispatcher._misnamed([stray])] == blamed
    assert ended(back)[1].strays == []


def test_a_host_that_cannot_is_left_out_of_a_comparison() -> None:
    """Replicating goes on with the others, and each host has attempts of its own."""
    work = units(1.0, 1.0)
    counted = Attempts(RUN, "p2")
    for _ in range(MAX_ATTEMPTS):
        counted.begin(counted.left(work[:1], "pi"), "pi")
        counted.record(Outcome(["crashed"]))
    assert counted.left(work, "pi") == work[1:]
    assert counted.left(work, "desk") == work
    assert counted.left(work, "pi", {(work[0].unit_id, "pi")}) == work  # its last try is under way


def test_a_bigger_machine_is_asked_for_once_and_only_for_what_needs_it() -> None:
    """One unit that fills the memory must not move a whole phase to the few big machines, nor climb without end."""
    work = units(1.0, 1.0)
    counted = Attempts(RUN, "p2")
    for pool in ("weak", "medium"):
        counted.record(Outcome([], too_small={work[1].unit_id: pool}))
    assert counted.by_too_small_pool(work) == {None: work[:1], "weak": work[1:]}


@pytest.mark.parametrize(
    ("tags", "workers", "meant_for", "expected"),
    [
        ([], [], None, True),
        ([], ["pi"], None, False),
        (["host:pi"], ["pi"], None, False),
        (["host:pi"], ["desk"], None, True),
        (["host:pi"], ["ProcessWorker 1234"], None, False),
        ([], ["desk"], "pi", True),
        ([], ["desk", "pi"], "pi", False),
        (["host:desk"], ["desk"], "pi", False),
    ],
)
def test_silence(tags: list[str], workers: list[str], meant_for: str | None, expected: bool) -> None:
    """A shard meant for a machine that is gone would be waited for without end; one that runs must not be given up."""
    assert without_worker(tags, workers, meant_for) is expected


def test_a_dead_machine_is_noticed_and_replaced_within_90_s() -> None:
    """Longest waits added up: three heartbeats missed, the server's look, the pipeline's, a worker's next question."""
    from prefect.settings import get_current_settings

    foreman = get_current_settings().server.services.foreman
    missed_s = environments.HEARTBEAT_S * foreman.inactivity_heartbeat_multiple
    assert missed_s + foreman.loop_seconds + dispatch.WORKERS_S + dispatch.STATES_S + environments.POLL_S <= 90
