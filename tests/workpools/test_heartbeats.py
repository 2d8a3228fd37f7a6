"""Who is watched for silence: every run that would be waited for, and none that was not told to give signs of life."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from prefect.exceptions import PrefectHTTPStatusError

from workpools import heartbeats
from workpools.heartbeats import ALIVE, HEARTBEAT_WITHIN, create_watches, name_of

DEPLOYMENTS = yaml.safe_load((Path(__file__).resolve().parents[2] / "prefect.yaml").read_text())["deployments"]


class FakeAutomations:
    """The server's automations in a list; `other` is what another machine makes at the same moment."""

    def __init__(self, other: bool = False, answer: int | None = None) -> None:
        self.kept: list[Any] = []
        self.other = other
        self.answer = answer  # to a deletion

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [a for a in self.kept if a.name == name]

    def create_automation(self, automation: Any) -> None:
        for _ in range(2 if self.other else 1):
            self.kept.append(SimpleNamespace(id=f"{len(self.kept)}", name=automation.name, core=automation))

    def delete_automation(self, automation_id: str) -> None:
        self.kept = [a for a in self.kept if a.id != automation_id]
        if self.other and self.answer is not None:
            request = httpx.Request("DELETE", f"http://127.0.0.1/api/automations/{automation_id}")
            response = httpx.Response(self.answer, request=request, json={})
            raise PrefectHTTPStatusError("refused", request=request, response=response)


@pytest.mark.parametrize("tag", HEARTBEAT_WITHIN)
def test_each_deployment_that_is_watched_gives_signs_of_life(tag: str) -> None:
    """A worker started by hand has Prefect's 180 s between heartbeats: each of its shards would be called crashed."""
    watched = [d for d in DEPLOYMENTS if tag in d["tags"]]
    assert len(watched) == {"shard": 3, "pipeline": 3, "sync": 4}[tag]
    for one in watched:
        beat = timedelta(seconds=int(one["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]))
        assert 3 * beat <= HEARTBEAT_WITHIN[tag]


@pytest.mark.parametrize("other", [False, True])
def test_a_watch_is_made_once_whoever_comes_first(other: bool) -> None:
    """lab up and each lab join make them; a hundred copies would each act."""
    server = FakeAutomations(other)
    assert create_watches(server) == [name_of(tag) for tag in HEARTBEAT_WITHIN]
    assert create_watches(server) == []
    assert [a.name for a in server.kept] == [name_of(tag) for tag in HEARTBEAT_WITHIN]


def test_a_copy_that_the_other_machine_took_away_first_is_gone() -> None:
    """Two machines that join at once both tidy up; the slower must not fail to join for it, nor overlook a real refusal."""
    assert create_watches(FakeAutomations(other=True, answer=404)) == [name_of(tag) for tag in HEARTBEAT_WITHIN]
    with pytest.raises(PrefectHTTPStatusError):
        create_watches(FakeAutomations(other=True, answer=403))


def test_what_a_watch_does() -> None:
    """It acts for each run alone, on runs with the tag alone, and never on one that has ended or waits on purpose."""
    from prefect.client.schemas.objects import TERMINAL_STATES

    for tag, within in HEARTBEAT_WITHIN.items():
        watch = heartbeats._watch(tag)
        trigger, (action,) = watch.trigger, watch.actions
        assert action.state.value == "CRASHED" and f"{within.seconds} s" in action.message
        assert trigger.posture.value == "Proactive" and trigger.within == within and trigger.threshold == 1
        assert trigger.for_each == {"prefect.resource.id"} and trigger.after == set(heartbeats.BEGUN)
        assert heartbeats.HEARTBEAT in trigger.after & trigger.expect
        assert {f"prefect.flow-run.{s.value.capitalize()}" for s in TERMINAL_STATES} < set(ALIVE) == trigger.expect
        assert trigger.match_related.root["prefect.resource.id"] == f"prefect.tag.{tag}"
