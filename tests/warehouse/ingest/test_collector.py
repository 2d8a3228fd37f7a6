"""The collector: each good bundle exactly once, each bad one in quarantine, whatever comes in whatever order."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_bundles import NOW, make_unit, plan, put, query
from made_up_report import report_file

from experiments.contract import Trial
from warehouse.database.connection import writing
from warehouse.delivery.bundles import Bundle, write_bundle
from warehouse.delivery.reading import Head
from warehouse.delivery.results_store import Store
from warehouse.ingest import collector, outcome, read_ahead
from warehouse.ingest.collector import collect
from warehouse.ingest.outcome import Collected
from warehouse.paths import Paths


def _spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "torn":
        path.write_bytes(content[: len(content) // 2])
    elif how == "torn and named anew":
        path.unlink()
        half = content[: len(content) // 2]
        path.with_name(f"{path.name[:32]}.{hashlib.sha256(half).hexdigest()}.parquet").write_bytes(half)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "another name":
        path.rename(path.with_name("wéird \udcff\nname.parquet"))
    elif how == "link":
        path.rename(path.with_name("target"))
        path.symlink_to("target")
    elif how == "folder":
        path.unlink()
        path.mkdir()
        (path / "inside.parquet").write_bytes(content)
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)


EVENT = st.one_of(
    st.tuples(st.just("good"), st.integers(0, 4), st.integers(1, 2)),
    st.tuples(
        st.sampled_from(["torn", "torn and named anew", "empty", "another name", "link", "folder", "pipe"]),
        st.integers(5, 8),
        st.just(1),
    ),
    st.tuples(st.just("collect"), st.just(0), st.just(0)),
)


@settings(max_examples=10, deadline=None)
@given(events=st.lists(EVENT, min_size=1, max_size=9))
def test_any_mixture_in_any_order_gives_each_good_bundle_once(events: list[tuple[str, int, int]]) -> None:
    """Good bundles repeated, torn and hostile entries, collected at any time: each good one counts once, the bad ones
    are in quarantine with a reason, and the inbox ends empty."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder) / "home")
        store = Store(paths.home / "results", paths.spool, paths.bundles)
        plan(paths, "first", *(f"unit-{i}" for i in range(9)))
        put(store.inbox, "first")
        assert collect(paths, store).ingested == 1
        (first,) = query(paths, "SELECT sha256 FROM bundles")
        good: dict[str, set[str]] = {make_unit("first").unit_id: {first[0]}}
        bad, quarantined = 0, []
        for kind, number, attempt in [*events, ("collect", 0, 0)]:
            if kind == "collect":
                quarantined += collect(paths, store).quarantined
                continue
            path = put(store.inbox, f"unit-{number}", attempt)
            if kind == "good":
                good.setdefault(make_unit(f"unit-{number}").unit_id, set()).add(path.name.split(".")[1])
                continue
            before = {p.name for p in store.inbox.iterdir()} - {path.name}
            _spoil(path, kind)
            bad += len({p.name for p in store.inbox.iterdir()} - before)
            quarantined += collect(paths, store).quarantined
        assert list(store.inbox.iterdir()) == []
        rows = query(paths, "SELECT unit_id, sha256, replicate FROM bundles")
        assert Counter(r[1] for r in rows) == Counter(s for shas in good.values() for s in shas)
        for unit_id, shas in good.items():
            assert sorted(r[2] for r in rows if r[0] == unit_id) == list(range(len(shas)))
        per_bundle = query(paths, "SELECT bundle_sha256, list(ordinal ORDER BY ordinal) FROM trials GROUP BY ALL")
        assert dict(per_bundle) == {r[1]: [0, 1] for r in rows}
        assert query(paths, "SELECT count(*) FROM counted_trials") == [(2 * len(good),)]
        assert len(quarantined) == bad
        assert query(paths, "SELECT count(*) FROM quarantine") == [(bad,)]
        reasons = list(paths.quarantine.glob("*.reason.txt")) if bad else []
        assert len(reasons) == bad
        assert all(r.read_text().strip() for r in reasons)
        assert not any(p.is_symlink() for p in paths.home.rglob("*"))


