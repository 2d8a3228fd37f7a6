"""What a stranger, or a broken machine, puts into the inbox: taken in whole or quarantined with its reason, nothing else touched."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_values import TEXTS, deep, fingerprint, texts, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.canonical_json import canonical
from experiments.contract import Attachment, Trial, Unit
from warehouse.database.connection import writing
from warehouse.database.records import save_units
from warehouse.delivery import reading
from warehouse.delivery.bundles import FIELDS, SCHEMA, write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.ingest.outcome import Collected
from warehouse.paths import Paths

NOW = datetime(2026, 11, 24, tzinfo=UTC)
UNIT = Unit("a" * 32, "p1", 1, {}, {}, {"code": "c", "data": "d", "models": {}})
many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class Stand:
    """An open warehouse with one planned unit, and a neighbour's file that nobody may touch."""

    paths: Paths
    store: Store
    con: duckdb.DuckDBPyConnection
    root: Path

    def rows(self) -> dict[str, int]:
        names = [n for (n,) in self.con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()]
        return {n: (self.con.execute(f'SELECT count(*) FROM "{n}"').fetchone() or (0,))[0] for n in names}

    def outside(self) -> dict[str, str]:
        """All files but those that the collector is there to write."""
        return fingerprint(self.root, frozenset({"home"})) | fingerprint(
            self.paths.home, frozenset({"results", "quarantine", "bundles", "warehouse.duckdb", "warehouse.duckdb.wal"})
        )

    def collect(self) -> Collected:
        """One collection, after which the inbox is empty and nothing but bundles, trials, files and quarantine changed."""
        before, outside = self.rows(), self.outside()
        taken = collect(self.paths, self.store, self.con)
        after = self.rows()
        assert list(self.store.inbox.iterdir()) == [] and taken.left == []
        assert self.outside() == outside
        for name, n in before.items():
            assert after[name] == n or (
                after[name] > n and name in ("bundles", "trials", "files", "quarantine", "pair_agreement")
            )
        assert after["quarantine"] - before["quarantine"] == len(taken.quarantined)
        for _, reason in taken.quarantined:
            assert reason and len(reason) < 1000
        return taken


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    root = tmp_path_factory.mktemp("hostile")
    (root / "neighbour").mkdir()
    (root / "neighbour" / "precious").write_text("untouched")
    paths = Paths(root / "home")
    store = Store(paths.home / "results", paths.spool, paths.bundles)
    store.inbox.mkdir(parents=True)
    with writing(paths) as con:
        save_units(con, "run", "p1", [UNIT])
        yield Stand(paths, store, con, root)


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "unit_id": UNIT.unit_id,
        "phase": "p1",
        "host": "pi-4",
        "attempt": 1,
        "schema_version": 1,
        "n_trials": 1,
        "started_at": NOW.isoformat(),
        "finished_at": NOW.isoformat(),
        "provenance": {"identity": UNIT.identity},
        "attachments": [],
    } | changes


def put(stand: Stand, content: bytes, unit: str = UNIT.unit_id) -> Path:
    """Content under the name that a bundle with it would have."""
    path = stand.store.inbox / f"{unit}.{hashlib.sha256(content).hexdigest()}.parquet"
    path.write_bytes(content)
    return path


def parquet(told: bytes | None, rows: list[dict[str, Any]], **how: Any) -> bytes:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({} if told is None else {"manifest": told}),
        sink,
        **({"compression": "zstd", "use_dictionary": False} | how),
    )
    return bytes(sink.getvalue())


def row(**changes: Any) -> dict[str, Any]:
    return (
        dict.fromkeys(SCHEMA.names) | {"ordinal": 0, "problem_id": "x", "condition": "none", "details": "{}"} | changes
    )


def test_the_stand_takes_a_good_bundle(stand: Stand) -> None:
    """All cases below would pass on a stand that refuses everything."""
    put(stand, parquet(canonical(manifest()).encode(), [row()]))
    assert stand.collect().ingested == 1


