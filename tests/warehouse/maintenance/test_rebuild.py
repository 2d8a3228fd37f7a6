"""Rebuilding: bundles and records beside them are enough for the whole warehouse, row for row."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from made_up_bundles import plan, put, query

from common.errors import LabError
from experiments.contract import Unit
from warehouse.database import durations, record_files, records
from warehouse.database.connection import Migration, migrations, writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.rebuild import rebuild
from warehouse.paths import Paths


def rows_of(paths: Paths) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in one order."""
    with duckdb.connect(str(paths.warehouse), read_only=True) as con:
        con.execute("SET TimeZone = 'UTC'")
        return {t: con.execute(f"FROM {t} ORDER BY ALL").fetchall() for t in record_files.catalogue(con)}


def repeat(paths: Paths, host: str, attempt: int) -> str:
    """A second bundle of the run's first unit, taken in; its SHA-256."""
    store = Store.configured(paths)
    with writing(paths) as con:
        run_id, spec = con.execute("SELECT run_id, spec FROM units ORDER BY position LIMIT 1").fetchone() or ("", "")
        unit = Unit.from_json(json.loads(spec))
        ((_, trials), *_) = records.trials_of(con, run_id, "p1")
    now = datetime.now(UTC)
    path = write_bundle(
        store.inbox,
        unit,
        [replace(t, tokens_in=7) for t in trials],
        host=host,
        attempt=attempt,
        started_at=now,
        finished_at=now,
        provenance={"identity": unit.identity},
    )
    assert collect(paths, store).replicates == 1
    return path.name.split(".")[1]


