"""The commands that prove, keep and hand on the memory, as a user types them, on a small run with made-up results."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lab_process import Run

from common.canonical_json import canonical
from common.text import size
from experiments.contract import Trial
from flows.chain import advance, open_run
from flows.plan import plan
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from warehouse.queries.checks import verified

GIVEN = {"p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": ["all-MiniLM-L6-v2"]}}


@pytest.fixture
def filled(paths: Paths) -> Paths:
    """A home with a run of which one of two units has a result, and something that was refused."""
    store, now = Store.configured(paths), datetime.now(UTC)
    with writing(paths) as con:
        run = open_run(con, plan("smoke", GIVEN))
        unit = advance(con, run, "p1").pending[0]
        compared = len(unit.spec["memory"]) * len(unit.spec["test"])
        nothing_near = {"near": 0, "pairs": [], "compared": compared}
        write_bundle(
            store.inbox,
            unit,
            [Trial("leakage", "leakage", details=nothing_near)],
            host="pi-4",
            attempt=1,
            started_at=now,
            finished_at=now,
            provenance={"identity": unit.identity},
        )
        (store.inbox / "junk").write_bytes(b"junk")
    assert collect(paths, store).ingested == 1
    return paths


def test_verify_says_what_holds_what_is_missing_and_what_does_not(called: Run, filled: Paths) -> None:
    """Exit code 0 and a line of counts while all holds, 1 and a line for each fault when not, and --repair brings it back."""
    done = called("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "bundles 1, trials 1" in done.stdout
    assert "has no result; never sent to a host" in done.stdout
    assert "no fault found" in done.stdout
    with writing(filled) as con:
        con.execute("UPDATE trials SET answer = 'forged'")
    wrong = called("verify", "--phase", "p1", "--json")
    said = json.loads(wrong.stdout)
    assert (wrong.returncode, [f["check"] for f in said["faults"]], len(said["notes"])) == (1, ["trials"], 1)
    shown = called("verify")
    assert shown.returncode == 1
    assert "fault  trials: trials of bundle" in shown.stdout and "lab verify --repair" in shown.stdout
    assert called("verify", "--phase", "e1").returncode == 0
    mended = called("verify", "--repair", "--deep")
    assert mended.returncode == 0
    assert mended.stdout.startswith("restored: 1 bundles")
    kept = [(v["phase"], v["deep"], v["faults"]) for v in verified()]
    assert kept == [
        (None, True, 0),
        (None, True, 1),
        ("e1", False, 0),
        (None, False, 1),
        ("p1", False, 1),
        (None, False, 0),
    ]
    refused = called("verify", "--phase", "p9")
    assert (refused.returncode, refused.stderr.startswith("unknown phase 'p9'")) == (2, True)


def test_rebuild_says_whether_it_is_equal(called: Run, filled: Paths) -> None:
    """Equal to the one before, row for row; with the warehouse lost, every other command names this one."""
    done = called("warehouse", "rebuild")
    assert done.returncode == 0
    assert "equal to the warehouse before, row for row" in done.stdout
    filled.warehouse.unlink()
    for command in (["verify"], ["results"], ["audit"], ["audit", "--stored"]):
        lost = called(*command)
        assert (lost.returncode, lost.stderr.strip().endswith("lab warehouse rebuild")) == (2, True), command
    hidden = filled.records.rename(filled.home / "hidden")
    assert "its bundles are there" in called("results").stderr
    assert called("warehouse", "rebuild").stderr.strip().endswith("lab restore FILE, from a backup")
    hidden.rename(filled.records)
    assert "no readable warehouse" in called("warehouse", "rebuild").stdout
    assert called("verify").returncode == 0
    next(filled.bundles.iterdir()).unlink()
    refused = called("warehouse", "rebuild")
    assert (refused.returncode, "nothing was changed" in refused.stderr) == (2, True)
    forced = called("warehouse", "rebuild", "--force")
    assert (forced.returncode, "lost  bundle" in forced.stdout) == (1, True)


def test_backup_and_restore_by_hand(called: Run, filled: Paths, tmp_path: Path) -> None:
    """The command that backup prints brings it back elsewhere, verified; over a memory that is there it is refused."""
    done = called("backup", "b.tar")
    assert done.returncode == 0
    assert "(1 bundles)" in done.stdout
    target = tmp_path / "b.tar"
    assert f"LAB_HOME=/an/empty/folder lab restore {target}" in done.stdout
    assert called("restore", str(target)).returncode == 2
    restored = called("restore", str(target), LAB_HOME=str(tmp_path / "other"))
    assert restored.returncode == 0
    assert "1 bundles, 1 trials" in restored.stdout and "no fault found" in restored.stdout
    missing = called("restore", "no.tar", LAB_HOME=str(tmp_path / "third"))
    assert (missing.returncode, "no.tar" in missing.stderr) == (2, True)


def test_clean_says_what_would_go_and_leaves_it(called: Run, filled: Paths) -> None:
    """A dry run changes nothing; without it the same things go, and the young stay."""
    assert called("clean").stdout.strip().endswith("removed: 0, 0 B; older than 30d")
    with writing(filled) as con:
        con.execute("UPDATE bundles SET received_at = received_at - INTERVAL 40 DAY")
    (path,) = filled.bundles.iterdir()
    dry = called("clean", "--older-than", "30d", "--dry-run")
    assert f"  bundle  {size(path.stat().st_size)}  {path}  (no verdict rests on it)" in dry.stdout
    assert "would be removed: 1" in dry.stdout
    assert path.is_file()
    assert "removed: 1" in called("clean").stdout
    assert not path.exists()
    assert called("verify").returncode == 0
    assert called("clean", "--older-than", "soon").returncode == 2


def test_export_writes_a_view(called: Run, filled: Paths, tmp_path: Path) -> None:
    """A file named as the view lies where the user is; a mistake names what there is."""
    done = called("export", "phase_hosts", "--format", "json")
    assert done.stdout == f"{tmp_path / 'phase_hosts.json'}: 1 rows\n"
    assert json.loads((tmp_path / "phase_hosts.json").read_text())[0]["host"] == "pi-4"
    refused = called("export", "nothing")
    assert (refused.returncode, "phase_metrics" in refused.stderr) == (2, True)


def test_keys_by_hand(called: Run, filled: Paths, tmp_path: Path) -> None:
    """A key made on the coordinator, copied and added on the machine, signs there what waits; none is printed."""
    made = called("keys", "add", "pi-4")
    key_file = filled.keys / "pi-4.key"
    assert str(key_file) in made.stdout and key_file.read_text().strip() not in made.stdout
    assert called("keys", "list").stdout == "keys are not required\n  pi-4\n"
    assert "this machine has no key" in called("keys", "require", LAB_HOST="laptop").stdout
    other = Paths(tmp_path / "pi")
    content = canonical({"x": 1}).encode()
    other.spool.mkdir(parents=True)
    waiting = other.spool / f"{'1' * 32}.{hashlib.sha256(content).hexdigest()}.parquet"
    waiting.write_bytes(content)
    added = called("keys", "add", "pi-4", "--from", str(key_file), LAB_HOME=str(other.home), LAB_HOST="pi-4")
    assert "waiting bundles signed: 1" in added.stdout
    assert (other.keys / "pi-4.key").read_text() == key_file.read_text()
    assert [len(p.name.split(".")) for p in other.spool.iterdir()] == [4]
    assert called("keys", "add", "pi-4").returncode == 2
    assert called("keys", "remove", "pi-4").returncode == 0
    assert called("keys", "list").stdout == "keys are required\n"
    assert called("keys", "require", "--off").stdout == "keys are not required\n"


def test_without_a_warehouse_each_says_how_to_get_one(called: Run, home: Path) -> None:
    """On a machine that only works for another, these commands make no empty warehouse."""
    for command in (["verify"], ["warehouse", "rebuild"], ["clean"], ["backup"]):
        done = called(*command)
        assert (done.returncode, "there is no warehouse in" in done.stderr) == (2, True), command
    assert not (home / "warehouse.duckdb").exists()
