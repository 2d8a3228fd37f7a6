"""The same sentences about every transport: what a host delivers arrives whole, once, and is never lost on the way."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest
from made_up_report import report_file
from stores import KINDS, Scene, bundle, scene

from common.errors import LabError
from common.files import sweep
from warehouse.delivery import spool
from warehouse.paths import Paths

NUMBERS = count(1)  # of units, so that the tests of one store do not meet


@pytest.fixture(scope="module", params=KINDS)
def store_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


def test_a_bundle_arrives_whole_and_once(store_of: Scene) -> None:
    """Whatever the way, the collector finds the very bytes under the very name, and the spool is empty only then."""
    host, coordinator = store_of.host("pi-4"), store_of.coordinator()
    number = next(NUMBERS)
    content = os.urandom(3_000_000)
    name = bundle(host, number, content)
    assert not coordinator.has_bundle(f"{number:032x}")
    done = host.deliver(host.spool)
    assert (done.delivered, done.waiting, done.reason, done.size_bytes) == (1, 0, None, len(content))
    assert list(host.spool.iterdir()) == []
    assert host.has_bundle(f"{number:032x}")
    assert not host.has_bundle(f"{10**9:032x}")
    assert coordinator.fetch() == []
    assert coordinator.arrived()
    assert (coordinator.inbox / name).read_bytes() == content
    assert [p.name for p in coordinator.inbox.iterdir() if p.name.startswith(f"{number:032x}")] == [name]
    # Taken in; the same bundle delivered once more (a reply was lost) comes to no other name and no other content.
    (coordinator.inbox / name).unlink()
    assert coordinator.fetch() == []
    bundle(host, number, content)
    assert host.deliver(host.spool).delivered == 1
    coordinator.fetch()
    assert {p.read_bytes() for p in coordinator.inbox.glob(f"{number:032x}.*")} <= {content}
    assert not any(p.name.startswith(f"{number:032x}") and p.name != name for p in coordinator.inbox.iterdir())


def test_two_hosts_at_once(store_of: Scene) -> None:
    """Machines do not wait for each other, and neither takes away what the other delivers."""
    hosts = [store_of.host("pi-4"), store_of.host("desk")]
    names = [bundle(h, next(NUMBERS), f"{i}-{k}".encode()) for k in range(2) for i, h in enumerate(hosts)]
    left: list[int] = []
    threads = [threading.Thread(target=lambda h=h: left.append(h.deliver(h.spool).waiting)) for h in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == [0, 0]
    coordinator = store_of.coordinator()
    assert coordinator.fetch() == []
    assert {p.name for p in coordinator.inbox.iterdir()} >= set(names)


def test_files_come_back_by_their_digest_or_not_at_all(store_of: Scene) -> None:
    """Units and adapters go this way: another content than asked for would be computed with."""
    coordinator, host = store_of.coordinator(), store_of.host("pi-4")
    content = os.urandom(1_500_000)
    sha256 = coordinator.put_file(content)
    assert sha256 == hashlib.sha256(content).hexdigest() == coordinator.put_file(content)
    assert host.get_file(sha256) == content == host.get_file(sha256)
    with pytest.raises(LabError, match="is not in"):
        host.get_file("0" * 64)
    with pytest.raises(LabError, match="invalid SHA-256"):
        host.get_file("../../etc/passwd")
    # And the other way: what a host puts there, another gets.
    assert store_of.host("desk").get_file(host.put_file(b"made on pi-4")) == b"made on pi-4"


def test_reports_come_back_by_host(store_of: Scene) -> None:
    """The plan rests on them: the newest of each host, under its own name, and no name that is a path."""
    store_of.host("pi-4").put_report("pi-4", report_file("pi-4"))
    host = store_of.host("desk")
    host.put_report("desk", report_file("desk"))
    store_of.host("pi-4").put_report("pi-4", report_file("pi-4", cores_logical=2))
    coordinator = store_of.coordinator()
    assert coordinator.reports() == {"desk": report_file("desk"), "pi-4": report_file("pi-4", cores_logical=2)}
    assert host.reports() == coordinator.reports()
    with pytest.raises(LabError, match="invalid host name"):
        host.put_report("../pi-4", b"{}")


def test_a_store_that_went_away_loses_nothing(store_of: Scene) -> None:
    """The spool keeps what cannot be delivered, says why in one line, and it goes out when the store is back."""
    host, coordinator = store_of.host("pi-4"), store_of.coordinator()
    number = next(NUMBERS)
    name = bundle(host, number, b"computed while the store was away")
    paths = Paths(host.spool.parent)
    store_of.away()
    try:
        done = host.deliver(host.spool)
        assert (done.delivered, done.waiting) == (0, 1)
        assert done.reason and "\n" not in done.reason and len(done.reason) < 600
        assert (host.spool / name).read_bytes() == b"computed while the store was away"
        assert host.has_bundle(f"{number:032x}")
        assert not host.has_bundle(f"{10**9:032x}")
        answer = spool.look(paths)
        assert (
            [w.name for w in answer.waiting] == [name]
            and answer.last_attempt
            and answer.last_attempt.reason == done.reason
        )
    finally:
        store_of.back()
    assert host.deliver(host.spool).delivered == 1
    assert spool.look(paths) == spool.Spool((), None)
    coordinator.fetch()
    assert (coordinator.inbox / name).read_bytes() == b"computed while the store was away"


def test_what_an_interrupted_delivery_left_goes_after_a_day(store_of: Scene) -> None:
    """A host that was switched off while it sent, and never came back, leaves no half file there for ever; what is being
    sent at this moment is left alone."""
    if store_of.kind not in ("directory", "fsspec-file", "sftp", "rsync"):
        pytest.skip("nothing half written is ever to be seen there")
    inbox = store_of.folder / "store" / "inbox"
    old, young = [], []
    for folder in (inbox, inbox / ".part-arriving"):
        folder.mkdir(exist_ok=True)
        for names, age_s in ((old, 2 * 86400), (young, 3600)):
            path = folder / f".part-{age_s}" if folder is inbox else folder / f".{'0' * 32}.parquet.{age_s}"
            path.write_bytes(b"half")
            os.utime(path, (time.time() - age_s,) * 2)
            names.append(path)
    coordinator = store_of.coordinator()
    assert coordinator.fetch() == []
    if store_of.kind == "directory":
        for folder in coordinator.folders:
            sweep(folder)
    gone = {"fsspec-file": old[:1], "sftp": old[:1], "rsync": old[1:]}.get(store_of.kind, old)
    assert [p for p in (*old, *young) if not p.exists()] == gone
    for path in (*old, *young):
        path.unlink(missing_ok=True)
