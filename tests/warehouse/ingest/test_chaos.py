"""The counts of benchmarks.chaos are believed: what is lost, doubled or distorted by hand must be found by them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks import injected_errors
from benchmarks.chaos import bad_inputs
from benchmarks.chaos.__main__ import main
from benchmarks.chaos.found import Found, look
from benchmarks.chaos.work import BLOCK, WRITERS, labels_of, plan, put_bundle, unit_id_of
from experiments.seeds import generator
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

JOURNALS = {WRITERS[0]: "\n".join(map(str, range(BLOCK)))}
UNIT = unit_id_of(labels_of(WRITERS[0])[0])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which one block is written, collected and decided."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    paths = Paths(tmp_path / "home")
    plan(paths, WRITERS[:1], BLOCK)
    store = Store.configured(paths)
    for label in labels_of(WRITERS[0])[:BLOCK]:
        put_bundle(store.inbox, label)
    collect(paths, store)
    found = look(paths.home, JOURNALS)
    assert (found.units, found.verdicts, found.wrong) == (BLOCK, 1, [])
    return paths.home


def changed(home: Path, *statements: str) -> Found:
    with writing(Paths(home), publish=True) as con:
        for sql in statements:
            con.execute(sql)
    return look(home, JOURNALS)


def test_a_lost_result_is_found(home: Path) -> None:
    """Its row, its trials and its file are gone, as if it had never been."""
    (path,) = Paths(home).bundles.glob(f"{UNIT}.*")
    path.unlink()
    found = changed(
        home, *(f"DELETE FROM {table} WHERE unit_id = '{UNIT}'" for table in ("trials", "bundles", "files"))
    )
    assert found.lost == [f"unit {labels_of(WRITERS[0])[0]}"]


def test_a_bad_bundle_that_nobody_refused_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part with bad bundles would say "0 faults" of a collector that drops them without a word."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    monkeypatch.setattr(bad_inputs, "KINDS", {"dropped": lambda path, rng: path.unlink()})
    hit, found = bad_inputs.offer(tmp_path, 1, generator(1, "chaos"), float("inf"))
    assert hit == {"dropped": 1}
    assert found.distorted[0].startswith("0 of 0 good bundles were taken in, of 1 bad ones refused: []")


def test_a_doubled_result_is_found(home: Path) -> None:
    """Trials that are there twice would count twice in each mean."""
    found = changed(
        home, f"INSERT INTO trials SELECT * REPLACE (ordinal + 1000 AS ordinal) FROM trials WHERE unit_id = '{UNIT}'"
    )
    assert found.doubled == [f"trials of {labels_of(WRITERS[0])[0]}"]


@pytest.mark.parametrize("changes", ["reason = 'other'", "value = value + 1e-9", "status = 'INCONCLUSIVE'"])
def test_a_distorted_verdict_is_found(home: Path, changes: str) -> None:
    """A verdict is what is read: one that differs in its last digit is another."""
    assert len(changed(home, f"UPDATE verdicts SET {changes}").distorted) == 1


@pytest.mark.slow
@pytest.mark.skipif(injected_errors.compiler() is None, reason="there is no C compiler")
def test_the_script_injects_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """It is run by hand, for hours: a script that broke would be noticed too late."""
    with patch.dict(os.environ):  # the script clears it
        assert main(["--kills", "0", "--errors", "3", "--seed", "7"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["errors"] == 3 and printed["units"] > 0
    assert [printed[k] for k in ("lost", "doubled", "distorted", "left_behind", "tracebacks")] == [0] * 5
