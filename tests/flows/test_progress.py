"""The progress table on the server: written seldom, read on any machine, never a reason for a pipeline to fail."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from server_double import reply

from flows import progress
from flows.progress import PhaseProgress, ProgressTable, read_progress

ROW = {"phase": "p2", "done": 3, "total": 8}


class FakeServer:
    """Holds one artifact; while `gone` it does not answer."""

    def __init__(self) -> None:
        self.gone = False
        self.written: list[Any] = []
        self.artifact: Any = None

    def create_artifact(self, artifact: Any) -> Any:
        assert (artifact.key, artifact.type, artifact.flow_run_id) == ("progress-demo-1", "table", UUID(int=7))
        return self._write(artifact.data)

    def update_artifact(self, artifact_id: UUID, artifact: Any) -> Any:
        assert artifact_id == UUID(int=1)
        return self._write(artifact.data)

    def _write(self, data: str) -> Any:
        if self.gone:
            raise httpx.ConnectError("gone")
        self.written.append([(row["phase"], row["done"]) for row in json.loads(data)])
        self.artifact = {"id": str(UUID(int=1)), "data": data}
        return SimpleNamespace(id=UUID(int=1))

    def request(self, method: str, path: str, json: Any) -> Any:
        assert (method, path, json["limit"]) == ("POST", "/artifacts/filter", 1)
        return reply([self.artifact] if self.artifact else [])


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the table sees."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_counts_are_written_once_a_second_and_phases_at_once(server: FakeServer, now: list[float]) -> None:
    """Hundreds of small units must not load the server with an update each, and none of them may be lost for good."""
    table = ProgressTable(server, "demo-1", UUID(int=7))
    for done in range(5):
        table.report("p1", done, 9)
    assert server.written == [[("p1", 0)]]
    now[0] += 1.0
    table.flush()
    table.flush()
    assert server.written[1:] == [[("p1", 4)]]
    table.report("p2", 0, 4, ["p2  0 of 4 units reused"])
    table.report("p2", 0, 4, ["p2  4 not reused: no result yet"])
    table.decide("p2", "FAIL", "It is so.")
    assert len(server.written) == 5
    found = read_progress(server, "demo-1")
    assert found is not None and found.lines == ["p2  0 of 4 units reused", "p2  4 not reused: no result yet"]
    assert (found.phases[1].verdict, found.phases[1].reason, found.phases[0].done) == ("FAIL", "It is so.", 4)


def test_a_server_that_is_gone_costs_nothing_but_the_table(server: FakeServer, now: list[float]) -> None:
    """The table is only for people: the pipeline goes on, and writes it whole once the server is back."""
    server.gone = True
    table = ProgressTable(server, "demo-1", UUID(int=7))
    table.report("p1", 1, 9, ["p1  1 of 9 units reused"])
    server.gone = False
    table.flush()
    assert server.written == []
    now[0] += 1.0
    table.flush()
    assert server.written == [[("p1", 1)]]
    ProgressTable(server, "demo-1", None).report("p1", 2, 9)
    assert server.written == [[("p1", 1)]]


def test_a_damaged_table_is_no_progress(server: FakeServer) -> None:
    """The table only feeds the screen: torn or made up by somebody else, it never ends the command that reads it."""
    assert read_progress(server, "demo-1") is None
    whole = json.dumps([ROW])
    server.artifact = {"id": str(UUID(int=1)), "data": whole}
    found = read_progress(server, "demo-1")
    assert found is not None and list(found.phases) == [PhaseProgress(phase="p2", done=3, total=8)]
    changes: list[dict[str, Any]] = [
        {"phase": None},
        {"done": None},
        {"done": -1},
        {"done": 9},
        {"total": "x"},
        {"reuse": 7},
    ]
    others = [json.dumps([ROW | change]) for change in changes]
    for data in (*(whole[:n] for n in range(len(whole))), *others, "7", "null", "[" * 100_000, None, {"a": 1}):
        server.artifact = {"id": str(UUID(int=1)), "data": data}
        assert read_progress(server, "demo-1") is None
