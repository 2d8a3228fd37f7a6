"""Findings of lab verify are stored: when, of which phase, how thoroughly, and which."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from warehouse.database.connection import writing
from warehouse.maintenance.verifications import MAX_FINDINGS, store_verification
from warehouse.maintenance.verify import Finding, Verified
from warehouse.paths import Paths
from warehouse.queries import checks

FAULT = Finding("trials", "trials of bundle abc are not those in its file", "abc")
NOTE = Finding("units", "unit 2 has no result", "def", fault=False)


def keep(paths: Paths, found: Verified, phase: str | None = None, deep: bool = False) -> bool:
    with writing(paths, publish=True) as con:
        return store_verification(con, found, phase, deep)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_HOST", "pi-4")
    return Paths.local()


def test_the_latest_proof_is_read_first_with_its_level_and_findings(paths: Paths) -> None:
    """A page that says when the results were proved must not show an older proof, a shallow one as a deep one, or a phase's
    as one of all."""
    with writing(paths, publish=True):
        pass
    assert checks.verified() == []
    began = datetime.now(UTC)
    assert keep(paths, Verified({"bundles": 2}, [NOTE, FAULT]))
    assert keep(paths, Verified({"bundles": 2}, []), "p1", deep=True)
    last, first = checks.verified()
    assert (last["phase"], last["deep"], last["faults"], last["notes"], last["findings"]) == ("p1", True, 0, 0, [])
    assert (first["phase"], first["deep"], first["host"], first["counts"]) == (None, False, "pi-4", {"bundles": 2})
    assert (first["faults"], first["notes"]) == (1, 1)
    assert first["findings"] == [
        {"fault": True, "check": "trials", "about": "abc", "what": FAULT.what},
        {"fault": False, "check": "units", "about": "def", "what": NOTE.what},
    ]
    assert began <= first["verified_at"] <= last["verified_at"] <= datetime.now(UTC)
    assert checks.verified(1) == [last]


def test_bundles_that_came_after_it_are_counted(run_home: Paths) -> None:
    """A proof says nothing about results that came in later, so a page must be able to tell how many those are."""
    keep(run_home, Verified())
    with writing(run_home, publish=True) as con:
        con.execute("UPDATE bundles SET arrival = 99 WHERE sha256 = (SELECT min(sha256) FROM bundles)")
    assert [row["bundles_since"] for row in checks.verified()] == [1]


def test_many_findings_are_counted_and_the_first_are_kept(paths: Paths) -> None:
    """A wrecked archive of thousands of bundles must not make each proof of it as large as itself."""
    keep(paths, Verified(findings=[NOTE] * 10 + [FAULT] * MAX_FINDINGS))
    (row,) = checks.verified()
    assert (row["faults"], row["notes"], len(row["findings"])) == (MAX_FINDINGS, 10, MAX_FINDINGS)
    assert all(f["fault"] for f in row["findings"])


def test_a_damaged_table_of_proofs_hides_no_finding(paths: Paths) -> None:
    """If that table itself is missing, verify reports it instead of ending with an error."""
    with writing(paths) as con:
        con.execute("DROP VIEW verification_history")
        con.execute("DROP TABLE verifications")
        assert store_verification(con, Verified(), None, deep=False) is False
