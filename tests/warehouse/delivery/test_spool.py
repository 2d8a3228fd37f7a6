"""The spool: what waits is stored with its reason, over restarts, and takes little room."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_transport import fill

from experiments.contract import Trial, Unit
from warehouse.delivery import spool
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths


def test_what_waits_is_listed_the_oldest_first_with_the_last_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds results missing sees on the machine itself how many, since when and why, also after a restart."""
    paths = Paths(tmp_path / "home")
    monkeypatch.setenv("LAB_RESULTS_URL", str(tmp_path / "mount"))
    assert spool.look(paths) == spool.Spool((), None)
    names = fill(paths.spool, 3)
    os.utime(paths.spool / names[2], (1_700_000_000, 1_700_000_000))
    (paths.spool / "notes.txt").write_text("mine")
    assert spool.look(paths).last_attempt is None
    reason = Store.configured(paths).deliver(paths.spool).reason
    found = spool.look(Paths(tmp_path / "home"))
    assert [w.name for w in found.waiting] == [
        names[2],
        *sorted(names[:2], key=lambda n: (paths.spool / n).stat().st_mtime),
    ]
    assert found.waiting[0].since == datetime.fromtimestamp(1_700_000_000, UTC)
    assert found.size_bytes == 3
    assert found.last_attempt and (found.last_attempt.reason, found.last_attempt.where) == (
        reason,
        str(tmp_path / "mount"),
    )
    assert json.loads(json.dumps(found.to_json()))["last_attempt"]["reason"] == reason
    # Half a record of the reason hides none of the bundles.
    paths.spool_reason.write_text('{"at": ')
    assert len(spool.look(paths).waiting) == 3 and spool.look(paths).last_attempt is None
    (tmp_path / "mount" / "inbox").mkdir(parents=True)
    done = Store.configured(paths).deliver(paths.spool)
    assert (done.delivered, done.size_bytes) == (3, 3)
    assert not paths.spool_reason.exists()


def test_a_bundle_is_compressed(tmp_path: Path) -> None:
    """Prompts repeat and are stored whole, so that what goes over a slow line is a small part of what they are."""
    unit = Unit("a" * 32, "p1", 1, {}, {}, {"code": "c", "data": "d", "models": {}})
    prompt = "Given the following function, name its complexity class.\n" * 40
    trials = [Trial(f"p-{i}", "none", details={"prompt": f"{prompt}{i}"}) for i in range(200)]
    now = datetime(2026, 11, 24, tzinfo=UTC)
    path = write_bundle(tmp_path, unit, trials, host="pi", attempt=1, started_at=now, finished_at=now, provenance={})
    metadata = pq.read_metadata(path)
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    assert {c.compression for c in columns} == {"ZSTD"}
    plain = sum(len(t.details["prompt"]) for t in trials)
    assert path.stat().st_size < plain / 20
