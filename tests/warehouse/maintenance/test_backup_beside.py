"""Backups beside work that goes on, into folders and remote file systems: whole, complete, and the oldest removed."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stores import scene
from test_rebuild import rows_of

from benchmarks.chaos.found import journals_in, leftovers, look
from benchmarks.chaos.killing import COLLECTORS, Forks, at_work
from benchmarks.chaos.work import WRITERS, plan, put_bundle, unit_id_of
from common.errors import LabError
from warehouse import run_notes
from warehouse.database.connection import locked
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports import choice
from warehouse.delivery.transports.choice import FileSystem
from warehouse.ingest.collector import collect
from warehouse.maintenance import backup as backups
from warehouse.maintenance.backup import backed_up_within, backup, backup_into
from warehouse.maintenance.backup_folder import dated, folder_at, new_name
from warehouse.maintenance.restore import restore
from warehouse.paths import Paths

BACKUPS = 4


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A home whose warehouse asks for the units of two writers."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    monkeypatch.setenv("LAB_HOST", "chaos")
    paths = Paths(tmp_path / "home")
    plan(paths, ["a"], 3)
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "saved"
    found.mkdir()
    return found


@pytest.fixture
def forks() -> Iterator[Forks]:
    found = Forks()
    yield found
    found.end()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: file.read() for m in tar if (file := tar.extractfile(m))}


def restored(source: str, home: Path) -> Paths:
    paths = Paths(home)
    assert restore(paths, Store.configured(paths), source).rebuilt.lost == []
    return paths


@pytest.mark.slow
def test_the_newest_is_restored_while_work_goes_on(
    forks: Forks, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles leave the spool and the inbox while a backup is written: none may fail for that, and each result that
    was there when the newest began is in it, once."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    monkeypatch.setenv("LAB_HOST", "chaos")
    paths = Paths(tmp_path / "home")
    plan(paths, WRITERS)
    store = Store.configured(paths)
    with at_work(forks, paths.home, [*WRITERS, COLLECTORS[0]]):
        while len(journals_in(paths.home)) < len(WRITERS):
            time.sleep(0.01)
        for i in range(BACKUPS):
            before = journals_in(paths.home)
            backup(paths, store, folder / f"lab-backup-chaos-20261129-0000{i:02}.tar")
        other = restored(str(folder), tmp_path / "other")
    found = look(other.home, before)
    assert found.wrong == [] and found.units > 0
    assert names(folder) == [f"lab-backup-chaos-20261129-0000{i:02}.tar" for i in range(BACKUPS)]


def with_one_result(own: Paths) -> Store:
    """Take in one result; return the home's store."""
    store = Store.configured(own)
    put_bundle(store.inbox, "a-0")
    collect(own, store)
    return store


def test_a_bundle_that_moves_on_meanwhile_is_in_the_backup(own: Paths, folder: Path) -> None:
    """Delivered and taken in between the listing and the reading, it is in another folder, and still a result."""
    store = Store.configured(own)
    paths = [put_bundle(own.spool, f"a-{i}") for i in range(3)]
    plain = backups._Writer.add
    with pytest.MonkeyPatch.context() as patch:

        def add(writer: backups._Writer, name: str, places: list[Path]) -> bool:
            if name.startswith("spool/") and len(list(own.spool.glob("*.parquet"))) == 3:
                assert store.deliver(own.spool).delivered == 3
                store.inbox.joinpath(paths[0].name).rename(own.home / "aside")
                assert collect(own, store).ingested == 2
                own.home.joinpath("aside").rename(store.inbox / paths[0].name)
            return plain(writer, name, places)

        patch.setattr(backups._Writer, "add", add)
        done = backup(own, store, folder / "b.tar")
    assert {f"spool/{p.name}" for p in paths} <= members(folder / "b.tar").keys()
    assert done.damaged == []
    other = restored(str(folder / "b.tar"), own.home.parent / "other")
    assert Store.configured(other).waiting() == {unit_id_of(f"a-{i}") for i in range(3)}


