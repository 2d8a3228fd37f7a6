"""What Monitor asks Prefect's server, and what it shows when there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fake_prefect import ANSWERS, FakePrefect, run, serving

from app import format as words
from app import prefect_api
from workpools.server_rows import WorkerRow


@pytest.fixture
def server() -> Iterator[str]:
    """The API's address of a FakePrefect."""
    with serving() as url:
        yield url


def test_one_look_brings_machines_work_queue_and_errors(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there, what runs where, what waits and what went wrong is one picture of one moment; no proxy sees it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    now = prefect_api.look(server)
    assert [(m.name, m.status, m.pools, m.running) for m in now.machines] == [
        ("desktop", "drained", (), ()),
        ("laptop", "drained", (), ()),
        ("pi-4", "online", ("weak",), ("e1 · shard 1 of 2 · pi-4",)),
    ]
    assert now.machines[2].heartbeat_at == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert [(r.name, r.host) for r in now.under_way] == [("e1 · shard 1 of 2 · pi-4", "pi-4"), ("pipeline", "pi-4")]
    assert [r.name for r in now.waiting] == ["e1 · shard 2 of 2"]  # a schedule's next run waits for its time only
    assert [(r.name, r.message) for r in now.errors] == [("p1", "<b>disk full</b>")]
    assert prefect_api.in_words(now) == "1 machine online, 2 runs under way, 1 waiting"


def test_a_run_that_cannot_be_read_hides_no_other(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A joined machine may store a state that no client reads; the page said that this is no Prefect server."""
    odd = [run("odd", "RUNNING", tags=None), {"name": 5}, None]
    monkeypatch.setitem(ANSWERS, "RUNNING", [*odd, *ANSWERS["RUNNING"]])
    assert [r.name for r in prefect_api.look(server).under_way] == ["e1 · shard 1 of 2 · pi-4", "pipeline"]


@pytest.mark.parametrize(
    ("status", "said", "command"),
    [
        (401, "refuses this page", "export PREFECT_API_AUTH_STRING=user:password"),
        (500, "answers with error 500", "lab status"),
    ],
)
def test_a_server_that_refuses_or_fails_is_named(
    server: str, monkeypatch: pytest.MonkeyPatch, status: int, said: str, command: str
) -> None:
    """A page that showed an empty list instead would say that no machine is there."""
    monkeypatch.setattr(FakePrefect, "status", status)
    with pytest.raises(prefect_api.AwayError) as away:
        prefect_api.look(server)
    assert (said in away.value.what, away.value.mend) == (True, command)


def test_a_server_that_is_closed_to_web_pages_is_asked_with_its_token(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's protection refuses each POST without a token; one that is no longer valid is replaced."""
    for token in ("first", "second", "second"):
        monkeypatch.setattr(FakePrefect, "token", token)
        assert len(prefect_api.look(server).machines) == 3
    assert prefect_api.CSRF_TOKENS[server] == f"second of {prefect_api.CSRF_CLIENT}"


def test_no_server_a_silent_one_and_another_program_are_distinguished(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has another remedy, and none of them may hold the page: the waits are bounded."""
    monkeypatch.setattr(prefect_api, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(prefect_api.AwayError, match="does not answer in time"):
            prefect_api.look(f"http://127.0.0.1:{port}/api")
    with pytest.raises(prefect_api.AwayError, match="No Prefect server answers"):
        prefect_api.look(f"http://127.0.0.1:{port}/api")
    monkeypatch.setitem(ANSWERS, "/api/work_pools/filter", "hello")
    with pytest.raises(prefect_api.AwayError, match="is no Prefect server"):
        prefect_api.look(server)
    with pytest.raises(prefect_api.AwayError):
        prefect_api.look("not an address")


def test_a_time_is_shown_as_how_long_ago() -> None:
    """A heartbeat from a clock that is ahead is not in the future, and none is not now."""
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert words.ago(now - timedelta(seconds=75), now) == "1 min 15 s ago"
    assert words.ago(now + timedelta(seconds=5), now) == "0 s ago"
    assert words.ago(None, now) == ""


def test_a_run_is_placed_only_where_it_alone_can_be() -> None:
    """A pipeline names no host; with two machines in its pool a guess would be wrong half the time."""
    desk, pi = (("coordinator", WorkerRow(name=name, status="ONLINE")) for name in ("desk", "pi"))
    gone = ("coordinator", WorkerRow(name="old", status="OFFLINE"))
    assert prefect_api.only_hosts([desk, gone]) == {"coordinator": "desk"}
    assert prefect_api.only_hosts([desk, pi]) == {}
