"""Workers whose server is away."""

from __future__ import annotations

import asyncio
import tomllib
from importlib.metadata import EntryPoint

import httpx
import pytest
from checkout import ROOT
from prefect._internal import observers
from prefect.workers import base

from workpools import patient_workers

ASKED = 200  # times without an answer, of which Prefect allows a worker twelve


def test_a_worker_outlives_its_server_being_away_for_a_night(capsys: pytest.CaptureFixture[str]) -> None:
    """It ended after 20 minutes, so that in the morning nobody worked. What the server refuses still ends it."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        if asked <= ASKED:
            raise httpx.ConnectError("refused")
        if asked > ASKED + 1:
            request = httpx.Request("GET", "http://pi")
            raise httpx.HTTPStatusError("403", request=request, response=httpx.Response(403, request=request))

    patient_workers.install()  # other tests may have imported the module anew
    loops = [base.critical_service_loop, observers.critical_service_loop]
    assert loops == [patient_workers.patient_loop] * 2
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        asyncio.run(base.critical_service_loop(ask, interval=0, backoff=4))
    assert capsys.readouterr().out.splitlines() == [
        "the Prefect server does not answer (ConnectError); asking again until it does",
        "the Prefect server answers again",
    ]


def test_prefects_own_command_gets_it_too() -> None:
    """`prefect worker start` runs no code of this project but what Prefect imports by this name."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["project"]["entry-points"]["prefect.collections"]["llm_memory_experiments"]
    assert EntryPoint("llm_memory_experiments", named, "prefect.collections").load() is patient_workers
