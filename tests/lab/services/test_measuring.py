"""Speeds are measured in the background by the worker of a machine, once it is quiet."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.files import locked_file
from lab.services import measuring, processes, up
from warehouse.paths import Paths


def test_it_measures_once_the_machine_is_quiet_and_no_shard_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a server that started, speeds came out several times too low; beside a shard both would be slow."""
    monkeypatch.setenv("LAB_HOST", "pi")
    paths, seen = Paths(tmp_path), list[Any]()
    quiet, shard = iter([False, True, True]), locked_file(paths.shard_lock("pi"))
    shard.__enter__()

    def sleep(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) == 2:
            shard.__exit__(None, None, None)

    def run(command: list[str], **_: Any) -> Any:
        with pytest.raises(TimeoutError), locked_file(paths.shard_lock("pi"), 0):
            pass
        seen.append(command[-2:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(measuring.time, "sleep", sleep)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(measuring.measure, "convert", seen.append)
    measuring.measure_when_quiet(paths, lambda: next(quiet))
    assert seen == [measuring.AGAIN_S, measuring.AGAIN_S, measuring.CONVERT_S, ["lab", "assess"]]
    with locked_file(paths.shard_lock("pi"), 0):
        pass


@pytest.mark.parametrize("measure", [True, False])
def test_the_worker_of_a_machine_without_speeds_measures_them(
    measure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process serves all pools of a machine, so it is measured once."""
    begun = []

    def start(paths: Paths, name: str, command: list[str], environment: object) -> processes.Service:
        begun.append(command)
        return processes.Service(name, 1, 0.0, None)

    monkeypatch.setattr(processes, "start", start)
    up.start_worker(Paths(tmp_path), ["strong", "weak"], {}, measure)
    assert [("--measure" in command) for command in begun] == [measure]
