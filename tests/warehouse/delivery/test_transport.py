"""The results store: deliveries are whole or not there, and failures leave everything in the spool."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from common.errors import LabError
from warehouse.delivery import spool
from warehouse.delivery.results_store import Store, UnreachableError
from warehouse.paths import Paths


def fill(spool: Path, n: int) -> list[str]:
    spool.mkdir(parents=True, exist_ok=True)
    names = [f"{i:032x}.{hashlib.sha256(bytes([i])).hexdigest()}.parquet" for i in range(n)]
    for i, name in enumerate(names):
        (spool / name).write_bytes(bytes([i]))
    return names


def test_a_damaged_bundle_is_set_aside_before_it_is_sent(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be refused wherever it came, and stay in front of a host's next shards; so its unit is computed again."""
    store = Store.configured(paths)
    names = fill(paths.spool, 3)
    (paths.spool / names[1]).write_bytes(b"\x11")
    sent: list[str] = []
    real = store.transport.send
    monkeypatch.setattr(store.transport, "send", lambda files: sent.extend(p.name for p in files) or real(files))
    assert store.has_bundle(names[1].split(".")[0])
    delivery = store.deliver(paths.spool)
    assert (delivery.delivered, delivery.waiting, delivery.damaged, delivery.reason) == (2, 0, 1, None)
    assert sent == [names[0], names[2]]
    assert (paths.quarantine / names[1]).read_bytes() == b"\x11"
    assert "damaged in the spool" in (paths.quarantine / f"{names[1]}.reason.txt").read_text()
    assert not store.has_bundle(names[1].split(".")[0])
    assert store.deliver(paths.spool).damaged == 0