def test_nothing_waiting_opens_nothing(paths: Paths) -> None:
    """With an empty inbox no database is made or opened, so that an hourly collect costs nothing."""
    store = Store.configured(paths)
    assert collect(paths, store) == Collected()
    assert not paths.warehouse.exists()
    plan(paths, "a")
    put(store.inbox, "a")
    assert collect(paths, store).ingested == 1
    before = paths.warehouse.stat().st_mtime_ns, paths.snapshot.stat().st_mtime_ns
    assert collect(paths, store) == Collected()
    assert (paths.warehouse.stat().st_mtime_ns, paths.snapshot.stat().st_mtime_ns) == before


UNPLANNED = {
    "unit": (make_unit("of no plan"), "no plan in this warehouse asks for its unit"),
    "phase": (replace(make_unit("a"), phase="p2"), "it says p2, its unit is one of p1"),
    "code": (
        replace(make_unit("a"), identity={"code": "c2", "data": "d", "models": {}}),
        "with other code than planned",
    ),
    "models": (
        replace(make_unit("a"), identity={"code": "c", "data": "d", "models": {"m": "x"}}),
        "with other models than planned",
    ),
    "silence": (replace(make_unit("a"), identity=None), "does not say with which code"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", UNPLANNED)
def test_only_what_was_planned_is_taken_in(paths: Paths, store: Store, what: str) -> None:
    """Whole bundles that no plan asked for, or that other code, data or models made, never stand among its results."""
    unit, reason = UNPLANNED[what]
    write_bundle(
        store.inbox,
        unit,
        [Trial("a-0", "none")],
        host="pi-4",
        attempt=1,
        started_at=NOW,
        finished_at=NOW,
        provenance={"identity": unit.identity},
    )
    put(store.inbox, "b")
    taken = collect(paths, store)
    assert taken.ingested == 1
    assert [reason in reported for _, reported in taken.quarantined] == [True]
    assert query(paths, "SELECT unit_id FROM bundles") == [(make_unit("b").unit_id,)]


def test_half_copied_files_are_not_taken(paths: Paths, store: Store) -> None:
    """A file that is still being copied is neither read nor quarantined; one of a dead process is removed after a day."""
    path = put(store.inbox, "a")
    young, old = path.with_name(".part-young"), path.with_name(".part-old")
    shutil.copy(path, young)
    shutil.copy(path, old)
    os.utime(old, (0, 0))
    assert collect(paths, store).ingested == 1
    assert [p.name for p in store.inbox.iterdir()] == [".part-young"]


def test_a_file_that_gets_its_name_while_old_ones_are_removed(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that finishes between the collector's two looks at it is left alone (seen once in the crash test)."""
    path = put(store.inbox, "a")
    half = path.rename(path.with_name(".part-b"))
    real = Path.is_file

    def then_renamed(self: Path) -> bool:
        there = real(self)
        if self == half and there:
            half.rename(path)
        return there

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", then_renamed)
        assert collect(paths, store).ingested == 1


def test_the_file_moves_to_the_archive_and_its_attachment_to_the_store(paths: Paths, store: Store) -> None:
    """The bundle is stored as it came, and an adapter in it can be fetched by its hash, even after damage."""
    content = b"weights" * 100
    sha256 = hashlib.sha256(content).hexdigest()
    path = put(paths.spool, "a", content=content)
    assert store.waiting() == {make_unit("a").unit_id}
    assert store.deliver(paths.spool).delivered == 1
    assert collect(paths, store).ingested == 1
    assert store.waiting() == set()
    assert store.has_bundle(make_unit("a").unit_id)
    archived = paths.bundles / path.name
    assert hashlib.sha256(archived.read_bytes()).hexdigest() == path.name.split(".")[1]
    assert store.get_file(sha256) == content
    assert query(paths, "SELECT name, size_bytes, unit_id FROM files") == [
        ("a.safetensors", len(content), make_unit("a").unit_id)
    ]
    (store.root / "files" / sha256).write_bytes(b"x" * len(content))
    shutil.copy(archived, store.inbox)
    assert collect(paths, store).known == 1
    assert store.get_file(sha256) == content


@pytest.mark.parametrize("step", ["put_file", "_insert_rows", "move", "write_whole"])
def test_a_stop_between_any_two_steps_is_made_good(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The collector stopped just before or after any of its steps: the next call ends with each file once."""
    put(store.inbox, "a", content=b"weights")
    bad = put(store.inbox, "b")
    bad.write_bytes(b"torn")

    class StopError(BaseException):
        pass

    owner = {"put_file": Store, "write_whole": outcome}.get(step, collector)
    real = getattr(owner, step)
    for after in (False, True):

        def stopping(*args: Any, after: bool = after, **given: Any) -> Any:
            if after:
                real(*args, **given)
            raise StopError

        with monkeypatch.context() as patch:
            patch.setattr(owner, step, stopping)
            with pytest.raises(StopError):
                collect(paths, store)
    collect(paths, store)
    assert list(store.inbox.iterdir()) == []
    assert query(paths, "SELECT unit_id, replicate FROM bundles") == [(make_unit("a").unit_id, 0)]
    assert query(paths, "SELECT count(*), count(DISTINCT ordinal) FROM trials") == [(2, 2)]
    assert query(paths, "SELECT count(*) FROM quarantine") == [(1,)]
    assert sorted(p.name for p in paths.quarantine.iterdir()) == [bad.name, f"{bad.name}.reason.txt"]
    assert len(list(paths.bundles.iterdir())) == 1


def test_a_bundle_goes_in_as_a_whole_or_not_at_all(paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error between a bundle's row and its trials leaves neither; the bundle stays and goes in with the next call."""
    put(store.inbox, "a")
    real = read_ahead.read_bundle

    def without_details(path: Path, head: Head) -> Bundle:
        bundle = real(path, head)
        return replace(bundle, trials=bundle.trials.drop_columns(["details"]))

    with monkeypatch.context() as patch:
        patch.setattr(read_ahead, "read_bundle", without_details)
        with pytest.raises(duckdb.BinderException):
            collect(paths, store)
    with writing(paths, publish=True):
        pass
    assert query(paths, "SELECT (SELECT count(*) FROM bundles), (SELECT count(*) FROM trials)") == [(0, 0)]
    assert collect(paths, store).ingested == 1
    assert query(paths, "SELECT count(*) FROM counted_trials") == [(2,)]


def test_a_file_that_cannot_be_moved_stays_and_stops_nothing(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error at one file is reported and the rest goes on; the file is taken with the next call, not twice."""
    first, second = sorted([put(store.inbox, "a"), put(store.inbox, "b")])
    real = collector.move

    def full(source: Path, target: Path, **given: Any) -> None:
        if source == first:
            raise OSError(28, "No space left on device")
        real(source, target, **given)

    with monkeypatch.context() as patch:
        patch.setattr(collector, "move", full)
        taken = collect(paths, store)
    assert taken.ingested == 2
    assert taken.left[0][0] == first.name
    assert "is full" in taken.left[0][1]
    assert [p.name for p in store.inbox.iterdir()] == [first.name]
    assert collect(paths, store).known == 1
    assert query(paths, "SELECT count(*) FROM bundles") == [(2,)]
    assert (paths.bundles / second.name).is_file()


def report(host: str, made: datetime = NOW, **values: Any) -> bytes:
    known = {"created_at": made.isoformat(), "tier": "medium", "versions": {"a": "1"}}
    return report_file(host, **known | values)


def test_reports_keep_when_a_host_was_first_seen(paths: Paths, store: Store) -> None:
    """A newer report renews tier and last_seen, never first_seen; the same report again opens no database."""
    store.put_report("pi-4", report("pi-4"))
    collect(paths, store)
    store.put_report("pi-4", report("pi-4", NOW + timedelta(hours=1), tier="weak"))
    collect(paths, store)
    written = paths.warehouse.stat().st_mtime_ns
    collect(paths, store)
    assert paths.warehouse.stat().st_mtime_ns == written
    rows = query(paths, "SELECT host, tier, epoch(last_seen - first_seen), python, versions->>'a' FROM hosts")
    assert rows == [("pi-4", "weak", 3600.0, "3.11.2", "1")]
    assert json.loads((paths.reports / "capability_report_pi-4.json").read_text())["tier"] == "weak"


BAD_REPORTS = {
    "not JSON": (b"{", "not a capability report"),
    "empty": (b"", "not a capability report"),
    "a list": (b"[]", "should be an object"),
    "another host": (report("pi-5"), "another host"),
    "no tier": (report("pi-4", tier="huge"), "'tier' = 'huge'"),
    "NaN": (report("pi-4", ram_total_gb=float("nan")), "'ram_total_gb' = nan"),
    "more than any machine has": (report("pi-4", matrix_gflops=10**400), "'matrix_gflops' = 1000"),
    "a number for a list": (report("pi-4", gpus=5), "'gpus' = 5"),
    "an unknown field": (report("pi-4", ram_gb=1), "'ram_gb' = 1"),
    "half a surrogate": (report("pi-4", os="\ud800"), "hex escape"),
    "no time zone": (report("pi-4", datetime(2026, 1, 1)), "timezone"),
    "out of UTC": (report("pi-4", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))), "not a time that UTC"),
    "too large": (report("pi-4", os="x" * 2**20), "more than"),
    "too deep": (b"[" * 100_000, "not a capability report"),
}


def test_a_report_that_is_early_waits(paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is wrong by days proves nothing about a machine: its report is told of, and taken in when it is due."""
    collect(paths, store)
    store.put_report("pi-4", report("pi-4", datetime.now(UTC) + timedelta(days=2)))
    put(store.inbox, "a")
    taken = collect(paths, store)
    assert taken.ingested == 1 and taken.quarantined == []
    [(name, reason)] = taken.left
    assert name == "capability_report_pi-4.json" and reason.startswith("it is early by ") and "clock of pi-4" in reason
    written = paths.warehouse.stat().st_mtime_ns
    assert collect(paths, store).left == [(name, reason)] or "early by" in reason
    assert paths.warehouse.stat().st_mtime_ns == written  # nobody opens the warehouse for a report that waits
    monkeypatch.setattr("warehouse.ingest.host_reports.CLOCK_SLACK", timedelta(days=3))
    assert collect(paths, store).left == []
    assert query(paths, "SELECT host FROM hosts") == [("pi-4",)]


@pytest.mark.parametrize("name", BAD_REPORTS)
def test_malformed_reports_are_quarantined(paths: Paths, store: Store, name: str) -> None:
    """A report that is none goes to quarantine with its reason, the host's earlier entry stays, the rest goes on."""
    store.put_report("pi-4", report("pi-4"))
    collect(paths, store)
    content, reason = BAD_REPORTS[name]
    store.put_report("pi-4", content)
    put(store.inbox, "a")
    taken = collect(paths, store)
    assert taken.ingested == 1
    assert [(n, reason in r) for n, r in taken.quarantined] == [("capability_report_pi-4.json", True)]
    assert query(paths, "SELECT tier, epoch(last_seen - first_seen) FROM hosts") == [("medium", 0.0)]
    assert store.reports() == {}


def test_a_connection_given_is_used_and_left_open(paths: Paths, store: Store) -> None:
    """The pipeline collects with the connection it holds, sees the rows at once, and publishes when it wants to."""
    put(store.inbox, "a")
    with writing(paths) as con:
        assert collect(paths, store, con).ingested == 1
        assert con.execute("SELECT count(*) FROM counted_trials").fetchone() == (2,)
    assert not paths.snapshot.exists()


def test_a_bundle_has_the_transport_by_which_it_came(tmp_path: Path) -> None:
    """A coordinator's own folder is where the inbox of the LAN and ssh put what machines send: all of it was "directory".
    What is no word is not stored."""
    paths = Paths(tmp_path)
    store = Store.configured(paths)
    said: dict[str, Any] = {"a": "quack", "b": "directory", "c": None, "d": 7, "e": "x" * 99, "f": "'; DROP"}
    plan(paths, *said)
    for label, transport in said.items():
        put(store.inbox, label, **({} if transport is None else {"transport": transport}))
    collect(paths, store)
    found = dict(query(paths, "SELECT unit_id, transport FROM bundles"))
    assert [found[make_unit(x).unit_id] for x in said] == ["quack", *["directory"] * 5]
