"""A shard ends only when this host's results are on their way: what waits in its spool is delivered, or named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from common.errors import LabError
from flows import shard
from warehouse.delivery.results_store import Store, UnreachableError
from warehouse.paths import Paths


@pytest.fixture
def blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that cannot be reached (a file lies where its folder should be), and one bundle that waits for it."""
    spool = tmp_path / "home" / "spool"
    spool.mkdir(parents=True)
    (spool / f"{1:032x}.{hashlib.sha256(b'1').hexdigest()}.parquet").write_bytes(b"1")
    mount = tmp_path / "mount"
    mount.write_text("not a folder")
    monkeypatch.setenv("LAB_RESULTS_URL", str(mount))
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_HOST", "pi")
    return mount


def test_a_shard_waits_for_the_way_to_the_results(blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that was away for a moment gets the bundle before the shard counts as done."""
    paths = Paths.local()
    store = Store.configured(paths)

    def mounted(_: float) -> None:
        blocked.unlink()
        (blocked / "inbox").mkdir(parents=True)

    monkeypatch.setattr(shard.time, "sleep", mounted)
    shard.deliver_spool(paths, store)
    assert store.waiting() == {f"{1:032x}"}
    assert list(paths.spool.glob("*.parquet")) == []
    assert len(list(store.inbox.glob("*.parquet"))) == 1


def test_a_shard_whose_results_cannot_be_delivered_fails_with_the_reason(
    blocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that completed while its bundles stayed on the host led to a verdict without them."""
    monkeypatch.setattr(shard, "DELIVER_S", -1.0)
    paths = Paths.local()
    with pytest.raises(LabError, match="given back by pi, which is left out of this run: 1 bundles wait there") as told:
        shard.deliver_spool(paths, Store.configured(paths))
    assert str(blocked) in str(told.value)
    assert len(list(paths.spool.glob("*.parquet"))) == 1


def test_a_shard_asks_again_for_its_units(blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that hangs for a moment when a shard starts would cost one of the three tries of all its units."""
    store = Store.configured(Paths.local())
    monkeypatch.setattr(shard, "DELIVER_S", -1.0)
    with pytest.raises(LabError, match=r"left out of this run: .* not mounted"):
        shard.read_job(store, hashlib.sha256(b"job").hexdigest())
    monkeypatch.undo()

    def mounted(_: float) -> None:
        blocked.unlink()
        (blocked / "inbox").mkdir(parents=True)
        store.put_file(b"job")

    monkeypatch.setattr(shard.time, "sleep", mounted)
    assert shard.read_job(store, hashlib.sha256(b"job").hexdigest()) == b"job"
    # What is not there is another thing, and waiting would not bring it.
    with pytest.raises(LabError, match="is not in"):
        shard.read_job(store, "0" * 64)


def test_what_may_pass_is_tried_again() -> None:
    """A store that does not answer is no mistake of the user's; other code than planned stays one, however often tried."""

    class Ended:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def result(self) -> None:
            raise self.error

    assert shard.may_retry(None, None, Ended(UnreachableError("the store does not answer", "lab sync")))
    assert not shard.may_retry(None, None, Ended(LabError("other code than planned", "git pull")))
    assert not shard.may_retry(None, None, Ended(MemoryError()))
