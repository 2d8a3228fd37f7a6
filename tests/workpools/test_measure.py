"""Measuring within a budget: what does not fit is left out with its reason, and nothing is left behind."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from made_up_report import report_file

from workpools import measure
from workpools.assess import SPEEDS_KNOWN, known_speeds, parse_report
from workpools.measure import Budget, disk_write_mb_s, engine_speeds, matrix_gflops, speeds

MODEL = "language_model"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LAB_HOME with nothing in it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("LAB_HOME", str(home))
    return home


def test_a_budget_is_spent_once() -> None:
    """Each measurement gets what the others left; what is left never becomes negative."""
    now = [100.0]
    budget = Budget(50, clock=lambda: now[0])
    assert budget.left == 50
    now[0] = 130
    assert budget.left == 20
    now[0] = 1000
    assert budget.left == 0


def test_the_budget_leaves_room_in_the_minute() -> None:
    """lab assess promises less than a minute: what cannot be interrupted (a disk's last chunk, starting) needs the rest."""
    assert measure.BUDGET_S + 10 <= 60
    assert measure.MATRIX_S + measure.DISK_S + measure.ENGINES_S < measure.BUDGET_S


def test_without_time_one_product_and_one_chunk_are_measured(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine each measurement ends after its smallest step, with a speed all the same."""
    assert matrix_gflops(0) > 0
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    assert disk_write_mb_s(home, 0)
    assert len(synced) == 1
    assert disk_write_mb_s(home, 3600)
    assert len(synced) == 1 + measure.WRITE_BYTES // measure.CHUNK_BYTES
    assert list(home.iterdir()) == []


def test_a_processor_with_a_quota_is_measured_over_its_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with half a core computes at full speed for 50 ms and then stands still for 50: 247 GFLOPS were measured
    where 124 can be had. Here a product takes 1 ms, and every fiftieth ends after a pause."""
    now, products = [0.0], [0]

    class Product:
        def random(self, shape: object, dtype: object) -> Product:
            return self

        def __matmul__(self, other: object) -> None:
            products[0] += 1
            now[0] += 0.001 if products[0] % 50 else 0.051

    monkeypatch.setattr("numpy.random.default_rng", lambda seed: Product())
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure.time, "monotonic", lambda: now[0])
    full = 2 * 128**3 / 0.001 / 1e9
    assert matrix_gflops(0.005) == pytest.approx(full, abs=0.05)
    assert matrix_gflops(0.005, measure.QUOTA_S) == pytest.approx(full / 2, rel=0.05)


def test_a_full_disk_has_no_speed_and_keeps_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a full disk is still told that it is unfit, and does not keep what filled it."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = speeds(home, [], Budget(0))
    assert found.disk_write_mb_s is None
    assert found.reasons == (f"disk speed not measured: no 8 MB could be written to {home}",)
    assert list(home.iterdir()) == []


def test_engines_are_not_begun_when_the_time_is_spent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing an engine takes seconds and cannot be interrupted in this process; each one left out is named."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert engine_speeds(["embedder", MODEL, "lora"], measure.ENGINES_S - 0.1) == (
        {},
        [
            "embedding speed not measured: 50 s for measuring were spent before",
            "model speed not measured: 50 s for measuring were spent before",
        ],
    )
    assert engine_speeds(["lora", "ollama"], 1000) == ({}, [])


def fake_python(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the process that measures, a shell script."""
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_process_that_takes_too_long_is_ended_and_what_it_had_is_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minute holds even where weights take minutes to convert; half-converted ones are not left to fill the disk."""
    ready = tmp_path / "ready"
    monkeypatch.setattr(measure, "ENGINES_S", 0)
    fake_python(
        tmp_path,
        f"mkdir -p {home}/models/x.making-$$ {home}/models/x.making-1 {home}/models/x-done\n"
        f'echo \'["embedder", 12.5, ""]\'; printf \'["language_mo\'; echo $$ > {ready}; exec sleep 1000',
        monkeypatch,
    )
    found, why = engine_speeds(["embedder", MODEL], 3)
    assert ready.exists(), "the script did not come to its sleep; the machine is too busy for this test"
    assert found == {"embedder": 12.5}
    assert why == ["model speed not measured: not done within the 3 s that were left for it"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)
    # Another process may be converting as well.
    assert sorted(p.name for p in (home / "models").iterdir()) == ["x-done", "x.making-1"]


def test_a_process_that_dies_or_cannot_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model too large for the memory ends its process, not the assessment; an engine's own reason is passed on."""
    fake_python(
        tmp_path, 'echo Loading weights; echo \'["embedder", null, "no weights here"]\'; kill -9 $$', monkeypatch
    )
    found, why = engine_speeds(["embedder", MODEL], 1000)
    assert found == {}
    assert why == [
        "embedding speed not measured: no weights here",
        "model speed not measured: the process that measures ended without a result; "
        "its weights are not converted yet, which the first run of a phase does",
    ]


def test_engines_that_are_not_there_say_so(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process prints is a line of JSON for each engine, whatever goes wrong with it."""
    for library in ("torch", "tokenizers"):
        monkeypatch.setitem(sys.modules, library, None)
    measure.main(["embedder", MODEL])
    printed = measure.parse_output(capsys.readouterr().out.splitlines())
    assert {one.speed for one in printed.values()} == {None}
    assert "tokenizers" in printed["embedder"].reason
    assert "torch" in printed[MODEL].reason


def test_the_speeds_of_this_machine_are_of_the_right_order(home: Path) -> None:
    """Operations for pairs, or bytes for megabytes, would leave the range."""
    found = speeds(home, [], Budget())
    assert found.reasons == ()
    assert found.matrix_gflops
    assert found.disk_write_mb_s
    assert 0.5 < found.matrix_gflops < 20_000
    assert 1 < found.disk_write_mb_s < 50_000


def test_weights_are_converted_before_they_are_measured_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fresh machine the conversion took the whole budget, and the model's speed was never measured."""
    asked = []
    monkeypatch.setattr(measure, "engine_speeds", lambda *given: asked.append(given))
    for done in (False, True):
        monkeypatch.setattr(measure, "converted", lambda done=done: done)
        measure.convert(600.0)
    assert asked == [(("language_model",), 600.0)]


@pytest.mark.parametrize(
    ("age", "cores", "versions", "known"),
    [
        (timedelta(hours=25), 4.0, {"torch": "2.7"}, True),
        (SPEEDS_KNOWN + timedelta(hours=1), 4.0, {"torch": "2.7"}, False),
        (timedelta(hours=25), 0.5, {"torch": "2.7"}, False),
        (timedelta(hours=25), 4.0, {"torch": "2.8"}, False),
        (None, 4.0, {"torch": "2.7"}, False),
    ],
)
def test_a_quick_look_has_the_speeds_that_were_measured_before(
    age: timedelta | None, cores: float, versions: dict[str, str], known: bool
) -> None:
    """A machine that joined again, or a day later, had lost them, and the plan took it for an average one."""
    at = age and datetime.now(UTC) - age
    before = parse_report(
        report_file(
            "pi",
            report_version=2,
            matrix_gflops=20.0,
            cores_usable=4.0,
            versions={"torch": "2.7"},
            speeds_at=at and at.isoformat(),
        )
    )
    found = known_speeds(before, cores, None, versions)
    assert (found.get("matrix_gflops"), found.get("speeds_at")) == ((20.0, at) if known else (None, None))
    assert known_speeds(None, cores, None, versions) == {}
