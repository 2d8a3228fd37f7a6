"""Rows of Prefect's server: one that cannot be read costs a line, and hides no other."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from server_double import reply, run_row

from common.errors import LabError
from workpools import server_rows
from workpools.server_rows import ArtifactRow, RunRow, WorkerRow, flow_run, readable

ODD = {
    "no row": 5,
    "no name": run_row("odd") | {"name": None},
    "tags that are none": run_row("odd", tags="host:pi"),
    "a state of no kind": run_row("odd", "SLEEPING"),
    "a time that is none": run_row("odd", start_time="yesterday"),
    "an id that is none": run_row("odd", id="\x1b[2J"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_run_costs_one_line_and_hides_no_other(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Prefect's client fails for the whole list, and with it every command that lists runs."""
    server_rows._log_once.cache_clear()
    rows = [run_row("first"), ODD[name], run_row("last")]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert [r.name for r in readable(RunRow, rows)] == ["first", "last"]
    (line,) = caplog.messages
    assert "is left out, since it cannot be read" in line and "\n" not in line and "\x1b" not in line
    assert len(line) < 400


def test_results_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state's data may name a pickle, or be what no client can read; no command here wants it."""
    for data in ({"storage_key": {"a": 1}}, {"storage_key": "x", "serializer": {"type": "pickle"}}, 5, "gASVAAAA"):
        (row,) = readable(
            RunRow, json.loads(json.dumps([run_row("a", state={"type": "RUNNING", "name": "a", "data": data})]))
        )
        assert row.state is not None and not hasattr(row.state, "data") and not row.state.is_final()


def test_long_messages_are_cut() -> None:
    """A machine may store eight megabytes as the message of a state, and each list of runs would print them."""
    state = {"type": "FAILED", "name": "a" * 10**6, "message": "b" * 10**6}
    (row,) = readable(RunRow, [run_row("a", state=state)])
    assert row.state and (len(row.state.name), len(row.state.message or "")) == (2000, 2000)


def test_one_run_that_cannot_be_read_has_no_state() -> None:
    """The pipeline goes on to wait for the other shards."""

    class Server:
        def request(self, method: str, path: str) -> Any:
            return reply(run_row("odd", "SLEEPING"))

    run_id = RunRow.model_validate(run_row("odd")).id
    assert flow_run(Server(), run_id) == RunRow(id=run_id, name=str(run_id))


def test_workers_and_artifacts_are_read_the_same_way() -> None:
    """Any list that a machine can write into."""
    assert [
        w.name for w in readable(WorkerRow, [{"name": "a", "status": "ONLINE"}, {"name": 5, "status": "ONLINE"}])
    ] == ["a"]
    assert readable(ArtifactRow, [{"id": run_row("a")["id"], "data": {"a": 1}}, None]) == []
    with pytest.raises(LabError, match="is not a list"):
        readable(WorkerRow, {"detail": "no"})