def test_a_bundle_that_cannot_be_read_now_stays_in_the_spool(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk proves nothing about the bundle: it waits, and the others go."""
    store = Store.configured(paths)
    names = fill(paths.spool, 2)
    real = spool.file_sha256

    def failing(path: Path) -> str:
        if path.name == names[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(spool, "file_sha256", failing)
        delivery = store.deliver(paths.spool)
    assert (delivery.delivered, delivery.waiting, delivery.damaged) == (1, 1, 0)
    assert "Input/output error" in (delivery.reason or "")
    assert store.deliver(paths.spool).delivered == 1


def test_a_delivery_empties_the_spool(paths: Paths) -> None:
    """Every bundle reaches the inbox whole; anything else in the spool stays where it is."""
    store = Store.configured(paths)
    names = fill(paths.spool, 3)
    (paths.spool / "notes.txt").write_text("mine")
    delivery = store.deliver(paths.spool)
    assert (delivery.delivered, delivery.waiting, delivery.reason) == (3, 0, None)
    assert sorted(p.name for p in store.inbox.iterdir()) == names
    assert [p.read_bytes() for p in sorted(store.inbox.iterdir())] == [b"\0", b"\1", b"\2"]
    assert [p.name for p in paths.spool.iterdir()] == ["notes.txt"]
    assert store.has_bundle(f"{1:032x}")
    assert not store.has_bundle(f"{7:032x}")


def test_a_store_that_cannot_be_reached_says_why_and_keeps_all(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no store (here a file where its folder should be) nothing is lost and the next delivery takes it."""
    blocked = paths.home / "mount"
    fill(paths.spool, 2)
    blocked.write_text("not a folder")
    monkeypatch.setenv("LAB_RESULTS_URL", f"file://{blocked}")
    store = Store.configured(paths)
    delivery = store.deliver(paths.spool)
    assert (delivery.delivered, delivery.waiting) == (0, 2)
    assert delivery.reason
    assert str(blocked) in delivery.reason
    assert store.waiting() == {f"{0:032x}", f"{1:032x}"}
    blocked.unlink()
    store.inbox.mkdir(parents=True)
    assert store.deliver(paths.spool).delivered == 2


def test_a_mount_that_is_not_there_swallows_nothing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unmounted mount point is an empty folder: what was written into it would be hidden by the next mount."""
    mount = paths.home / "mount"
    mount.mkdir(parents=True)
    names = fill(paths.spool, 1)
    monkeypatch.setenv("LAB_RESULTS_URL", str(mount))
    store = Store.configured(paths)
    answer = store.deliver(paths.spool).reason
    assert answer and "not mounted" in answer and answer.endswith(f"mkdir -p {mount}/inbox")
    for write in (lambda: store.put_file(b"x"), lambda: store.put_report("pi-4", b"{}")):
        with pytest.raises(UnreachableError, match="not mounted"):
            write()
    assert list(mount.iterdir()) == []
    assert [p.name for p in paths.spool.iterdir()] == names
    # This machine's own folder is another thing: nobody has to make it, named or not.
    monkeypatch.setenv("LAB_RESULTS_URL", str(paths.home / "results"))
    assert Store.configured(paths).deliver(paths.spool).delivered == 1


def test_one_bundle_that_cannot_be_copied_does_not_hold_up_the_rest(paths: Paths) -> None:
    """A folder where a bundle should be fails alone."""
    names = fill(paths.spool, 3)
    (paths.spool / names[0]).unlink()
    (paths.spool / names[0]).mkdir()
    store = Store.configured(paths)
    delivery = store.deliver(paths.spool)
    assert (delivery.delivered, delivery.waiting) == (2, 1)
    assert delivery.reason
    assert delivery.reason.startswith(names[0])
    assert sorted(p.name for p in store.inbox.iterdir()) == names[1:]


def test_files_are_found_by_content(paths: Paths) -> None:
    """A file comes back as it was put; another digest, a damaged file, or a path instead of a digest does not."""
    store = Store.configured(paths)
    sha256 = store.put_file(b"weights")
    assert sha256 == store.put_file(b"weights") == hashlib.sha256(b"weights").hexdigest()
    assert store.get_file(sha256) == b"weights"
    with pytest.raises(LabError, match="is not in"):
        store.get_file("0" * 64)
    for wrong in ("../../etc/passwd", "A" * 64, "", sha256 + "\n"):
        with pytest.raises(LabError, match="invalid SHA-256"):
            store.get_file(wrong)
    (store.root / "files" / sha256).write_bytes(b"changed")
    with pytest.raises(LabError, match="was changed"):
        store.get_file(sha256)
    with pytest.raises(LabError, match="invalid unit id"):
        store.has_bundle("*")


def test_reports_come_back_by_host(paths: Paths) -> None:
    """Reports are named by host; links in their folder are not followed, and a name with a path is refused."""
    store = Store.configured(paths)
    assert store.reports() == {}
    store.put_report("pi-4", b"{}")
    (store.root / "hosts" / "capability_report_x.json").symlink_to("/etc/hostname")
    assert store.reports() == {"pi-4": b"{}"}
    with pytest.raises(LabError, match="invalid host name"):
        store.put_report("../pi-4", b"{}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://pi-4/lab", "ftp:// is not supported. use a path or file:///path, sftp://"),
        ("file://elsewhere/lab", "file:// is not supported for another host"),
        ("results", "not an absolute path: 'results'"),
        ("pi-4:/lab", "pi-4:// is not supported"),
        ("gs://bucket/lab", "gs:// needs the package gcsfs. pip install gcsfs"),
        ("sftp://-oProxyCommand=x/lab", "names no host"),
        ("rsync+ssh://-e@pi-4/lab", "names no host"),
        ("rsync+ssh://pi-4/lab;rm", "the path has to be absolute"),
        ("rsync+ssh://pi-4/lab/../../etc", "the path has to be absolute"),
        ("sftp://pi-4", "the path has to be absolute"),
        ("sftp://me:secret@pi-4/lab", "LAB_RESULTS_URL contains a password. use a key"),
        ("git+https://me:secret@forge/lab.git", "holds a password"),
        ("git+ext://sh/lab", r"git\+ext:// is not supported"),
        ("git+file://lab.git", "not an absolute path"),
        ("quack://pi-4/lab", "not a host and port"),
        ("sftp://pi-4:many/lab", "is not a URL"),
    ],
)
def test_a_url_that_is_not_built_is_named(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    """A wrong LAB_RESULTS_URL is the user's mistake, reported with what works; nothing of it becomes an option of a program."""
    monkeypatch.setenv("LAB_RESULTS_URL", url)
    with pytest.raises(LabError, match=message) as reported:
        Store.configured(paths)
    assert "secret" not in str(reported.value)


def test_the_url_may_be_a_path_or_a_file_url(paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both spellings name the same folder, with blanks and per cent signs as the URL rules have them."""
    folder = tmp_path / "a b"
    for url in (str(folder), folder.as_uri()):
        monkeypatch.setenv("LAB_RESULTS_URL", url)
        assert Store.configured(paths).root == folder
