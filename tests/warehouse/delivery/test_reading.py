"""What is known of a bundle before a row is read: bombs, strangers and forgeries end there, and sizes that lie end before they unpack."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_up_bundles import make_unit, put

from experiments.contract import Attachment, Trial
from warehouse.delivery import reading, signing
from warehouse.delivery.bundles import BadBundle, write_bundle
from warehouse.delivery.parquet_pages import unpacked_bytes
from warehouse.delivery.reading import read_bundle, read_head
from warehouse.delivery.results_store import Store
from warehouse.ingest import read_ahead
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def write(folder: Path, trials: list[Trial], *files: bytes) -> Path:
    attachments = [Attachment(f"{i}.bin", hashlib.sha256(f).hexdigest(), f) for i, f in enumerate(files)]
    unit = make_unit("a")
    times = {"started_at": NOW, "finished_at": NOW}
    made = {"provenance": {"identity": unit.identity}}
    return write_bundle(folder, unit, trials, attachments, host="pi-4", attempt=1, **times, **made)


def test_a_value_of_many_zeros_is_refused_before_a_row_is_read(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kilobytes that become gigabytes in one value would end a collector with little memory; the good bundle goes in."""
    bomb = write(store.inbox, [Trial("p", "none", answer="0" * (2**26)), Trial("q", "none")])
    assert bomb.stat().st_size < 20_000
    good = put(store.inbox, "b")
    read: list[str] = []
    real = read_ahead.read_bundle
    monkeypatch.setattr(read_ahead, "read_bundle", lambda path, head: read.append(path.name) or real(path, head))
    taken = collect(paths, store)
    assert taken.quarantined == [(bomb.name, f"a value of answer has more than {2**22} bytes, as its metadata claims")]
    assert read == [good.name] and taken.ingested == 1


@pytest.mark.parametrize("where", ["details", "answer", "attachment"])
def test_each_value_is_bounded_where_small_ones_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The metadata give the size of a column; many small values beside a large one would let it pass."""
    monkeypatch.setattr(reading, "FILE_BYTES", 0)
    monkeypatch.setitem(reading.MAX_BYTES, where, 2000)
    long: dict[str, dict[str, object]] = {"details": {"details": {"x": "0" * 3000}}, "answer": {"answer": "0" * 3000}}
    trials = [Trial(f"p{i}", "none") for i in range(99)] + [Trial("p", "none", **long.get(where, {}))]  # type: ignore[arg-type]
    path = write(tmp_path, trials, *([b"0" * 3000] if where == "attachment" else []))
    assert read_head(path).claims.num_rows >= 100
    with pytest.raises(BadBundle, match=f"a value of {where} has more than 2000 bytes$"):
        read_bundle(path)


def test_pages_that_are_larger_than_the_footer_claims_are_not_unpacked(tmp_path: Path) -> None:
    """A reader allocates what a page's header says. The footer is what was checked, so the headers must keep to it."""
    path = write(tmp_path, [Trial("p" * 300, "none"), Trial("q", "none")])
    content, claims = bytearray(path.read_bytes()), pq.read_metadata(path).row_group(0)
    columns = [claims.column(i) for i in range(claims.num_columns)]
    assert [unpacked_bytes(bytes(content), c) for c in columns] == [c.total_uncompressed_size for c in columns]
    # 0x15: a number follows; the type of the page, then its size unpacked, of which the higher seven bits are raised.
    at = columns[1].data_page_offset
    assert content[at : at + 3 : 2] == b"\x15\x15" and content[at + 3] > 127 > content[at + 4]
    content[at + 4] = 127
    changed = path.with_name(f"{path.name.split('.')[0]}.{hashlib.sha256(content).hexdigest()}.parquet")
    changed.write_bytes(content)
    read_head(changed)
    with pytest.raises(BadBundle, match="uncompressed in a column, its metadata claims less"):
        read_bundle(changed)


def test_plan_and_signature_are_checked_before_a_row_is_read(
    paths: Paths, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not asked, or not who it says, can make a coordinator read no more than a footer."""
    signing.add_key(paths, "pi-4")
    signing.require(paths, True)
    unsigned = put(store.inbox, "a")
    forged = put(store.inbox, "b", key=bytes(32))
    stranger = put(store.inbox, "of no plan", key=signing.key_of(paths, "pi-4"))
    monkeypatch.setattr(read_ahead, "read_bundle", lambda *_: pytest.fail("a row was read"))
    reasons = dict(collect(paths, store).quarantined)
    assert "is not signed" in reasons[unsigned.name]
    assert "the signature is not pi-4's" in reasons[forged.name]
    assert "no plan in this warehouse" in reasons[stranger.name]


def test_a_file_that_changes_between_footer_and_rows_waits(tmp_path: Path) -> None:
    """What was checked must be what is read; the file is looked at again with the next call."""
    path = write(tmp_path, [Trial("p", "none")])
    head, other = read_head(path), write(tmp_path / "other", [Trial("q", "none")])
    content = other.read_bytes()
    changed = path.with_name(other.name)
    changed.write_bytes(content)
    with pytest.raises(OSError, match="changed while it was read"):
        read_bundle(changed, head)
