"""A bundle that ends the process which reads it: it is found out, refused, and blocks no other; a killed collector accuses nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_bundles import put

from warehouse.delivery.results_store import Store
from warehouse.ingest import suspects
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

DIES_READING = """
import os, signal
from warehouse.delivery.results_store import Store
from warehouse.ingest import read_ahead
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
read_ahead.read_bundle = lambda path, head: os.kill(os.getpid(), signal.SIGKILL)
collect(Paths.local(), Store.configured(Paths.local()))
"""


def die_reading(paths: Paths) -> None:
    """Run a collector that is killed while it reads its first bundle."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")} | {"LAB_HOME": str(paths.home)}
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", DIES_READING], env=environment, cwd=root)
    assert done.returncode == -signal.SIGKILL


def test_a_collector_that_was_killed_while_it_read_loses_nothing(paths: Paths, store: Store) -> None:
    """Most that die while they read were killed: what they were reading is read again, alone, and is as good as before."""
    first = min(put(store.inbox, "a"), put(store.inbox, "b"))
    die_reading(paths)
    assert paths.reading.read_bytes().rstrip(b"\0").decode() == first.name
    taken = collect(paths, store)
    assert (taken.ingested, taken.quarantined) == (2, [])
    assert not paths.reading.exists()


def test_what_ends_its_reader_again_is_refused_and_the_rest_goes_in(
    paths: Paths, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one bundle would end every collector, at each start again, with all good ones behind it."""
    first, second = sorted([put(store.inbox, "a"), put(store.inbox, "b")])
    die_reading(paths)
    fake_python = tmp_path / "python-that-dies"
    fake_python.write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
    fake_python.chmod(0o700)
    monkeypatch.setattr(suspects.sys, "executable", str(fake_python))
    taken = collect(paths, store)
    assert taken.ingested == 1
    [(name, reason)] = taken.quarantined
    assert name == first.name and "the process that read it died, and so did one that read it alone" in reason
    assert [p.name for p in paths.bundles.iterdir()] == [second.name]
    assert not paths.reading.exists()


def test_a_suspect_that_is_merely_wrong_has_its_own_reason(paths: Paths, store: Store) -> None:
    """A process that raises an error has not died; what is wrong with the bundle is what people need to know."""
    path = put(store.inbox, "a")
    die_reading(paths)
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    [(_, reason)] = collect(paths, store).quarantined
    assert reason == "the content does not match the SHA-256 in the name"
