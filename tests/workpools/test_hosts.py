"""Hosts: one row from four sources, and the drained ones in a variable that two commands may change at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_reports import GOOD
from pydantic_core import to_json
from server_double import reply, run_row

from common.errors import LabError
from workpools import hosts
from workpools.assess import parse_report
from workpools.hosts import ATTEMPTS, MAX_VARIABLE, UNKNOWN, UNNAMED, VARIABLE, WorkerState, combined
from workpools.report import CapabilityReport
from workpools.server_rows import PAGE
from workpools.tiers import POOLS

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def reported(host: str, **changed: Any) -> CapabilityReport:
    return parse_report(to_json(GOOD | {"host": host} | changed))


def nothing(_: FakeVariables) -> None:
    """What others do, unless a test says so."""


@dataclass
class FakeVariables:
    """Prefect's variables in a dictionary, and what another command does just before or after a writing."""

    kept: dict[str, Any] = field(default_factory=dict)
    before_write: Callable[[FakeVariables], None] = nothing
    after_write: Callable[[FakeVariables], None] = nothing

    def read_variable_by_name(self, name: str) -> Any:
        return SimpleNamespace(value=self.kept[name]) if name in self.kept else None

    def create_variable(self, variable: Any) -> None:
        from prefect.exceptions import ObjectAlreadyExists

        self.before_write(self)
        if variable.name in self.kept:
            raise ObjectAlreadyExists(http_exc=Exception())
        self.kept[variable.name] = variable.value
        self.after_write(self)

    def update_variable(self, variable: Any) -> None:
        self.before_write(self)
        assert variable.name in self.kept
        self.kept[variable.name] = variable.value
        self.after_write(self)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "RACE_S", 0)


def test_a_row_says_what_each_source_knows() -> None:
    """Whoever looks at the network acts on this row: wrong status or heartbeat and the wrong machine is restarted."""
    at_two = NOON.astimezone(timezone(timedelta(hours=2)))
    workers = [
        WorkerState("strong", "desk", True, NOON - timedelta(seconds=20)),
        WorkerState("weak", "desk", True, at_two),
        WorkerState("coordinator", "desk", False, NOON + timedelta(hours=1)),
        WorkerState("medium", "pi-4", False, NOON - timedelta(days=1)),
        WorkerState("weak", "guest", True, None),
    ]
    report = reported("pi-4", versions={"torch": "2.13.0", "prefect": "3.8.8", "numpy": "2"}, embedding_texts_per_s=9)
    runs = {"pi-4": ["e1 · shard 1 of 2 · pi-4"]}
    desk, guest, pi = combined([report], workers, runs, frozenset({"pi-4"}))
    assert (desk.host, desk.tier, desk.status) == ("desk", UNKNOWN, "online")
    assert desk.pools == ("weak", "strong")
    assert desk.last_heartbeat == NOON + timedelta(hours=1)
    assert desk.last_heartbeat.tzinfo is UTC
    assert (desk.running, desk.versions, desk.matrix_gflops) == ((), {}, None)
    assert (guest.status, guest.pools, guest.last_heartbeat) == ("online", ("weak",), None)
    assert (pi.tier, pi.status, pi.pools) == (report.tier, "draining", ())
    assert pi.running == ("e1 · shard 1 of 2 · pi-4",)
    assert (pi.matrix_gflops, pi.embedding_texts_per_s, pi.prefill_tokens_per_s) == (12.5, 9, 60.5)
    assert pi.versions == {"python": "3.11.2", "torch": "2.13.0", "prefect": "3.8.8"}
    (row,) = combined([report], [], {}, frozenset())
    assert (row.status, row.last_heartbeat) == ("offline", None)
    (row,) = combined([report], workers[3:4], {}, frozenset({"pi-4"}))
    assert (row.status, row.last_heartbeat) == ("drained", NOON - timedelta(days=1))


NAMES = st.sampled_from(["a", "b-1", "c", "d", f"{UNNAMED}1", f"{UNNAMED}2"])
HOSTS = st.sampled_from(["a", "b-1", "c", "d"])
WORKERS = st.builds(WorkerState, st.sampled_from(POOLS), NAMES, st.booleans(), st.none() | st.just(NOON))


@settings(deadline=None)
@given(
    st.sets(HOSTS),
    st.lists(WORKERS, max_size=8),
    st.dictionaries(HOSTS, st.lists(st.just("p1 · shard 1 of 1"), min_size=1, max_size=2)),
    st.frozensets(HOSTS),
)
def test_every_host_has_one_row(
    known: set[str], workers: list[WorkerState], runs: dict[str, list[str]], out: frozenset[str]
) -> None:
    """A machine that some source knows and the list leaves out can be neither found nor drained; dead names are left out."""
    rows = combined([reported(h) for h in known], workers, runs, out)
    live = {w.name for w in workers if w.online or not w.name.startswith(UNNAMED)}
    assert [r.host for r in rows] == sorted(known | live | set(runs) | out)
    for row in rows:
        online = any(w.online for w in workers if w.name == row.host)
        assert bool(row.pools) == online
        assert (row.status in ("draining", "drained")) == (row.host in out)
        assert (row.status == "draining") == (row.host in out and row.host in runs)
        assert (row.status == "online") == (online and row.host not in out)
        assert (row.tier == UNKNOWN) == (row.host not in known)


