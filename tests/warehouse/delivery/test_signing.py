"""Signatures: where keys are required, nobody without a host's key gets a bundle in under its name."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from made_up_bundles import make_unit, plan, put, query

from common.errors import LabError
from warehouse.delivery import signing
from warehouse.delivery.reading import read_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

KEY = "1" * 64


@pytest.fixture
def store(paths: Paths) -> Store:
    """The store of a warehouse whose plan asks for the units a, b and c."""
    plan(paths, "a", "b", "c")
    return Store.configured(paths)


def test_a_signature_is_the_rfc_and_stands_in_the_name(paths: Paths) -> None:
    """Any other program can make and check it: HMAC-SHA256 over host and SHA-256 of the file, before .parquet."""
    path = put(paths.home / "results" / "inbox", "a", key=bytes.fromhex(KEY))
    unit, sha256, signed, _ = path.name.split(".")
    assert unit == make_unit("a").unit_id
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert signed == hmac.new(bytes.fromhex(KEY), f"bundle\npi-4\n{sha256}".encode(), hashlib.sha256).hexdigest()
    assert read_bundle(path).signature == signed


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["good", "none", "forged", "another's"])
def test_who_is_refused(paths: Paths, store: Store, kind: str, known: bool, required: bool) -> None:
    """A wrong signature never passes where the key is known; without a key, or unsigned, nothing passes where keys are
    required; and what is refused does not stop the rest."""
    signing.add_key(paths, "mac", "2" * 64)
    if known:
        signing.add_key(paths, "pi-4", KEY)
    signing.require(paths, required)
    keys = {"good": bytes.fromhex(KEY), "none": None, "forged": b"guessed", "another's": bytes.fromhex("2" * 64)}
    put(store.inbox, "a", key=keys[kind])
    if required:
        (store.inbox / "junk").write_bytes(b"junk")
    taken = collect(paths, store)
    passes = {
        (True, True): kind == "good",
        (True, False): kind in ("good", "none"),
        (False, True): False,
        (False, False): True,
    }[known, required]
    assert taken.ingested == passes
    refused = [reason for name, reason in taken.quarantined if name != "junk"]
    assert len(refused) == (not passes)
    assert all("key" in r or "signature" in r for r in refused)
    assert query(paths, "SELECT count(*) FROM bundles") == [(passes,)] if taken.ingested or refused else True


def test_keys_are_for_this_user_only(paths: Paths) -> None:
    """A key others can read is no secret: it is made with mode 600, and refused, with the command, when that was changed."""
    path = signing.add_key(paths, "pi-4")
    assert path.stat().st_mode & 0o777 == 0o600
    assert paths.keys.stat().st_mode & 0o777 == 0o700
    key = signing.key_of(paths, "pi-4")
    assert key is not None and len(key) == 32
    path.chmod(0o640)
    with pytest.raises(LabError, match="mode 640") as refused:
        signing.key_of(paths, "pi-4")
    assert refused.value.mend == f"chmod 600 {path}"
    assert signing.key_of(paths, "mac") is None


def test_a_key_that_others_can_read_holds_up_its_host_only(paths: Paths, store: Store) -> None:
    """The bundle stays in the inbox with the reason, nothing is refused for good, and other hosts' go in."""
    path = signing.add_key(paths, "pi-4", KEY)
    path.chmod(0o644)
    put(store.inbox, "a", key=bytes.fromhex(KEY))
    taken = collect(paths, store)
    assert taken.ingested == 0
    assert taken.quarantined == []
    assert "chmod 600" in taken.left[0][1]
    path.chmod(0o600)
    assert collect(paths, store).ingested == 1


def test_a_key_is_given_once(paths: Paths) -> None:
    """Another key for a host would refuse all that it has signed; the same again, as copied to the host, is no mistake."""
    first = signing.add_key(paths, "pi-4", f"{KEY}\n")
    assert signing.add_key(paths, "pi-4", KEY) == first
    for text in ("2" * 64, None):
        with pytest.raises(LabError, match="has a key already"):
            signing.add_key(paths, "pi-4", text)
    with pytest.raises(LabError, match="not a key for mac"):
        signing.add_key(paths, "mac", "too short")
    with pytest.raises(LabError, match="invalid host name"):
        signing.add_key(paths, "../mac")
    assert signing.hosts_with_keys(paths) == ["pi-4"]
    signing.remove_key(paths, "pi-4")
    with pytest.raises(LabError, match="has no key"):
        signing.remove_key(paths, "pi-4")


def test_what_waited_before_the_key_came_is_signed(paths: Paths, store: Store) -> None:
    """A host that gets its key while bundles wait in its spool does not lose them to quarantine."""
    path = put(store.inbox, "a")
    paths.spool.mkdir(parents=True)
    path.rename(paths.spool / path.name)
    signing.add_key(paths, "pi-4", KEY)
    signing.require(paths, True)
    assert signing.sign_waiting(paths, "pi-4", bytes.fromhex(KEY)) == 1
    assert signing.sign_waiting(paths, "pi-4", bytes.fromhex(KEY)) == 0
    assert store.deliver(paths.spool).delivered == 1
    assert collect(paths, store).ingested == 1


def test_signed_and_unsigned_the_same_bundle_is_one(paths: Paths, store: Store) -> None:
    """The signature is no part of what is counted: the archive keeps one file, whole, whichever came last."""
    put(store.inbox, "a")
    assert collect(paths, store).ingested == 1
    (saved,) = paths.bundles.iterdir()
    saved.write_bytes(b"damaged")
    put(store.inbox, "a", key=bytes.fromhex(KEY))
    assert collect(paths, store).known == 1
    (again,) = paths.bundles.iterdir()
    assert again == saved
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == saved.name.split(".")[1]
