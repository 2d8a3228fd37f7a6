"""Keeping the memory: backups that prove themselves, cleaning that spares what counts, exports, and the schema in words."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from test_rebuild import repeat, rows_of
from test_verify import verified

from common.errors import LabError
from docs.generate import schema
from docs.generate.schema_descriptions import COLUMNS, SPECIAL, TABLES
from warehouse.database.connection import migrate, writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.backup import backup
from warehouse.maintenance.clean import age_of, removable, remove, sizes
from warehouse.maintenance.restore import restore
from warehouse.paths import Paths
from warehouse.queries.export import export

ROOT = Path(__file__).resolve().parents[3]


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """An empty home on what could be another machine."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "other"))
    return Paths(tmp_path / "other")


def test_a_backup_restored_into_an_empty_folder_is_the_same(
    run_home: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file is enough for the whole memory: every row, what waits in the spool, what was refused, and all verifies."""
    store = Store.configured(run_home)
    job = store.put_file(b"a job")
    repeat(run_home, "mac", 2)
    (store.inbox / "junk").write_bytes(b"junk")
    collect(run_home, store)
    run_home.spool.mkdir(exist_ok=True)
    waits = run_home.spool / f"{'1' * 32}.{'2' * 64}.parquet"
    waits.write_bytes(b"waits")
    before = rows_of(run_home)
    done = backup(run_home, store, tmp_path / "b.tar")
    assert done.bundles == len(before["bundles"])
    assert [p.name for p in tmp_path.glob("*.tar")] == ["b.tar"]
    paths = elsewhere(tmp_path, monkeypatch)
    _, files, rebuilt = restore(paths, Store.configured(paths), str(tmp_path / "b.tar"))
    assert (files, rebuilt.lost) == (done.files, [])
    after = rows_of(paths)
    assert after == before
    assert (paths.spool / waits.name).read_bytes() == b"waits"
    assert (paths.quarantine / "junk").read_bytes() == b"junk"
    assert Store.configured(paths).get_file(job) == b"a job"
    assert verified(paths).faults == []
    assert not list(paths.home.glob(".part-*")) and not (paths.home / "restoring.json").exists()


def test_keys_are_in_no_backup(run_home: Paths, tmp_path: Path) -> None:
    """A backup may lie on a shared disk; whoever reads it must not be able to sign results."""
    from warehouse.delivery import signing

    key = signing.add_key(run_home, "pi-4").read_text().strip()
    backup(run_home, Store.configured(run_home), tmp_path / "b.tar")
    assert key.encode() not in (tmp_path / "b.tar").read_bytes()


def test_a_restore_touches_no_memory_that_is_there(run_home: Paths, tmp_path: Path) -> None:
    """Restoring over a warehouse would mix two; and no backup is overwritten by another."""
    target = tmp_path / "b.tar"
    backup(run_home, Store.configured(run_home), target)
    before = rows_of(run_home)
    with pytest.raises(LabError, match="exists already") as refused:
        restore(run_home, Store.configured(run_home), str(target))
    assert refused.value.mend == f"LAB_HOME=/an/empty/folder lab restore {target}"
    assert rows_of(run_home) == before
    with pytest.raises(LabError, match="exists already"):
        backup(run_home, Store.configured(run_home), target)


def test_a_restore_that_was_interrupted_is_begun_anew(
    run_home: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a restore must neither pass for a whole one nor stand in the way."""
    backup(run_home, Store.configured(run_home), tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "half.tar").write_bytes(whole[: len(whole) * 2 // 3])
    paths = elsewhere(tmp_path, monkeypatch)
    with pytest.raises(LabError, match=r"not whole|missing|cut off"):
        restore(paths, Store.configured(paths), str(tmp_path / "half.tar"))
    assert not paths.warehouse.exists()
    restore(paths, Store.configured(paths), str(tmp_path / "b.tar"))
    assert rows_of(paths) == rows_of(run_home)


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], list[tuple[tarfile.TarInfo, bytes]]]


def member(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def listing(*names: str) -> tuple[tarfile.TarInfo, bytes]:
    """A list that names these files, each with the content x."""
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    files = [{"name": n, "sha256": digest, "size_bytes": 1} for n in names]
    return member("list.json", json.dumps({"format": 1, "files": files}).encode())


HOSTILE: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "a path upwards": ([listing("bundles/../../x"), member("bundles/../../x")], "which no backup has"),
    "an absolute path": ([listing("/x"), member("/x")], "which no backup has"),
    "keys": ([listing("keys/pi-4.key"), member("keys/pi-4.key")], "which no backup has"),
    "the warehouse itself": ([listing("warehouse.duckdb"), member("warehouse.duckdb")], "which no backup has"),
    "not in the list": ([listing(), member("hosts/capability_report_a.json")], "not in its list"),
    "a link": (
        [listing("quarantine/a"), member("quarantine/a", kind=tarfile.SYMTYPE, link="/etc/passwd")],
        r"not in its list|not a plain file",
    ),
    "a device": (
        [listing("quarantine/a"), member("quarantine/a", kind=tarfile.CHRTYPE)],
        r"not in its list|not a plain file",
    ),
    "other content": ([listing("quarantine/a"), member("quarantine/a", b"y")], "not the listed one"),
    "a file twice": ([listing("quarantine/a"), member("quarantine/a"), member("quarantine/a")], "not in its list"),
    "a file missing": ([listing("quarantine/a")], "1 files are missing"),
    "a file under another hash": (
        [listing(f"files/{'0' * 64}"), member(f"files/{'0' * 64}")],
        "not the one in its name",
    ),
    "no list": ([member("quarantine/a")], "does not begin with its list"),
    "a list that is none": ([member("list.json", b"[1]")], "does not begin with its list"),
    "a newer format": ([member("list.json", b'{"format": 9, "files": []}')], "has format 9"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_backup_writes_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A backup may come from anybody: names that lead elsewhere, links, devices and content that differs are refused."""
    members, reason = HOSTILE[what]
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    paths = elsewhere(tmp_path, monkeypatch)
    with pytest.raises(LabError, match=reason):
        restore(paths, Store.configured(paths), str(tmp_path / "b.tar"))
    assert {p.name for p in tmp_path.iterdir()} <= {"b.tar", "other"}
    assert not paths.warehouse.exists()
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


def age(paths: Paths, days: int) -> None:
    """Everything in the home, and every bundle's arrival, is `days` older."""
    with writing(paths) as con:
        con.execute(f"UPDATE bundles SET received_at = received_at - INTERVAL {days} DAY")
    for path in paths.home.rglob("*"):
        if path.is_file() and path.name != "warehouse.duckdb":
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - days * 86400))


def test_cleaning_spares_what_a_verdict_rests_on(run_home: Paths) -> None:
    """Refused files, leftovers, jobs and undecided results go when they are old; results behind a verdict stay, with it
    provable, and go by force alone."""
    store = Store.configured(run_home)
    adapter, job = b"weights", store.put_file(b"a job")
    (store.inbox / "junk").write_bytes(b"junk")
    collect(run_home, store)
    (run_home.spool / ".part-dead").write_bytes(b"half")
    run_home.embeddings.write_bytes(b"vectors")
    with writing(run_home) as con:
        con.execute("INSERT INTO files VALUES (?, (SELECT max(unit_id) FROM units), 'a', 7)", [store.put_file(adapter)])
        bundles = con.execute("SELECT count(*) FROM bundles").fetchone()
        assert removable(con, run_home, store, timedelta(days=30)) == []
    age(run_home, 40)
    with writing(run_home) as con:
        found = removable(con, run_home, store, timedelta(days=30))
        assert sorted({r.kind for r in found}) == ["embeddings", "file", "leftover", "quarantine"]
        assert {r.path.name for r in found} == {"junk", "junk.reason.txt", ".part-dead", job, run_home.embeddings.name}
        remove(con, found)
        assert con.execute("SELECT count(*) FROM bundles").fetchone() == bundles
        assert removable(con, run_home, store, timedelta(days=30)) == []
        con.execute("DELETE FROM files")
    assert verified(run_home).faults == []
    with writing(run_home) as con:
        forced = removable(con, run_home, store, timedelta(days=30), force=True)
        assert {r.kind for r in forced} >= {"bundle"}
        assert all("the verdict of smoke-" in r.why for r in forced if r.kind == "bundle")
        con.execute("CREATE TEMP TABLE decided AS FROM verdicts")
        con.execute("DELETE FROM verdicts")
        undecided = removable(con, run_home, store, timedelta(days=30))
        assert sum(r.kind == "bundle" for r in undecided) == (bundles or (0,))[0]
        remove(con, undecided)
        assert con.execute("SELECT (SELECT count(*) FROM bundles), (SELECT count(*) FROM trials)").fetchone() == (0, 0)
        assert con.execute("SELECT count(*) FROM attempt_counts").fetchone() == (0,)
    assert list(run_home.bundles.glob("*.parquet")) == []
    assert verified(run_home, deep=False).faults == []


def test_a_unit_with_a_young_repeat_keeps_all_its_bundles(run_home: Paths) -> None:
    """Half of a comparison is none: the old bundle of a unit goes only with its last one."""
    age(run_home, 40)
    repeat(run_home, "mac", 2)
    with writing(run_home) as con:
        con.execute("DELETE FROM verdicts")
        units = con.execute("SELECT unit_id FROM bundles GROUP BY 1 HAVING count(*) > 1").fetchall()
        gone = {
            r.path.name.split(".")[0] for r in removable(con, run_home, Store.configured(run_home), timedelta(days=30))
        }
    assert len(units) == 1
    assert units[0][0] not in gone


@pytest.mark.parametrize(("text", "hours"), [("30d", 720), ("12h", 12), ("4w", 672)])
def test_ages_are_read_as_people_write_them(text: str, hours: int) -> None:
    """A wrong unit would clean away a month too much."""
    assert age_of(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "30", "d", "-3d", "3 d", "3m", "1e3d", "30d30d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    """Nothing is cleaned by a guess at what was meant."""
    with pytest.raises(LabError, match="is not an age"):
        age_of(text)


def test_sizes_name_every_part(run_home: Paths) -> None:
    """The user sees at once which part fills the disk; a missing part takes nothing."""
    found = sizes(run_home, Store.configured(run_home))
    assert found["bundles"] == sum(p.stat().st_size for p in run_home.bundles.iterdir())
    assert found["warehouse"] == run_home.warehouse.stat().st_size
    assert found["quarantine"] == 0
    assert min(found[part] for part in ("snapshot", "records")) > 0
    assert set(found) >= {"spool", "inbox", "files", "embeddings", "models", "backups", "logs"}


def test_every_view_is_exported_in_every_format_with_all_its_rows(run_home: Paths, tmp_path: Path) -> None:
    """Other programs get what readers see: the same rows and columns, missing values missing."""
    with duckdb.connect(str(run_home.snapshot), read_only=True) as con:
        wanted = {name: con.execute(f"SELECT count(*) FROM {name}").fetchone() for name in schema.columns(con)}
        columns = {name: list(names) for name, names in schema.columns(con).items()}
        (low,) = con.execute("SELECT low FROM phase_metrics WHERE low IS NOT NULL LIMIT 1").fetchone() or (None,)
    assert low is not None
    for name, count in wanted.items():
        target = tmp_path / f"{name}.parquet"
        assert (export(run_home, name, target, "parquet"),) == count
        assert pq.read_schema(target).names == columns[name]
    csv_file, json_file = tmp_path / "m.csv", tmp_path / "m.json"
    n = export(run_home, "phase_metrics", csv_file, "csv")
    assert export(run_home, "phase_metrics", json_file, "json") == n > 0
    rows = list(csv.DictReader(io.StringIO(csv_file.read_text())))
    listed = json.loads(json_file.read_text())
    assert [list(r) for r in rows] == [columns["phase_metrics"]] * n
    assert [r["metric"] for r in rows] == [r["metric"] for r in listed]
    assert any(r["low"] is None for r in listed) and any(r["low"] == "" for r in rows)
    assert low in [r["low"] for r in listed] and low in [float(r["low"]) for r in rows if r["low"]]
    assert not list(tmp_path.glob(".part-*"))


def test_an_export_of_one_run_and_what_is_refused(run_home: Paths, tmp_path: Path) -> None:
    """A name is never put into a query unless the catalogue has it, and mistakes say what there is."""
    with duckdb.connect(str(run_home.snapshot), read_only=True) as con:
        (run_id,) = con.execute("SELECT run_id FROM runs").fetchone() or ("",)
    target = tmp_path / "it's.csv"
    assert export(run_home, "gate_history", target, "csv", run_id) == 1
    assert target.is_file()
    for name, run, answer in (
        ("runs; DROP TABLE runs", None, "there is no view"),
        ("duckdb_settings()", None, "there is no view"),
        ("gate_history", "x' OR '1'='1", "there is no run"),
        ("plans", run_id, "no column run_id"),
    ):
        with pytest.raises(LabError, match=answer):
            export(run_home, name, tmp_path / "x.csv", "csv", run)
    with pytest.raises(LabError, match="no folder"):
        export(run_home, "runs", tmp_path / "missing" / "x.csv", "csv")
    run_home.snapshot.unlink()
    with pytest.raises(LabError, match="no snapshot"):
        export(run_home, "runs", tmp_path / "x.csv", "csv")
    assert not (tmp_path / "x.csv").exists()


def test_the_schema_page_is_that_of_the_migrations() -> None:
    """docs/schema.md describes the tables that are really there; `python -m docs.generate.schema` makes it anew."""
    with duckdb.connect() as con:
        migrate(con)
        assert (ROOT / "docs" / "schema.md").read_text() == schema.page(con)


def test_every_column_has_its_sentence_and_no_sentence_is_left_over() -> None:
    """A column without words is one that nobody can use; words without a column speak of something that is gone."""
    with duckdb.connect() as con:
        migrate(con)
        known = schema.columns(con)
    assert set(TABLES) == set(known)
    named = {(table, column) for table, names in known.items() for column in names}
    assert {column for _, column in named} - set(COLUMNS) - {s.partition(".")[2] for s in SPECIAL} == set()
    assert {tuple(s.split(".")) for s in SPECIAL} <= named
    assert set(COLUMNS) <= {column for table, column in named if f"{table}.{column}" not in SPECIAL}
    for sentence in [*TABLES.values(), *COLUMNS.values(), *SPECIAL.values()]:
        assert sentence.endswith(".")