@many
@given(st.dictionaries(st.sampled_from(sorted(manifest())), values, min_size=1, max_size=3))
def test_a_manifest_of_anything_is_judged(stand: Stand, changes: dict[str, Any]) -> None:
    """Its fields become names of files, hosts and rows: traversal, SQL, wrong types, sizes and NaN are among them."""
    told = manifest(**changes)
    try:
        content = canonical(told).encode()
    except (ValueError, RecursionError):
        content = json.dumps(told).encode(errors="surrogatepass")
    put(stand, parquet(content, [row()]))
    taken = stand.collect()
    assert taken.ingested + taken.known + len(taken.quarantined) == 1


@many
@given(st.dictionaries(st.sampled_from([*FIELDS, "ordinal", "details", "attachment"]), values, min_size=1, max_size=3))
def test_trials_of_anything_are_judged(stand: Stand, changes: dict[str, Any]) -> None:
    """Answers and problem ids are another machine's text; SQL in them is text, and what no column can hold is refused."""
    try:
        content = parquet(canonical(manifest()).encode(), [row(**changes)])
    except (pa.ArrowException, TypeError, OverflowError, ValueError):
        return  # no such file can be written at all
    put(stand, content)
    taken = stand.collect()
    assert taken.ingested + taken.known + len(taken.quarantined) == 1


@many
@given(st.binary(max_size=300), st.integers(0, 3000), st.sampled_from(["replace", "insert", "cut", "alone"]))
def test_bytes_of_anything_are_judged(stand: Stand, noise: bytes, at: int, how: str) -> None:
    """Torn, altered and random files under a right name: readers of binary formats crash on these, or read past their end."""
    whole = parquet(canonical(manifest()).encode(), [row(answer="y")])
    at %= len(whole)
    content = {
        "replace": whole[:at] + noise + whole[at + len(noise) :],
        "insert": whole[:at] + noise + whole[at:],
        "cut": whole[:at],
        "alone": noise,
    }[how]
    put(stand, content)
    taken = stand.collect()
    assert taken.ingested + taken.known + len(taken.quarantined) == 1


@many
@given(texts, st.sampled_from(["file", "link out", "link to itself", "folder", "pipe"]))
def test_entries_of_any_name_and_kind_are_quarantined(stand: Stand, name: str, kind: str) -> None:
    """A link is not followed, a pipe not waited for, and a name of another machine never becomes a path of this one."""
    raw = os.fsencode(name.encode("utf-8", "surrogatepass"))[:200].replace(b"/", b"_").replace(b"\x00", b"_")
    if raw in (b"", b".", b"..") or raw.startswith(b".part-"):
        raw = b"x"
    path = stand.store.inbox / os.fsdecode(raw)
    if kind == "file":
        path.write_bytes(b"content")
    elif kind == "link out":
        path.symlink_to(stand.root / "neighbour" / "precious")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
        (path / "inside").write_text("content")
    else:
        os.mkfifo(path)
    taken = stand.collect()
    assert len(taken.quarantined) == 1 and taken.ingested == 0
    assert not [p for p in stand.paths.quarantine.rglob("*") if p.is_symlink()]


@pytest.mark.parametrize("name", TEXTS, ids=range(len(TEXTS)))
def test_an_attachment_is_never_stored_under_its_own_name(stand: Stand, name: str) -> None:
    """Attachments lie under their SHA-256; a name is shown to people only, and one that is a path is refused."""
    content = os.urandom(40)
    sha256 = hashlib.sha256(content).hexdigest()
    told = manifest(attachments=[{"name": name, "sha256": sha256, "size_bytes": len(content)}])
    rows = [row(), row(ordinal=-1, problem_id=None, condition=None, details=None, attachment=content)]
    try:
        written = canonical(told).encode()
    except ValueError:
        written = json.dumps(told).encode()
    put(stand, parquet(written, rows))
    before = fingerprint(stand.store.root / "files") if (stand.store.root / "files").is_dir() else {}
    taken = stand.collect()
    after = fingerprint(stand.store.root / "files") if (stand.store.root / "files").is_dir() else {}
    assert set(after) - set(before) == ({sha256} if taken.ingested else set())


