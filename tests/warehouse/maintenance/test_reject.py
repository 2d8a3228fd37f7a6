"""A bundle that is taken out on record: its trials are gone, it does not come back, and its unit is asked for again."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from made_up_bundles import make_unit, plan, put

from common.errors import LabError
from experiments.contract import Trial
from flows.chain import advance, conclude, open_run
from flows.plan import plan as plan_run
from warehouse.database.connection import writing
from warehouse.database.records import done_units
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.rebuild import rebuild
from warehouse.maintenance.reject import reject
from warehouse.maintenance.verifications import verified
from warehouse.paths import Paths

GIVEN = {"p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": ["all-MiniLM-L6-v2"]}}


def test_a_rejected_bundle_is_out_for_good(paths: Paths, store: Store) -> None:
    """Row, trials, summary and file are gone from the results; delivered again, and after a rebuild, it stays out."""
    path, other = put(store.inbox, "a"), put(store.inbox, "b")
    assert collect(paths, store).ingested == 2
    copy = shutil.copy(paths.bundles / path.name, paths.home / path.name)
    unit_id, sha256 = path.name.split(".")[:2]
    with writing(paths) as con:
        done = reject(con, paths, store, sha256[:12], "memory was faulty")
        assert (done.sha256, done.unit_id, done.host, done.counted_instead) == (sha256, unit_id, "pi-4", False)
        for table, column in (("bundles", "sha256"), ("trials", "bundle_sha256"), ("bundle_numbers", "sha256")):
            assert con.execute(f"SELECT count(*) FROM {table} WHERE {column} = ?", [sha256]).fetchone() == (0,)
        assert con.execute("SELECT why, host FROM rejections").fetchall() == [("memory was faulty", "pi-4")]
        assert done_units(con, [unit_id]) == set() and not store.has_bundle(unit_id)
    assert (paths.quarantine / f"{path.name}.reason.txt").read_text() == "rejected: memory was faulty\n"
    shutil.copy(copy, store.inbox / path.name)
    assert collect(paths, store).quarantined == [(path.name, "rejected: memory was faulty")]
    shutil.copy(copy, paths.bundles / path.name)  # as a process that died in the middle leaves it
    with writing(paths) as con:
        assert any("was rejected" in f.what for f in verified(con, paths, store, None, deep=False).faults)
    built = rebuild(paths, store)
    assert built.found == 0 and any("rejected" in line for line in built.aside)
    with writing(paths) as con:
        reject(con, paths, store, sha256[:12], "again, to move the file")
        found = verified(con, paths, store, None, deep=False).faults
        assert [f for f in found if f.check != "plans"] == []  # made-up units hash to no id
    assert [p.name for p in paths.bundles.iterdir()] == [other.name]


def test_another_result_of_the_unit_counts_instead(paths: Paths, store: Store) -> None:
    """Where a unit was computed twice nothing has to be computed again."""
    first = put(store.inbox, "a")
    assert collect(paths, store).ingested == 1
    put(store.inbox, "a", attempt=2)
    assert collect(paths, store).replicates == 1
    with writing(paths) as con:
        assert reject(con, paths, store, first.name.split(".")[1], "x").counted_instead
        assert con.execute("SELECT attempt, replicate FROM bundles").fetchall() == [(2, 0)]


@pytest.mark.parametrize(
    ("beginning", "why", "reason"),
    [
        ("xyz", "why", "is not the beginning"),
        ("abcdef0", "why", "is not the beginning"),
        ("0" * 64, "why", "0 bundles have"),
        ("", "why", "is not the beginning"),
        ("0" * 8, " ", "for a reason"),
    ],
)
def test_what_is_not_a_bundle_or_no_reason_changes_nothing(
    paths: Paths, store: Store, beginning: str, why: str, reason: str
) -> None:
    """A slip of the finger must not take out a result."""
    put(store.inbox, "a")
    collect(paths, store)
    with writing(paths) as con, pytest.raises(LabError, match=reason):
        reject(con, paths, store, beginning, why)
    with writing(paths) as con:
        assert con.execute("SELECT count(*) FROM bundles").fetchone() == (1,)


def useless(store: Store, unit_id: str, phase: str, identity: dict[str, object]) -> Path:
    """A bundle of one trial with nothing in it, as a machine delivers that did not work."""
    from dataclasses import replace

    unit = replace(make_unit("x"), unit_id=unit_id, phase=phase)
    now = datetime.now(UTC)
    made = {"host": "pi-4", "attempt": 1, "started_at": now, "finished_at": now, "provenance": {"identity": identity}}
    return write_bundle(store.inbox, unit, [Trial("p", "all-MiniLM-L6-v2")], **made)  # type: ignore[arg-type]


def test_a_useless_result_is_refused_and_its_unit_stays_to_be_computed(run_home: Paths) -> None:
    """One empty trial for a unit of 6 would make the phase crash each time, and lab verify would praise it."""
    store = Store.configured(run_home)
    with writing(run_home) as con:
        run = open_run(con, plan_run("smoke", GIVEN))
        unit = next(u for u in advance(con, run, "p1").units if "embedder" in u.spec)
        [(sha256,)] = con.execute("SELECT sha256 FROM bundles WHERE unit_id = ?", [unit.unit_id]).fetchall()
        done = reject(con, run_home, store, sha256, "to deliver a useless one")
        assert done.verdicts == (f"{run.run_id} p1",)
        bad = useless(store, unit.unit_id, "p1", dict(unit.identity))
        taken = collect(run_home, store, con)
        assert taken.quarantined == [(bad.name, "1 trials, its unit yields 6")]
        assert [u.unit_id for u in advance(con, run, "p1").pending] == [unit.unit_id]


def test_verify_finds_a_useless_result_that_an_earlier_version_took(
    run_home: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named with the command that takes it out; then the unit is pending and the phase can be decided again."""
    store = Store.configured(run_home)
    with writing(run_home) as con:
        run = open_run(con, plan_run("smoke", GIVEN))
        unit = next(u for u in advance(con, run, "p1").units if "embedder" in u.spec)
        [(sha256,)] = con.execute("SELECT sha256 FROM bundles WHERE unit_id = ?", [unit.unit_id]).fetchall()
        reject(con, run_home, store, sha256, "to deliver a useless one")
        bad = useless(store, unit.unit_id, "p1", dict(unit.identity))
        with monkeypatch.context() as patch:
            patch.setattr("warehouse.ingest.arrival.wrong_trials", lambda *_: None)
            assert collect(run_home, store, con).ingested == 1
        with pytest.raises((KeyError, ValueError)):
            conclude(con, run, "p1")
        bad_sha256 = bad.name.split(".")[1]
        [fault] = [f for f in verified(con, run_home, store, None, deep=False).faults if f.check == "bundles"]
        assert "1 trials, its unit yields 6; take it out: lab reject" in fault.what and fault.about == bad_sha256
        reject(con, run_home, store, bad_sha256, "useless")
        assert [u.unit_id for u in advance(con, run, "p1").pending] == [unit.unit_id]


def test_a_number_of_arrival_is_not_used_again(paths: Paths, store: Store) -> None:
    """What was there before a verdict is told by numbers: a new bundle must not pass for the one that was taken out."""
    path = put(store.inbox, "a")
    collect(paths, store)
    with writing(paths) as con:
        reject(con, paths, store, path.name.split(".")[1], "x")
    plan(paths, "c")
    put(store.inbox, "c")
    collect(paths, store)
    with writing(paths) as con:
        assert con.execute("SELECT arrival FROM bundles").fetchall() == [(2,)]