@settings(deadline=None)  # the first example waits for Prefect to be imported
@given(st.lists(st.tuples(st.booleans(), HOSTS), max_size=12))
def test_drain_and_undrain_keep_a_set(steps: list[tuple[bool, str]]) -> None:
    """The dispatcher gives work by this set: a lost name works on, a name too many stands idle."""
    client, expected = FakeVariables(), set[str]()
    for out, host in steps:
        changes = (host in expected) is not out
        assert (hosts.drain if out else hosts.undrain)(client, host) is changes
        (expected.add if out else expected.discard)(host)
        assert hosts.drained(client) == expected
    assert client.kept.get(VARIABLE, []) == sorted(expected)


def test_a_variable_that_another_command_makes_meanwhile_is_added_to() -> None:
    """The first two hosts that are ever drained, in the same moment: both must be in."""
    client = FakeVariables(before_write=lambda fake: fake.kept.setdefault(VARIABLE, ["b-1"]))
    assert hosts.drain(client, "a")
    assert client.kept == {VARIABLE: ["a", "b-1"]}


def test_what_another_command_overwrote_is_written_again() -> None:
    """Two people drain two machines in the same second; one that is to be switched off must not get work after all."""
    client = FakeVariables({VARIABLE: ["c"]})
    writes: list[list[str]] = []

    def once(fake: FakeVariables) -> None:
        """The other had read ["c"] before ours was there."""
        writes.append(fake.kept[VARIABLE])
        if len(writes) == 1:
            fake.kept[VARIABLE] = ["b-1", "c"]

    client.after_write = once
    assert hosts.drain(client, "a")
    assert writes == [["a", "c"], ["a", "b-1", "c"]]
    assert hosts.drained(client) == {"a", "b-1", "c"}


def test_a_write_that_does_not_stay_is_told() -> None:
    """If others keep undoing it the user must not believe that the machine is out of use."""
    writes: list[list[str]] = []

    def undo(fake: FakeVariables) -> None:
        writes.append(fake.kept[VARIABLE])
        fake.kept[VARIABLE] = []

    with pytest.raises(LabError, match="keep changing") as refused:
        hosts.drain(FakeVariables({VARIABLE: []}, after_write=undo), "a")
    assert refused.value.mend == "try again"
    assert writes == [["a"]] * ATTEMPTS


@pytest.mark.parametrize("value", ["pi-4", {"pi-4": True}, ["pi-4", 4], ["pi-4", "../x"], ["Pi 4"], 7, None])
def test_a_variable_that_holds_something_else_is_not_taken_for_empty(value: Any) -> None:
    """Anybody may edit it in Prefect's page; taken for empty, machines that are out of use would get work."""
    client = FakeVariables({VARIABLE: value})
    for ask in (hosts.drained, lambda c: hosts.drain(c, "a"), lambda c: hosts.undrain(c, "a")):
        with pytest.raises(LabError, match="not a list of host names") as refused:
            ask(client)
        assert refused.value.mend.startswith(f"prefect variable unset {VARIABLE}")
    assert client.kept == {VARIABLE: value}


def test_a_full_variable_is_told_and_left() -> None:
    """Prefect refuses over 5,000 characters with a page of text; the names that were there stay."""
    client, last = FakeVariables(), "z" * 63
    full = [f"{i:063}" for i in range((MAX_VARIABLE - 1) // 66)]
    assert len(to_json(full)) <= MAX_VARIABLE < len(to_json([*full, last]))
    for host in full:
        hosts.drain(client, host)
    with pytest.raises(LabError, match=f"{len(full) + 1} drained hosts do not fit .* of {MAX_VARIABLE} characters"):
        hosts.drain(client, last)
    assert client.kept == {VARIABLE: full}
    assert hosts.undrain(client, full[0]) and hosts.drain(client, last)


@pytest.mark.parametrize("name", ["", "Pi", "a b", "-a", "a.b", "../a", "a" * 64, "ProcessWorker 1", "é"])
def test_what_is_no_host_name_is_refused_before_the_server_is_asked(name: str) -> None:
    """A misspelt name in the variable would drain nobody and stay there for ever."""
    for change in (hosts.drain, hosts.undrain):
        with pytest.raises(LabError, match="invalid host name"):
            change(None, name)


@pytest.mark.parametrize("n", [0, 1, PAGE - 1, PAGE, 2 * PAGE + 3])
def test_runs_past_the_first_page_are_seen(n: int) -> None:
    """The server gives 200 runs at a time; a machine whose runs come later would pass for one that has finished."""
    runs = [run_row(f"run {i}", tags=["shard", f"host:h{i % 3}", "hostile"]) for i in range(n)]

    class FakeRuns:
        def request(self, method: str, path: str, json: Any) -> Any:
            assert json["flow_runs"]["state"]["type"]["any_"] == ["RUNNING"]
            return reply(runs[json["offset"] : json["offset"] + json["limit"]])

    found = hosts.running(FakeRuns())
    assert found == {f"h{k}": [r["name"] for r in runs[k::3]] for k in range(min(3, n))}
