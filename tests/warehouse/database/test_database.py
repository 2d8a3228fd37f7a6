"""The warehouse's file: migrated once, written by one process at a time, read through snapshots."""

from __future__ import annotations

import os
import subprocess
import sys

import duckdb
import pytest

from common.errors import LabError
from warehouse.database import connection
from warehouse.database.connection import Migration, migrate, migrations, schema_version, writing
from warehouse.paths import Paths

HOLD = """
import sys
from pathlib import Path
from warehouse.database.connection import writing
from warehouse.paths import Paths
with writing(Paths(Path(sys.argv[1]))) as con:
    con.execute("INSERT INTO quarantine VALUES ('held', 'x', 1, now())")
    print("held", flush=True)
    sys.stdin.readline()
"""


def _write_and_fail(con: duckdb.DuckDBPyConnection) -> None:
    con.begin()
    con.execute("INSERT INTO quarantine VALUES ('a', 'x', 1, now())")
    raise ZeroDivisionError


def test_a_fresh_warehouse_has_every_table_of_the_design(paths: Paths) -> None:
    """The first opening makes the tables and views that readers and records rest on, and opening again changes none."""
    for _ in range(2):
        with writing(paths) as con:
            assert schema_version(con) == len(migrations())
            tables = {t for (t,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
            views = {v for (v,) in con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
            assert con.execute("SELECT count(*) FROM schema_migrations").fetchone() == (len(migrations()),)
            assert con.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)
    wanted = "plans runs hosts units bundles trials files metrics verdicts quarantine predictions".split()
    assert tables >= set(wanted)
    assert views >= {"phase_metrics", "host_comparison", "gate_history", "counted_trials"}
    with duckdb.connect() as con:
        assert schema_version(con) == 0


def test_migrations_are_numbered_without_a_gap() -> None:
    """Two files with one number, or a hole, would be applied in an order nobody meant."""
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_newer_warehouse_is_refused_with_the_command_that_mends(paths: Paths) -> None:
    """Old code on a new warehouse stops before it writes, and says what to do."""
    with writing(paths) as con:
        con.execute("INSERT INTO schema_migrations VALUES (99, '0099_x.sql', 'x', now())")
    with pytest.raises(LabError, match="has schema 99, this version knows") as refused, writing(paths):
        pass
    assert "git pull && make setup" in refused.value.mend


def test_a_changed_migration_is_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was edited after it was applied is an error, not a silent difference between two warehouses."""
    with writing(paths):
        pass
    changed = [m._replace(sql=f"{m.sql}\n-- later thought") for m in migrations()]
    monkeypatch.setattr(connection, "migrations", lambda: changed)
    with pytest.raises(LabError, match=r"0001_first\.sql was changed"), writing(paths):
        pass


def test_a_migration_that_fails_half_way_leaves_nothing_behind(paths: Paths) -> None:
    """The file's statements and its record are one transaction: after the fault is mended it applies from the start."""
    first = Migration(1, "0001_a.sql", "CREATE TABLE a (x INTEGER);")
    broken = Migration(2, "0002_b.sql", "CREATE TABLE b (x INTEGER); INSERT INTO b VALUES (1); SELECT * FROM missing;")
    mended = Migration(2, "0002_b.sql", "CREATE TABLE b (x INTEGER); INSERT INTO b VALUES (1);")
    paths.home.mkdir()
    with duckdb.connect(str(paths.warehouse)) as con:
        with pytest.raises(duckdb.CatalogException):
            migrate(con, [first, broken])
        assert schema_version(con) == 1
    with duckdb.connect(str(paths.warehouse)) as con:
        migrate(con, [first, mended])
        assert schema_version(con) == 2
        assert con.execute("SELECT count(*) FROM b").fetchone() == (1,)


def test_attempts_of_earlier_versions_become_numbers() -> None:
    """Whole attempts stay as they are, and the first guess was right where one sufficed; a failed trial has neither."""
    with duckdb.connect() as con:
        migrate(con, migrations()[:10])
        for attempts in (1, 3, None):
            con.execute(
                "INSERT INTO trials (bundle_sha256, unit_id, host, ordinal, problem_id, condition, attempts) "
                "VALUES ('b', 'u', 'h', 0, 'p', 'none', ?)",
                [attempts],
            )
        con.execute("INSERT INTO attempt_counts VALUES (1, 'none', 1, true, false, 4), (1, 'none', 3, true, false, 2)")
        con.execute(
            "INSERT INTO problem_results VALUES (1, 'none', 'p', 'a', 1.0, NULL, NULL), (1, 'none', 'q', 'a', 2.5, NULL, 9)"
        )
        migrate(con)
        assert con.execute("SELECT attempts, first_right FROM trials ORDER BY 1").fetchall() == [
            (1.0, 1),
            (3.0, 0),
            (None, None),
        ]
        assert con.execute("SELECT attempts, first_right FROM attempt_counts ORDER BY 1").fetchall() == [(1, 4), (3, 0)]
        assert con.execute("SELECT first_right FROM problem_results ORDER BY problem_id").fetchall() == [(1,), (0,)]
        con.execute("SELECT first_right FROM counted_trials")


def test_killed_inside_a_migration_the_next_opening_applies_it(paths: Paths) -> None:
    """A process that dies between a migration's statements and its record leaves the state before it."""
    paths.home.mkdir()
    script = f"""
import os, duckdb
from warehouse.database.connection import migrations
con = duckdb.connect({str(paths.warehouse)!r})
con.begin()
con.execute(migrations()[0][2])
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with writing(paths) as con:
        assert schema_version(con) == len(migrations())


def test_an_error_inside_rolls_back_and_publishes_nothing(paths: Paths) -> None:
    """After a failed writer its uncommitted rows are gone, its lock is free, and readers still have their snapshot."""
    with writing(paths, publish=True):
        pass
    before = paths.snapshot.stat().st_ino
    with pytest.raises(ZeroDivisionError), writing(paths, publish=True) as con:
        _write_and_fail(con)
    assert paths.snapshot.stat().st_ino == before
    with writing(paths, wait_s=0) as con:
        assert con.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)


def test_one_writer_at_a_time_and_readers_through_the_snapshot(paths: Paths) -> None:
    """A second writer learns which process holds the warehouse; a reader opens the snapshot meanwhile; a killed
    holder blocks nobody, and what it had committed is there."""
    with writing(paths, publish=True):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(paths.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(LabError, match=f"held by process {holder.pid} "), writing(paths, wait_s=0.2):
                pass
            with duckdb.connect(str(paths.snapshot), read_only=True) as con:
                assert con.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
        finally:
            holder.kill()
    with writing(paths, publish=True) as con:
        assert con.execute("SELECT name FROM quarantine").fetchall() == [("held",)]
    with duckdb.connect(str(paths.snapshot), read_only=True) as con:
        assert con.execute("SELECT name FROM quarantine").fetchall() == [("held",)]


def test_a_warehouse_open_in_another_program_is_named(paths: Paths) -> None:
    """Someone who opened the file itself with DuckDB is asked to open the snapshot, not shown a traceback."""
    with writing(paths):
        pass
    script = f"import duckdb, sys; c = duckdb.connect({str(paths.warehouse)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout
            other.stdout.readline()
            with pytest.raises(LabError, match="cannot be opened") as refused, writing(paths):
                pass
            assert str(paths.snapshot) in refused.value.mend
        finally:
            other.kill()


def test_a_reader_keeps_its_snapshot_while_a_new_one_is_published(paths: Paths) -> None:
    """The rename replaces the name, not the file under an open reader; and half a copy of a dead process is removed."""
    with writing(paths, publish=True):
        pass
    left = paths.home / ".part-left"
    left.write_bytes(b"half a copy")
    with duckdb.connect(str(paths.snapshot), read_only=True) as reader:
        with writing(paths, publish=True) as con:
            con.execute("INSERT INTO quarantine VALUES ('new', 'x', 1, now())")
        assert reader.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
    with duckdb.connect(str(paths.snapshot), read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM quarantine").fetchone() == (1,)
    assert not left.exists()
    assert not os.path.lexists(f"{paths.snapshot}.wal")


def test_an_older_warehouse_is_kept_aside_before_it_is_migrated(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that goes wrong, or is regretted, must not cost months of trials: the copy opens with the older version."""
    older = migrations()[:2]
    with monkeypatch.context() as patch:
        patch.setattr(connection, "migrations", lambda: older)
        with connection.locked(paths), connection.open_warehouse(paths) as con:
            con.execute("INSERT INTO quarantine VALUES ('kept', 'x', 1, now())")
    assert not paths.backups.exists()
    for _ in range(2):
        with writing(paths) as con:
            assert schema_version(con) == len(migrations())
            assert con.execute("SELECT name FROM quarantine").fetchall() == [("kept",)]
    (copy,) = paths.backups.iterdir()
    assert copy.name == "warehouse-schema-0002.duckdb"
    with duckdb.connect(str(copy), read_only=True) as con:
        assert schema_version(con) == 2
        assert con.execute("SELECT name FROM quarantine").fetchall() == [("kept",)]


def test_without_room_for_the_copy_nothing_is_migrated(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is the likeliest moment for a migration to fail half way."""
    older = migrations()[:2]
    with monkeypatch.context() as patch:
        patch.setattr(connection, "migrations", lambda: older)
        with connection.locked(paths), connection.open_warehouse(paths):
            pass
    paths.backups.write_text("a file where the folder should be")
    with pytest.raises(FileExistsError), writing(paths):
        pass
    with duckdb.connect(str(paths.warehouse), read_only=True) as con:
        assert schema_version(con) == 2