def test_a_file_that_is_replaced_meanwhile_is_whole(own: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host reports again while the backup is written: its digest must be that of the content that is in the backup."""
    report = own.reports / "capability_report_pi-4.json"
    report.parent.mkdir()
    report.write_bytes(b"old")
    plain = backups._opened

    def opened(path: Path) -> BinaryIO | None:
        handle = plain(path)
        if path == report:
            report.with_name("new").write_bytes(b"newer")
            report.with_name("new").replace(report)
        return handle

    monkeypatch.setattr(backups, "_opened", opened)
    backup(own, Store.configured(own), folder / "b.tar")
    assert members(folder / "b.tar")["hosts/capability_report_pi-4.json"] == b"old"
    restored(str(folder / "b.tar"), own.home.parent / "other")


def test_a_backup_has_the_users_notes(own: Paths, folder: Path) -> None:
    """They are the user's own words, which no machine can compute again."""
    run_notes.save(own, "r1", run_notes.RunNote(note="k was too large", tags=("baseline",)))
    backup(own, Store.configured(own), folder / "b.tar")
    other = restored(str(folder / "b.tar"), own.home.parent / "other")
    assert run_notes.notes(other) == run_notes.notes(own) != {}


def test_others_get_the_warehouse_while_bundles_are_read(
    own: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Onto a slow disk a backup takes minutes; a collector gives up after half of one."""
    store = with_one_result(own)
    plain, free = backups._Writer.add, []

    def add(writer: backups._Writer, name: str, places: list[Path]) -> bool:
        if name.startswith("bundles/"):
            with locked(own, wait_s=1):
                free.append(name)
        return plain(writer, name, places)

    monkeypatch.setattr(backups._Writer, "add", add)
    backup(own, store, folder / "b.tar")
    assert len(free) == 1


def test_a_bundle_that_was_removed_meanwhile_fails_the_backup(
    own: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is in the records already: such a backup would be restored with a loss."""
    store = with_one_result(own)
    plain = backups._opened

    def opened(path: Path) -> BinaryIO | None:
        if path.parent == own.bundles:
            path.unlink()
        return plain(path)

    monkeypatch.setattr(backups, "_opened", opened)
    with pytest.raises(LabError, match="was removed while the backup was written"):
        backup(own, store, folder / "b.tar")
    assert names(folder) == []


def test_the_newest_stay_and_nothing_else_is_touched(own: Paths, folder: Path) -> None:
    """Two hosts may save into one folder, and people put files there: only this host's own oldest backups go."""
    others = ["lab-backup-mac-20250101-000000.tar", "lab-backup-chaos-2025.tar", "notes.txt"]
    mine = [f"lab-backup-chaos-2025010{i}-000000.tar" for i in range(1, 5)]
    for name in (*others, *mine):
        (folder / name).write_bytes(b"x")
    done = backup_into(own, Store.configured(own), str(folder), keep=3)
    assert done.removed == mine[:2]
    assert set(names(folder)) == {*others, *mine[2:], Path(done.path).name}
    assert dated(names(folder), "chaos")[-1].made_at > datetime.now(UTC) - timedelta(minutes=1)
    assert backed_up_within(own, str(folder), timedelta(minutes=1))
    assert not backed_up_within(own, str(folder), timedelta(0))
    with pytest.raises(LabError, match="backups of chaos, mac"):
        restore(Paths(folder / "new"), Store.configured(own), str(folder))


def test_a_damaged_archive_leaves_the_older_backups(own: Paths, folder: Path) -> None:
    """A bundle that went bad on the disk is bad in each backup from then on: the last good one must not go for it."""
    store = Store.configured(own)
    path = put_bundle(store.inbox, "a-0")
    collect(own, store)
    (folder / "lab-backup-chaos-20250101-000000.tar").write_bytes(b"x")
    (own.bundles / path.name).write_bytes(b"damaged")
    done = backup_into(own, store, str(folder), keep=1)
    assert (done.damaged, done.removed) == ([f"bundles/{path.name}"], [])


def test_what_a_killed_backup_left_goes_with_the_next_one(own: Paths, folder: Path) -> None:
    """Killed in the middle, it cannot remove its part; of hourly backups a hundred parts would fill the disk."""
    store = Store.configured(own)
    pid = os.fork()
    if pid == 0:
        with folder_at(str(folder), own).writing(new_name()) as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert len(leftovers(folder)) == 1
    backup_into(own, store, str(folder))
    assert leftovers(folder) == [] and len(names(folder)) == 1


def test_a_pipe_or_a_link_in_the_place_of_a_file_is_left_out(own: Paths, folder: Path, tmp_path: Path) -> None:
    """Whoever may write to the inbox could have the coordinator wait for ever, or copy a file of its own into backups."""
    store = Store.configured(own)
    own.quarantine.mkdir()
    os.mkfifo(own.quarantine / "pipe")
    (own.quarantine / "link").symlink_to(own.warehouse)
    # As if they had been swapped in after the listing.
    assert [backups._opened(own.quarantine / name) for name in ("pipe", "link")] == [None, None]
    backup(own, store, folder / "b.tar")
    assert not [name for name in members(folder / "b.tar") if name.startswith("quarantine/")]


def test_a_missing_folder_is_refused_and_not_made(own: Paths, tmp_path: Path) -> None:
    """Where a mount is lost, a backup in a new folder would be on the very disk that it is to outlive."""
    with pytest.raises(LabError, match="no folder") as refused:
        backup_into(own, Store.configured(own), str(tmp_path / "mount"))
    assert refused.value.mend.endswith(f"mkdir -p {tmp_path / 'mount'}")
    assert not (tmp_path / "mount").exists()
    for url, why in (
        ("rsync+ssh://nas/backups", "not supported"),
        ("sftp://me:secret@nas/backups", "contains a password"),
        ("https://nas/backups", "not supported"),
        ("sftp://-oProxyCommand=x/backups", "names no host"),
    ):
        with pytest.raises(LabError, match=why) as refused:
            backup_into(own, Store.configured(own), url)
        assert "secret" not in str(refused.value)


def test_a_backup_in_an_object_store_is_restored(own: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is elsewhere, and all that is needed comes from it; the oldest go there as well."""
    memory, store = MemoryFileSystem(), Store.configured(own)
    monkeypatch.setitem(
        choice.FILE_SYSTEMS, "memory", lambda url, parts, setting: FileSystem(f"/{tmp_path.name}", lambda: memory, True)
    )
    put_bundle(store.inbox, "a-0")
    collect(own, store)
    for name in ("lab-backup-chaos-20250101-000000.tar", "lab-backup-chaos-20250102-000000.tar"):
        memory.pipe_file(f"/{tmp_path.name}/{name}", b"x")
    done = backup_into(own, store, "memory://bucket", keep=2)
    assert done.removed == ["lab-backup-chaos-20250101-000000.tar"]
    assert rows_of(restored("memory://bucket", tmp_path / "newest")) == rows_of(own)
    assert rows_of(restored(done.path, tmp_path / "named")) == rows_of(own)
    assert leftovers(tmp_path) == []

    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("the bucket does not answer")

    monkeypatch.setattr(memory, "put_file", fails)
    time.sleep(1.01)  # another second, another name
    with pytest.raises(
        LabError, match=r"memory://bucket: the bucket does not answer\. when it answers again: lab backup"
    ):
        backup_into(own, store, "memory://bucket")
    assert leftovers(tmp_path) == []


def test_a_backup_over_sftp_is_restored(own: Paths, tmp_path: Path) -> None:
    """The other common place for backups: a machine that is reached over ssh, whose folder must be there."""
    store = Store.configured(own)
    put_bundle(store.inbox, "a-0")
    collect(own, store)
    with scene("sftp", tmp_path / "far") as far:
        url = far.environment["LAB_RESULTS_URL"]
        done = backup_into(own, store, url)
        root = tmp_path / "far" / "store"
        assert [p.name for p in root.glob("*.tar")] == [done.path.rpartition("/")[2]]
        assert rows_of(_restored_here(url, tmp_path)) == rows_of(own)
        assert leftovers(tmp_path) == []
        shutil.rmtree(root)
        with pytest.raises(LabError, match="is no folder, or not mounted"):
            backup_into(own, store, url)


def _restored_here(url: str, tmp_path: Path) -> Paths:
    """Restored into a home with a results store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LAB_RESULTS_URL")
        return restored(url, tmp_path / "newest")


def test_a_result_between_warehouse_and_archive_is_rebuilt(own: Paths, folder: Path) -> None:
    """A collector killed there leaves the row in the warehouse and the file in the inbox: a rebuild, and a restored backup,
    must find it."""
    store = Store.configured(own)
    path = put_bundle(store.inbox, "a-0")
    collect(own, store)
    (own.bundles / path.name).rename(store.inbox / path.name)
    backup(own, store, folder / "b.tar")
    other = restored(str(folder / "b.tar"), own.home.parent / "other")
    assert rows_of(other) == rows_of(own)
    assert collect(other, Store.configured(other)).quarantined == []


def test_the_list_has_its_place_whatever_the_digests(own: Paths, folder: Path) -> None:
    """It is filled in when all is written: a tar reads it first, and its padding is none of its content."""
    done = backup(own, Store.configured(own), folder / "b.tar")
    with tarfile.open(folder / "b.tar") as tar:
        first = tar.next()
        assert first is not None and first.name == backups.LIST and first.size % tarfile.BLOCKSIZE == 0
    assert len(json.loads(members(folder / "b.tar")[backups.LIST])["files"]) == done.files
