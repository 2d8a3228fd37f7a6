"""Disks that are full, read-only or damaged: one line with what is wrong and what mends it, nothing half-written or left."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lab_process import Run, bare_environment
from small_disk import fill, mounted, read_only

from experiments.backends.model_cache import Backends, no_files
from experiments.contract import Metric, Status, Verdict
from experiments.protocol import leakage_gate
from experiments.registry import configure
from flows.chain import advance, open_run
from flows.plan import plan
from warehouse.database.connection import writing
from warehouse.database.records import save_verdict
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

GIVEN = {"p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": ["all-MiniLM-L6-v2"]}}
PROBLEMS = "".join(f'{{"id": {i}, "text": "Text {i} of some words.", "label": "{i % 2}"}}\n' for i in range(40))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    with mounted(tmp_path / "disk", 40) as folder:
        yield folder


def fill_home(paths: Paths) -> None:
    """A home with a run of which one unit has a result, and a verdict."""
    store, now = Store.configured(paths), datetime.now(UTC)
    with writing(paths, publish=True) as con:
        run = open_run(con, plan("smoke", GIVEN))
        unit = advance(con, run, "p1").pending[0]
        trials = leakage_gate.run(unit, configure("p1", "smoke", GIVEN["p1"]), Backends(no_files))
        at = {"host": "pi-4", "attempt": 1, "started_at": now, "finished_at": now}
        write_bundle(store.inbox, unit, trials, **at, provenance={"identity": unit.identity})  # type: ignore[arg-type]
        assert collect(paths, store, con).ingested == 1
        save_verdict(con, run.run_id, "p1", Verdict(Status.FAIL, "made up.", None, Metric("x", 0.5, n=3)))


def files(folder: Path) -> dict[str, str]:
    """Path -> digest of all files but locks and what a command may always write again."""
    again = ("warehouse.lock", "spool.json")
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in again)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def check_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """Exit code 2, one line on stderr that holds all of `said`."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert all(part in done.stderr for part in said), done.stderr


OUTSIDE = {
    "backup": ["backup", "{}/x.tar"],
    "report": ["report", "--out", "{}/x.html"],
    "export": ["export", "gate_history", "--out", "{}/x.parquet"],
    "export csv": ["export", "gate_history", "--format", "csv", "--out", "{}/x.csv"],
    "data make": ["data", "make", "big_o", "--n", "660", "--out", "{}/x.jsonl"],
    "assess": ["assess", "--quick", "--out", "{}"],
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_full_disk_for_what_a_command_writes_is_one_line(
    called: Run, paths: Paths, tmp_path: Path, name: str
) -> None:
    """Whatever writes it, Python, DuckDB or a library, the line says which disk is full, and nothing half-written stays."""
    fill_home(paths)
    with mounted(tmp_path / "full", 1) as full:
        fill(full)
        check_line(called(*(a.format(full) for a in OUTSIDE[name])), f"the disk of {full} is full", "lab clean")
        assert [p.name for p in full.iterdir()] == ["blocker"]


INSIDE = {"rebuild": ["warehouse", "rebuild"], "own data": ["run", "p1", "--data", "{}/own.jsonl", "--scale", "smoke"]}


@pytest.mark.parametrize("name", INSIDE)
def test_a_full_disk_under_lab_home_is_one_line_and_changes_nothing(
    called: Run, disk: Path, tmp_path: Path, name: str
) -> None:
    """The warehouse stays as it was, and with room again the same command completes."""
    home = disk / "home"
    fill_home(Paths(home))
    (tmp_path / "own.jsonl").write_text(PROBLEMS)
    before, blocker = files(home), fill(disk)
    check_line(
        called(*(a.format(tmp_path) for a in INSIDE[name]), LAB_HOME=str(home)), f"the disk of {home}", "is full"
    )
    assert files(home) == before
    blocker.unlink()
    if name == "rebuild":
        assert called(*INSIDE[name], LAB_HOME=str(home)).returncode == 0


def test_a_read_only_disk_can_still_be_read(called: Run, disk: Path) -> None:
    """As after an error of the file system, when the results are wanted most: results, verify and status work, and what has
    to write says why it cannot."""
    home = disk / "home"
    fill_home(Paths(home))
    with read_only(disk):
        shown = called("results", "--json", LAB_HOME=str(home))
        assert (shown.returncode, shown.stderr) == (0, "")
        assert json.loads(shown.stdout)["phases"][0]["status"] == "FAIL"
        assert called("results", LAB_HOME=str(home)).returncode == 0
        assert called("results", "--markdown", LAB_HOME=str(home)).returncode == 0
        checked = called("verify", "--deep", LAB_HOME=str(home))
        assert "bundles 1, trials 1" in checked.stdout and checked.stderr == ""
        assert called("status", LAB_HOME=str(home)).returncode == 0
        check_line(called("collect", LAB_HOME=str(home)), "is read-only", "mount it for writing")


@pytest.mark.parametrize("command", [["export", "gate_history"], ["report"]])
@pytest.mark.parametrize("damage", ["other content", "cut off", "a damaged block"])
def test_a_snapshot_that_cannot_be_read_is_one_line(
    called: Run, paths: Paths, tmp_path: Path, command: list[str], damage: str
) -> None:
    """The snapshot is a copy: the line names the command that makes it again."""
    fill_home(paths)
    content = paths.snapshot.read_bytes()
    torn = bytearray(content)
    for at in range(3 * 4096, len(torn), 4096):  # behind the headers
        torn[at + 100 : at + 110] = b"\xff" * 10
    paths.snapshot.write_bytes({"other content": b"x" * 9000, "cut off": content[:20_000]}.get(damage, bytes(torn)))
    before = {p.name for p in tmp_path.iterdir()}
    check_line(called(*command), "snapshot.duckdb cannot be read", "lab collect")
    assert {p.name for p in tmp_path.iterdir()} == before
    assert called("collect").returncode == 0
    assert called(*command).returncode == 0


def test_a_damaged_block_of_the_warehouse_is_one_line_and_a_rebuild_mends_it(called: Run, paths: Paths) -> None:
    """All of it is in bundles and records."""
    fill_home(paths)
    torn = bytearray(paths.warehouse.read_bytes())
    for at in range(3 * 4096, len(torn), 4096):
        torn[at + 100 : at + 110] = b"\xff" * 10
    paths.warehouse.write_bytes(torn)
    check_line(called("results"), "warehouse.duckdb", "lab warehouse rebuild")
    assert called("warehouse", "rebuild").returncode == 0
    assert called("results").returncode == 0
    checked = called("verify").stdout
    assert "bundles 1, trials 1" in checked and "faults: 1;" in checked  # the other unit of the decided phase


def test_an_output_that_cannot_be_written_is_one_line(home: Path) -> None:
    """`lab > FILE` on a full disk; a reader that has seen enough is no error."""
    command = f"exec {sys.executable} -m lab --help"
    for into, code, said in (("> /dev/full", 2, "a disk is full"), ("| true", 0, "")):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} {into}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=bare_environment(home),
        )
        assert done.stderr.count("\n") <= 1 and said in done.stderr and "Traceback" not in done.stderr
        assert done.returncode == code or not said
