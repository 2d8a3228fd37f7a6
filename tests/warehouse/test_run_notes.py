"""A user's notes on runs: kept beside the results, in backups and exports, whatever is written in them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_snapshot import publish

from common.errors import LabError
from warehouse import run_notes
from warehouse.paths import Paths
from warehouse.queries.export import export


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_kept_or_refused(tmp_path_factory: pytest.TempPathFactory, note: str, tags: str) -> None:
    """What a form sends is read back as it was, without empty and repeated tags, or nothing is written."""
    paths = Paths(tmp_path_factory.mktemp("notes"))
    try:
        found = run_notes.parsed(note, tags)
    except LabError:
        return
    run_notes.save(paths, "r1", found)
    assert run_notes.notes(paths) == ({} if found == run_notes.RunNote() else {"r1": found})
    assert all(tag and "," not in tag for tag in found.tags) and len(set(found.tags)) == len(found.tags)


@pytest.mark.parametrize("run_id", ["", "../r1", "a/b", "x" * 101, "r1.json\n"])
def test_a_note_is_no_way_to_another_file(tmp_path: Path, run_id: str) -> None:
    """The id comes from a page's address."""
    with pytest.raises(LabError, match="is no run"):
        run_notes.save(Paths(tmp_path), run_id, run_notes.RunNote(note="x"))
    assert list(tmp_path.rglob("*.json")) == []


def test_notes_are_exported(tmp_path: Path) -> None:
    """A damaged file costs its note alone."""
    paths = Paths(tmp_path / "home")
    publish(paths.home, ("r1", "p1", None))
    run_notes.save(paths, "r1", run_notes.parsed("k was too large", "baseline, odd"))
    (paths.notes / "r2.json").write_bytes(b'{"note": 5}')
    assert export(paths, "run_notes", tmp_path / "notes.csv", "csv") == 1
    with (tmp_path / "notes.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"run_id": "r1", "note": "k was too large", "tags": "[baseline, odd]"}]
