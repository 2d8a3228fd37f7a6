"""Verifying: each way in which a warehouse can differ from what was computed is found, and repaired where bundles allow it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from duckdb import DuckDBPyConnection as Connection
from test_rebuild import repeat, rows_of

from common.errors import LabError
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.database.records import Assignment, assign
from warehouse.delivery import signing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance import recompute
from warehouse.maintenance import verify as checks
from warehouse.maintenance.recompute import check_decided
from warehouse.maintenance.repair import repair
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths


def look(con: Connection, paths: Paths, deep: bool = True) -> Verified:
    """All checks, as `lab verify --deep` makes them."""
    store, found = Store.configured(paths), Verified()
    checks.check_schema(con, found)
    checks.check_plans(con, found)
    checks.check_summaries(con, found)
    checks.check_files(store, checks.check_bundles(con, paths, found), found)
    checks.check_records(paths, found)
    checks.check_units(con, found)
    if deep:
        check_decided(con, store.get_file, found)
    return found


def verified(paths: Paths, deep: bool = True) -> Verified:
    with writing(paths) as con:
        return look(con, paths, deep)


def a_bundle(paths: Paths) -> Any:
    return sorted(paths.bundles.glob("*.parquet"))[0]


def sql(statement: str) -> Callable[[Paths], None]:
    def change(paths: Paths) -> None:
        with writing(paths) as con:
            con.execute(statement)

    return change


def test_what_was_computed_holds(run_home: Paths) -> None:
    """Nothing is found in a warehouse that nobody touched, and all of it was looked at: metrics come out to the bit."""
    found = verified(run_home)
    assert found.findings == []
    with writing(run_home) as con:
        for name, table in (
            ("bundles", "bundles"),
            ("trials", "trials"),
            ("metrics", "metrics"),
            ("verdicts", "verdicts"),
        ):
            assert found.counts[name] == (con.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,))[0] > 0
    assert found.counts["units"] == found.counts["units with a result"] > 0


FORGED = {
    "a number in a trial": (sql("UPDATE trials SET latency_s = 0.5 WHERE ordinal = 3"), "trials", True),
    "a detail in a trial": (
        sql("UPDATE trials SET details = '{}' WHERE rowid = (SELECT max(rowid) FROM trials)"),
        "trials",
        True,
    ),
    "a trial twice": (sql("INSERT INTO trials FROM trials WHERE ordinal = 1"), "trials", True),
    "a trial gone": (sql("DELETE FROM trials WHERE ordinal = 1"), "trials", True),
    "trials of no bundle": (
        sql("INSERT INTO trials SELECT * REPLACE (repeat('0', 64) AS bundle_sha256) FROM trials LIMIT 2"),
        "trials",
        True,
    ),
    "another host": (sql("UPDATE bundles SET host = 'mac'"), "bundles", True),
    "a bundle's row gone": (
        sql("DELETE FROM bundles WHERE sha256 = (SELECT min(sha256) FROM bundles)"),
        "bundles",
        True,
    ),
    "a second that counts": (sql("UPDATE bundles SET replicate = 1"), "bundles", True),
    "a summary": (sql("UPDATE attempt_counts SET trials = trials + 1"), "trials", True),
    "a metric": (sql("UPDATE metrics SET value = value + 1e-6 WHERE position = 0 AND host = 'all'"), "metrics", False),
    "a metric gone": (sql("DELETE FROM metrics WHERE position = 1 AND host = 'all'"), "metrics", False),
    "a host's metric": (sql("UPDATE metrics SET n = n + 1 WHERE position = 0 AND host <> 'all'"), "metrics", False),
    "a verdict": (
        sql("UPDATE verdicts SET status = CASE status WHEN 'FAIL' THEN 'PASS' ELSE 'FAIL' END"),
        "verdicts",
        False,
    ),
    "a verdict's reason": (sql("UPDATE verdicts SET reason = 'because'"), "verdicts", False),
    "a host's verdict": (
        sql("UPDATE host_verdicts SET status = CASE status WHEN 'FAIL' THEN 'PASS' ELSE 'FAIL' END"),
        "verdicts",
        False,
    ),
    "findings": (sql("UPDATE verdicts SET findings = '{}'"), "verdicts", False),
    "a plan": (sql('UPDATE plans SET content = json_merge_patch(content, \'{"scale": "full"}\')'), "plans", False),
    "a unit": (sql('UPDATE units SET spec = json_merge_patch(spec, \'{"spec": {"k": 9}}\')'), "plans", False),
    "a view": (sql("CREATE OR REPLACE VIEW phase_trials AS SELECT 1 AS run_id"), "migrations", False),
    "a column": (sql("ALTER TABLE hosts ADD COLUMN note VARCHAR"), "migrations", False),
    "a migration": (sql("DELETE FROM schema_migrations WHERE number = 2"), "migrations", False),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_was_changed_by_hand_is_found(run_home: Paths, what: str) -> None:
    """Each table's content is held against bundles, hashes or a new computation; what bundles hold is put right from them,
    and a verdict never."""
    change, check, mends = FORGED[what]
    before = rows_of(run_home)
    if what == "a migration":
        # Opening would apply it again, on top of itself, so it is looked at as it is.
        with writing(run_home) as con:
            con.begin()
            con.execute("DELETE FROM schema_migrations WHERE number = 2")
            found = look(con, run_home, deep=False)
            con.rollback()
        assert {f.check for f in found.faults} == {"migrations"}
        return
    change(run_home)
    found = verified(run_home)
    assert check in {f.check for f in found.faults}
    with writing(run_home) as con:
        repair(con, run_home, Store.configured(run_home), found)
    again = verified(run_home)
    assert bool(again.faults) is not mends
    if mends:
        after = rows_of(run_home)
        for table in ("trials", "bundles"):
            times = {3} if what == "a bundle's row gone" and table == "bundles" else set()
            # A row that was lost comes back with the time at which it came back.
            assert [r[:5] if times else r for r in after[table]] == [r[:5] if times else r for r in before[table]]


def test_a_damaged_or_lost_bundle_is_found(run_home: Paths) -> None:
    """A file that rots in the archive is found by its name, a lost one by its row; the trials in the warehouse stay."""
    before = rows_of(run_home)
    first, second, *_ = sorted(run_home.bundles.glob("*.parquet"))
    content = first.read_bytes()
    first.write_bytes(content[:100] + b"\0" + content[101:])
    second.rename(run_home.home / second.name)
    found = verified(run_home)
    assert sorted(f.about for f in found.faults) == sorted([first.name.split(".")[1], second.name.split(".")[1]])
    assert any("does not match the SHA-256" in f.what for f in found.faults)
    assert any("has no file in" in f.what for f in found.faults)
    with writing(run_home) as con:
        done = repair(con, run_home, Store.configured(run_home), found)
    assert len(done.left) == 1
    assert rows_of(run_home)["trials"] == before["trials"]
    first.write_bytes(content)
    (run_home.home / second.name).rename(second)
    assert verified(run_home).faults == []


def test_a_unit_without_a_result_is_named_with_whom_it_was_assigned_to(run_home: Paths) -> None:
    """Before its phase is decided it is still to come; after that it is a fault, unless it was given up on record."""
    with writing(run_home) as con:
        (unit_id, sha256) = con.execute("SELECT unit_id, sha256 FROM bundles ORDER BY 1 LIMIT 1").fetchone() or ("", "")
        (run_id,) = con.execute("SELECT run_id FROM runs").fetchone() or ("",)
        for table in ("bundles WHERE sha256 = ?", "trials WHERE bundle_sha256 = ?"):
            con.execute(f"DELETE FROM {table}", [sha256])
        (unit,) = [u for u in records.units_of(con, run_id, "p1") if u.unit_id == unit_id]
        assign(con, run_id, [Assignment([unit], "weak", None, 1)])
        assign(con, run_id, [Assignment([unit], "strong", "mac", 2)])
        assign(con, run_id, [])
        hour = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
        con.execute("UPDATE assignments SET assigned_at = ?::TIMESTAMPTZ + to_hours(attempt - 1)", [hour])
        found = Verified()
        checks.check_units(con, found)
        (missing,) = found.faults
        assert missing.about == unit_id
        assert "last sent to mac (strong), attempt 2, 2026-11-24 10:30 UTC" in missing.what
        con.execute("DELETE FROM assignments WHERE host IS NOT NULL")
        con.execute("INSERT INTO given_up VALUES (?, ?, 'no memory', now())", [run_id, unit_id])
        found = Verified()
        checks.check_units(con, found)
        assert found.faults == []
        assert (
            "any host of pool weak, attempt 1" in found.notes[0].what and "given up: no memory" in found.notes[0].what
        )
        con.execute("DELETE FROM given_up; DELETE FROM assignments; DELETE FROM verdicts")
        found = Verified()
        checks.check_units(con, found)
        assert found.faults == []
        assert "never sent to a host" in found.notes[0].what
        assert found.counts["units"] == found.counts["units with a result"] + 1
        found = Verified()
        checks.check_units(con, found, phase="e1")
        assert found.findings == []


def test_repeats_that_came_after_the_verdict_change_nothing_of_it(run_home: Paths) -> None:
    """An audit or a woken zombie adds bundles; what was decided before is computed again from what was there then."""
    repeat(run_home, "mac", 2)
    repeat(run_home, "pi-4", 3)
    assert verified(run_home).faults == []


def test_other_analysis_code_is_a_note_and_no_fault(run_home: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update numbers may come out otherwise; that is reported with both versions, and nobody is called a forger."""
    sql("UPDATE metrics SET value = value + 1 WHERE position = 0")(run_home)
    monkeypatch.setattr(recompute, "code_version", lambda *_, **__: "0123456789abcdef")
    found = verified(run_home)
    assert found.faults == []
    assert "the analysis code is 0123456789abcdef" in found.notes[0].what


