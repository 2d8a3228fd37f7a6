"""Pipelines that are started without being followed, and stopped."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from server_double import reply, run_row

from common.errors import LabError
from flows.plan import plan
from lab import submitting
from lab.submitting import How, start, stop
from workpools.pipelines import run_of


class Server:
    """What the two ask of Prefect's client; a run that is cancelled ends at once, unless its machine is gone."""

    def __init__(self, rows: list[Mapping[str, Any]], gone: str = "", workers: tuple[str, ...] = ("desktop",)) -> None:
        self.rows, self.gone, self.workers = {r["id"]: dict(r) for r in rows}, gone, workers
        self.asked: list[str] = []
        self.created: dict[str, Any] = {}

    def request(self, method: str, path: str, json: Any = None) -> Any:
        if method == "GET":
            return reply(self.rows[path.rpartition("/")[2]])
        if "workers" in path:
            return reply([{"name": name, "status": "ONLINE"} for name in self.workers])
        wanted = json["flow_runs"]
        tags, kinds = set(wanted.get("tags", {}).get("all_", ())), wanted["state"]["type"]["any_"]
        return reply([r for r in self.rows.values() if tags <= set(r["tags"]) and r["state"]["type"] in kinds])

    def set_flow_run_state(self, run_id: UUID, state: Any, force: bool = False) -> None:
        row = self.rows[str(run_id)]
        self.asked.append(f"{row['name']} {state.type.value}{' by force' if force else ''}")
        kind = state.type.value if row["name"] == self.gone else "CANCELLED"
        row["state"] = {"type": kind, "name": kind.capitalize(), "message": None}

    def read_work_pools(self) -> list[Any]:
        return [SimpleNamespace(name="coordinator")]

    def read_deployment_by_name(self, name: str) -> Any:
        return SimpleNamespace(id=name)

    def create_flow_run_from_deployment(self, deployment: str, **given: Any) -> Any:
        self.created = {"deployment": deployment, **given}
        return SimpleNamespace(id=UUID(int=1), name="new")


def pipeline(run_id: str) -> dict[str, Any]:
    return run_row(f"pipeline of {run_id}", tags=["pipeline", run_id.partition("-")[0], run_id])


def shard(run_id: str, name: str, kind: str = "RUNNING") -> dict[str, Any]:
    return run_row(name, kind, tags=["shard", "weak", run_id, "p1", "host:pi-4"])


def test_stopping_a_run_ends_its_pipeline_before_its_shards_and_no_other() -> None:
    """A pipeline that outlives its shards submits them again, and another run's work is not this user's to end."""
    mine, other = "demo-1a2b3c4d", "demo-00000000"
    server = Server([pipeline(mine), shard(mine, "a"), shard(mine, "b", "SCHEDULED"), shard(mine, "done", "COMPLETED")])
    server.rows |= {r["id"]: r for r in (pipeline(other), shard(other, "c"))}
    with pytest.raises(LabError, match="2 pipelines are under way: demo-1a2b3c4d, demo-00000000"):
        stop(server)
    with pytest.raises(LabError, match="'demo-99999999' is not under way"):
        stop(server, "demo-99999999")
    assert stop(server, mine) == ((mine,), 2)
    assert server.asked == [f"pipeline of {mine} CANCELLING", "a CANCELLING", "b CANCELLING"]
    assert stop(server) == ((other,), 1)
    with pytest.raises(LabError, match="no pipeline is under way"):
        stop(server)


def test_what_no_worker_ends_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut nobody would end it, and the same pipeline could only be joined, never started again."""
    monkeypatch.setattr(submitting, "STOP_S", 0.0)
    server = Server([pipeline("demo-1a2b3c4d")], gone="pipeline of demo-1a2b3c4d")
    stop(server)
    assert server.asked[1:] == ["pipeline of demo-1a2b3c4d CANCELLED by force"]


def test_a_detached_start_says_which_run_and_refuses_where_nobody_would_begin_it() -> None:
    """Nobody watches it, so a run that waits forever would be noticed by nobody."""
    run = plan("smoke").run
    with pytest.raises(LabError, match="no worker took the pipeline"):
        start(Server([], workers=()), run, How())
    server = Server([])
    assert not start(server, run, How("why", until="p2")).joined
    assert (server.created["deployment"], run_of(server.created["tags"])) == ("pipeline/smoke", run.run_id)
    expected = {"scale": "smoke", "override": "why", "config": None, "mode": "split", "until": "p2"}
    assert server.created["parameters"] == expected
    same = pipeline(run.run_id) | {"parameters": expected}
    assert start(Server([same]), run, How("why", until="p2")).joined