def _zeros(n: int) -> list[dict[str, Any]]:
    return [row(answer="0" * n)]


# Bounds of a thirtieth and a hundredth, so that bombs of that size tell the same; what is read, and in which order, is the product's.
PLAIN, ROWS = reading.MAX_PLAIN_BYTES // 30, reading.MAX_ROWS // 100
BOMBS = {
    "one value that grows": lambda: parquet(canonical(manifest()).encode(), _zeros(PLAIN + 1)),
    "gzip inside Parquet": lambda: parquet(canonical(manifest()).encode(), _zeros(PLAIN + 1), compression="gzip"),
    "a dictionary of one value for many rows": lambda: parquet(
        canonical(manifest(n_trials=ROWS)).encode(),
        [row(ordinal=i, answer="0" * 2000) for i in range(ROWS)],
        use_dictionary=True,
    ),
    "more rows than a unit has": lambda: parquet(canonical(manifest()).encode(), [row()] * (ROWS + 1)),
    "a gzip file": lambda: gzip.compress(b"0" * 2**22),
    "details deeper than a reader": lambda: parquet(
        canonical(manifest()).encode(), [row(details='{"a":' + "[" * 50_000 + "]" * 50_000 + "}")]
    ),
    "a manifest deeper than a reader": lambda: parquet(b"[" * 100_000, [row()]),
    "a manifest of 2 MB": lambda: parquet(canonical(manifest(host="a" * (2 * 2**20))).encode(), [row()]),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_in_quarantine(stand: Stand, bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kilobytes that become gigabytes would end the collector for want of memory, at each start again."""
    monkeypatch.setattr(reading, "MAX_PLAIN_BYTES", PLAIN)
    monkeypatch.setattr(reading, "MAX_ROWS", ROWS)
    path = put(stand, BOMBS[bomb]())
    assert path.stat().st_size < PLAIN / 4
    assert len(stand.collect().quarantined) == 1


def test_what_nobody_planned_leaves_no_file(stand: Stand) -> None:
    """Attachments of a bundle that is refused would fill the disk, one upload after another."""
    stranger = Unit("b" * 32, "p1", 1, {}, {}, {"code": "c", "data": "d", "models": {}})
    content = os.urandom(100)
    file = Attachment("a.safetensors", hashlib.sha256(content).hexdigest(), content)
    write_bundle(
        stand.store.inbox,
        stranger,
        [Trial("x", "none", details={})],
        [file],
        host="pi-4",
        attempt=1,
        started_at=NOW,
        finished_at=NOW,
        provenance={"identity": stranger.identity},
    )
    assert len(stand.collect().quarantined) == 1
    assert not (stand.store.root / "files" / file.sha256).exists()


@many
@given(texts, values, st.sampled_from(["json", "bytes", "link", "deep", "large"]))
def test_reports_of_anything_are_judged(stand: Stand, host: str, said: Any, kind: str) -> None:
    """A report's file name is a host's name, and its content becomes a row; what is none is quarantined and not a host."""
    folder = stand.store.root / "hosts"
    folder.mkdir(exist_ok=True)
    safe = host.encode("utf-8", "surrogatepass")[:120].replace(b"/", b"_").replace(b"\x00", b"_")
    path = folder / f"capability_report_{os.fsdecode(safe)}.json"
    content = {
        "json": json.dumps({"host": host, "tier": said, "created_at": said}).encode(errors="surrogatepass"),
        "bytes": json.dumps(said).encode()[:50],
        "deep": json.dumps(deep(500)).encode() * 3,
        "large": b" " * (2**20 + 5),
        "link": b"",
    }[kind]
    if kind == "link":
        path.symlink_to(stand.root / "neighbour" / "precious")
    else:
        path.write_bytes(content)
    before = stand.rows()["hosts"]
    stand.collect()
    assert stand.rows()["hosts"] == before
    if path.is_symlink() or path.exists():
        path.unlink()