def test_data_that_are_not_here_are_a_note(run_home: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that cannot be computed again on this machine is reported as neither wrong nor right."""

    def gone(*_: Any) -> None:
        raise LabError("the file is not here", "bring it")

    monkeypatch.setattr(recompute, "fetch_data", gone)
    found = verified(run_home)
    assert found.faults == []
    assert "cannot be computed again here: the file is not here" in found.notes[0].what
    assert "metrics" not in found.counts


def test_a_wrong_signature_in_the_archive_is_found(run_home: Paths) -> None:
    """A signature under which a bundle came in stays with it, so that it can be checked years later."""
    path = a_bundle(run_home)
    signing.add_key(run_home, "pi-4", "1" * 64)
    unit, sha256, _ = path.name.split(".")
    forged = path.rename(path.with_name(f"{unit}.{sha256}.{'0' * 64}.parquet"))
    (fault,) = verified(run_home, deep=False).faults
    assert "the signature is not pi-4's" in fault.what
    right = signing.signature(bytes.fromhex("1" * 64), "pi-4", sha256)
    forged.rename(path.with_name(f"{unit}.{sha256}.{right}.parquet"))
    assert verified(run_home, deep=False).faults == []


def test_damaged_records_and_attachments_are_found_and_written_again(run_home: Paths) -> None:
    """The files that a rebuild needs are proved before it is needed, and made again from what is whole."""
    path = next(run_home.records.rglob("units.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    found = verified(run_home, deep=False)
    assert [(f.check, f.about) for f in found.faults] == [("records", str(path.relative_to(run_home.records)))]
    with writing(run_home) as con:
        repair(con, run_home, Store.configured(run_home), found)
    assert verified(run_home, deep=False).faults == []


def test_bundles_that_came_before_their_plan_come_back(run_home: Paths) -> None:
    """A spool delivered to a coordinator that was set up anew waits in quarantine until its plan is there."""
    store, path = Store.configured(run_home), a_bundle(run_home)
    sha256 = path.name.split(".")[1]
    with writing(run_home) as con:
        con.execute("CREATE TEMP TABLE put_off AS FROM units")
        con.execute("DELETE FROM units; DELETE FROM trials WHERE bundle_sha256 = ?", [sha256])
        con.execute("DELETE FROM bundles WHERE sha256 = ?", [sha256])
        for folder in ("first", "again"):
            shutil.copy(path, store.inbox / path.name)
            assert len(collect(run_home, store, con).quarantined) == 1, folder
        path.unlink()
        assert repair(con, run_home, store, Verified()).back == 0
        con.execute("INSERT INTO units FROM put_off")
        assert repair(con, run_home, store, Verified()).back == 2
        taken = collect(run_home, store, con)
        assert (taken.ingested, taken.known, taken.quarantined) in ((1, 0, []), (1, 1, []))
        assert con.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
    assert list(run_home.quarantine.iterdir()) == []
    assert verified(run_home, deep=False).faults == []


def test_a_phase_can_be_verified_alone(run_home: Paths) -> None:
    """With a phase only its bundles, units and verdicts are looked at, and other phases' faults are not reported."""
    sql("UPDATE trials SET latency_s = 0.5")(run_home)
    with writing(run_home) as con:
        found = Verified()
        checks.check_bundles(con, run_home, found, "e1")
        check_decided(con, Store.configured(run_home).get_file, found, "e1")
        assert (found.findings, found.counts["bundles"], found.counts["trials"]) == ([], 0, 0)
        checks.check_bundles(con, run_home, found, "p1")
        assert {f.check for f in found.faults} == {"trials"}


def test_the_plan_of_the_run_names_the_code_that_is_checked(run_home: Paths) -> None:
    """Or every difference would be put down to other code."""
    with writing(run_home) as con:
        (content,) = con.execute("SELECT content FROM plans").fetchone() or ("{}",)
    plan = json.loads(content)
    config = recompute.get_phase("p1").Config(**plan["configs"]["p1"])
    models = tuple(sorted({config.model, *config.embedders}))
    assert recompute.code_version("p1", config.domain, analysis=True, models=models) == plan["code_versions"]["p1"]