def test_a_lost_warehouse_comes_back_row_for_row(run_home: Paths) -> None:
    """Trials, plans, runs, metrics, verdicts, times and what is in quarantine: every row of every table is as it was,
    repeats included, and readers get a snapshot of it."""
    store = Store.configured(run_home)
    repeat(run_home, "mac", 2)
    (store.inbox / "junk").write_bytes(b"junk")
    store.put_report("pi-4", b"{}")
    assert len(collect(run_home, store).quarantined) == 2
    before = rows_of(run_home)
    assert (
        min(
            len(before[t]) for t in ("plans", "runs", "units", "bundles", "trials", "metrics", "verdicts", "quarantine")
        )
        > 0
    )
    for path in (run_home.warehouse, run_home.snapshot):
        path.unlink()
    done = rebuild(run_home, store)
    assert (done.compared, done.lost, done.found) == (False, [], 0)
    assert done.rows["trials"] == len(before["trials"])
    assert rows_of(run_home) == before
    with duckdb.connect(str(run_home.snapshot), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM verdicts").fetchone() == (1,)


def test_a_rebuild_beside_a_whole_warehouse_says_that_it_is_equal(run_home: Paths) -> None:
    """The comparison is of every row both ways, and the old file is gone where nothing differs."""
    done = rebuild(run_home, Store.configured(run_home))
    assert (done.compared, done.differences, done.old, done.lost) == (True, {}, None, [])
    assert sorted(p.name for p in run_home.home.glob("*.duckdb*")) == ["snapshot.duckdb", "warehouse.duckdb"]


def test_forged_trials_do_not_survive_a_rebuild(run_home: Paths) -> None:
    """Trials come from the bundles alone; what was changed by hand is shown, and the changed file saved aside."""
    with writing(run_home) as con:
        con.execute("UPDATE trials SET latency_s = 99 WHERE ordinal = 0")
        (n,) = con.execute("SELECT count(*) FROM trials WHERE ordinal = 0").fetchone() or (0,)
    done = rebuild(run_home, Store.configured(run_home))
    assert done.differences == {"trials": (n, n)}
    assert done.old and done.old.is_file()
    with writing(run_home) as con:
        assert con.execute("SELECT count(*) FROM trials WHERE latency_s = 99").fetchone() == (0,)


def test_a_warehouse_that_was_lost_is_not_silently_begun_anew(run_home: Paths) -> None:
    """An hourly collect after the loss of the file would else replace the records by those of an empty warehouse."""
    saved = {p: p.read_bytes() for p in run_home.records.rglob("*") if p.is_file()}
    run_home.warehouse.unlink()
    with pytest.raises(LabError, match="is missing") as refused, writing(run_home):
        pass
    assert refused.value.mend == "lab warehouse rebuild"
    assert {p: p.read_bytes() for p in run_home.records.rglob("*") if p.is_file()} == saved


@pytest.mark.parametrize("how", ["header", "middle", "empty"])
def test_a_damaged_warehouse_is_named_and_rebuilt(run_home: Paths, how: str) -> None:
    """A file that DuckDB cannot read gives one line with the command that mends, and that command brings all back."""
    before = rows_of(run_home)
    content = bytearray(run_home.warehouse.read_bytes())
    if how == "empty":
        content = bytearray(b"x" * 100)
    else:
        content[slice(0, 4096) if how == "header" else slice(4096, 12288 * 3)] = b"\xff" * (
            4096 if how == "header" else 12288 * 3 - 4096
        )
    run_home.warehouse.write_bytes(content)
    with pytest.raises(LabError) as refused, writing(run_home):
        pass
    assert refused.value.mend == "lab warehouse rebuild"
    done = rebuild(run_home, Store.configured(run_home))
    assert done.old and done.old.read_bytes() == bytes(content)
    assert rows_of(run_home) == before


def test_a_lost_bundle_stops_a_rebuild_unless_it_is_forced(run_home: Paths) -> None:
    """Nothing that the old warehouse still has is thrown away unasked; forced, the next bundle of the unit counts."""
    second = repeat(run_home, "mac", 2)
    before = rows_of(run_home)
    with writing(run_home) as con:
        unit_id, first = con.execute(
            "SELECT unit_id, sha256 FROM bundles WHERE replicate = 0 AND unit_id = (SELECT unit_id FROM bundles WHERE sha256 = ?)",
            [second],
        ).fetchone() or ("", "")
    (run_home.bundles / f"{unit_id}.{first}.parquet").unlink()
    with pytest.raises(LabError, match=r"1 items cannot be rebuilt.*nothing was changed"):
        rebuild(run_home, Store.configured(run_home))
    assert rows_of(run_home) == before
    done = rebuild(run_home, Store.configured(run_home), force=True)
    assert [line.split(":")[0] for line in done.lost] == [f"bundle {first[:12]}"]
    with writing(run_home) as con:
        assert con.execute("SELECT sha256, replicate FROM bundles WHERE unit_id = ?", [unit_id]).fetchall() == [
            (second, 0)
        ]
        assert con.execute("SELECT count(*) FROM trials WHERE bundle_sha256 = ?", [first]).fetchone() == (0,)


def test_a_bundle_without_a_record_is_taken_in(run_home: Paths) -> None:
    """A crash between a bundle's archive and its record loses nothing, even when the warehouse is lost as well."""
    with writing(run_home) as con:
        row = con.execute("SELECT sha256 FROM bundles LIMIT 1").fetchone()
        con.execute("DELETE FROM trials WHERE bundle_sha256 = ?", row)
        con.execute("DELETE FROM bundles WHERE sha256 = ?", row)
    run_home.warehouse.unlink()
    done = rebuild(run_home, Store.configured(run_home))
    assert (done.found, done.lost, done.aside) == (1, [], [])


def test_records_of_an_older_schema_are_brought_forward(run_home: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update the records still fit: migrations that came later are applied on top of them, as they would have been."""
    newer = [
        *migrations(),
        Migration(len(migrations()) + 1, "9999_x.sql", "ALTER TABLE runs ADD COLUMN note VARCHAR DEFAULT 'none'"),
    ]
    run_home.warehouse.unlink()
    monkeypatch.setattr("warehouse.database.connection.migrations", lambda: newer)
    monkeypatch.setattr("warehouse.maintenance.rebuild.migrations", lambda: newer)
    rebuild(run_home, Store.configured(run_home))
    with duckdb.connect(str(run_home.warehouse), read_only=True) as con:
        assert con.execute("SELECT note FROM runs").fetchall() == [("none",)]
        assert con.execute("SELECT count(*) FROM schema_migrations").fetchone() == (len(newer),)


def test_only_what_changed_is_written_again(run_home: Paths) -> None:
    """A run of thousands of units must not rewrite its records with each of them; what is gone from the warehouse goes here."""

    def times() -> dict[str, int]:
        return {str(p.relative_to(run_home.records)): p.stat().st_mtime_ns for p in run_home.records.rglob("*.parquet")}

    before = times()
    with writing(run_home) as con:
        con.execute("UPDATE runs SET dirty = NOT dirty")
    after = times()
    assert {name for name in after if after[name] != before.get(name)} == {
        n for n in after if n.endswith("/runs.parquet")
    }
    with writing(run_home) as con:
        run_id, plan_id = con.execute("SELECT run_id, plan_id FROM runs").fetchone() or ("", "")
        records.forget_run(con, run_id, plan_id)
    assert not any(name.startswith(run_id) for name in times())


def test_a_damaged_file_of_records_is_not_believed(run_home: Paths) -> None:
    """A rebuild without the warehouse says what it could not bring back instead of taking half a file."""
    _, files = record_files.read_index(run_home)
    name = next(n for n, saved in files.items() if saved.table == "verdicts")
    path = run_home.records / name
    path.write_bytes(path.read_bytes()[:-10])
    run_home.warehouse.unlink()
    done = rebuild(run_home, Store.configured(run_home))
    assert done.lost == [f"records/{name}: its content is not what was written"]
    assert done.rows["verdicts"] == 0
    assert done.rows["trials"] > 0


def test_runs_with_odd_names_stay_inside_the_folder(tmp_path: Path) -> None:
    """A run's name becomes a folder; one with a path in it, or that of the common rows, goes by its hash and comes back."""
    paths = Paths(tmp_path / "home")
    names = ["../../up", "common", "a/b", "plain-1", "", "é"]
    with writing(paths) as con:
        for name in names:
            durations.save_prediction(con, name, "p1", 1.5)
    assert {p.name for p in tmp_path.iterdir()} == {"home"}
    folders = {p.parent.name for p in paths.records.rglob("predictions.parquet")}
    assert len(folders) == len(names)
    assert "plain-1" in folders
    assert sum(pq.read_metadata(p).num_rows for p in paths.records.rglob("predictions.parquet")) == len(names)
    paths.warehouse.unlink()
    rebuild(paths, Store(paths.home / "results", paths.spool, paths.bundles))
    with writing(paths) as con:
        assert sorted(r for (r,) in con.execute("SELECT run_id FROM predictions").fetchall()) == sorted(names)


def test_an_index_that_names_a_path_is_refused(run_home: Paths) -> None:
    """Whoever can write the index must not make a rebuild read files from elsewhere."""
    path = run_home.records / record_files.INDEX
    content = json.loads(path.read_bytes())
    content["files"]["../../x.parquet"] = next(iter(content["files"].values()))
    path.write_text(json.dumps(content))
    run_home.warehouse.unlink()
    with pytest.raises(LabError, match="cannot be read"):
        rebuild(run_home, Store.configured(run_home))


def test_a_clock_that_goes_back_a_day_changes_no_order(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first bundle of a unit counts, and stays the one that counts after a rebuild, whatever the coordinator's clock said."""

    class WrongClock(datetime):
        days = 0

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=cls.days)

    monkeypatch.setattr("warehouse.ingest.collector.datetime", WrongClock)
    plan(paths, "a", "b")
    for WrongClock.days, attempt in ((1, 1), (-1, 2), (0, 3)):
        for label in ("a", "b"):
            put(store.inbox, label, attempt)
        assert collect(paths, store).ingested == 2
    asked = "SELECT unit_id, attempt, replicate FROM bundles ORDER BY unit_id, attempt"
    before = query(paths, asked)
    assert [(attempt, replicate) for _, attempt, replicate in before] == [(1, 0), (2, 1), (3, 2)] * 2
    assert rebuild(paths, store).lost == [] and query(paths, asked) == before
