"""Put bad bundles between good ones into an inbox, and look whether each is refused and every good one counts."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.random import Generator

from benchmarks.chaos.found import Found, look
from benchmarks.chaos.work import UNITS, WRITERS, labels_of, plan, put_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

WRITER = WRITERS[0]
A_COLLECTION = 10  # bad bundles that a collector finds at once
HUGE_BYTES = 64_000_000  # of one value, 60 kB on the disk


def run(folder: Path, number: int, rng: Generator, until: float) -> tuple[Counter[str], Found]:
    """Offer so many bad bundles, over as many homes as that needs.

    Args:
        until: time.monotonic() after which no more are offered.

    Returns:
        Bad bundles by kind, and what was found.
    """
    hit, found = Counter[str](), Found()
    while (left := number - sum(hit.values())) > 0 and time.monotonic() < until:
        one, seen = offer(folder / f"home-{sum(hit.values())}", min(left, UNITS), rng, until)
        hit += one
        found.add(seen)
    return hit, found


def offer(home: Path, number: int, rng: Generator, until: float) -> tuple[Counter[str], Found]:
    """Offer bad bundles of one home's units, each followed by its good one, and look at what is left."""
    paths = Paths(home)
    plan(paths, [WRITER])
    store, hit, found, labels = Store.configured(paths), Counter[str](), Found(), labels_of(WRITER)
    for first in range(0, number, A_COLLECTION):
        if time.monotonic() >= until:
            break
        some = labels[first : min(first + A_COLLECTION, number)]
        for label in some:
            kind = str(rng.choice(list(KINDS)))
            KINDS[kind](put_bundle(store.inbox, label), rng)
            hit[kind] += 1
        _collect(paths, store, 0, len(some), found)
        for label in some:
            put_bundle(store.inbox, label)
        _collect(paths, store, len(some), 0, found)
    shutil.rmtree(paths.quarantine, ignore_errors=True)  # as `look` takes what is in it for a loss
    journal = "".join(f"{i}\n" for i in range(sum(hit.values())))
    found.add(look(home, {WRITER: journal}))
    return hit, found


def _collect(paths: Paths, store: Store, good: int, bad: int, found: Found) -> None:
    """Collect, where so many bundles are good and so many bad."""
    try:
        taken = collect(paths, store)
    except Exception:
        found.crashed.append(f"collect: {traceback.format_exc(limit=-1)}")
        return
    if (taken.ingested, len(taken.quarantined)) != (good, bad):
        refused = [why for _, why in taken.quarantined]
        found.distorted.append(
            f"{taken.ingested} of {good} good bundles were taken in, of {bad} bad ones refused: {refused}"
        )


def _renamed(path: Path, content: bytes) -> None:
    """Replace a bundle by one with another content, under the name that this content has."""
    path.unlink()
    path.with_name(f"{path.name[:32]}.{hashlib.sha256(content).hexdigest()}.parquet").write_bytes(content)


def _rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(change(pq.read_table(path)), sink, compression="zstd", use_dictionary=False)
    _renamed(path, sink.getvalue().to_pybytes())


def _with_column(path: Path, name: str, change: Callable[[pa.Table], pa.Array]) -> None:
    """Rewrite a bundle with other values in one column."""

    def changed(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        return table.set_column(index, table.schema.field(index), change(table))

    _rewritten(path, changed)


def _flipped(path: Path, rng: Generator) -> None:
    content = bytearray(path.read_bytes())
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _cut(path: Path, rng: Generator) -> None:
    path.write_bytes(path.read_bytes()[: int(rng.integers(path.stat().st_size))])


def _cut_and_renamed(path: Path, rng: Generator) -> None:
    _renamed(path, path.read_bytes()[: int(rng.integers(path.stat().st_size))])


def _longer(path: Path, rng: Generator) -> None:
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 1000))))


def _noise(path: Path, rng: Generator) -> None:
    _renamed(path, rng.bytes(int(rng.integers(1, 10_000))))


def _of_another_unit(path: Path, rng: Generator) -> None:
    other = rng.bytes(16).hex()
    path.rename(path.with_name(other + path.name[32:]))


def _fewer_trials(path: Path, rng: Generator) -> None:
    _rewritten(path, lambda table: table.slice(int(rng.integers(1, len(table)))))


def _trials_twice(path: Path, rng: Generator) -> None:
    _rewritten(path, lambda table: pa.concat_tables([table, table]))


def _no_details(path: Path, rng: Generator) -> None:
    _with_column(path, "details", lambda table: pa.array(["{}"] * len(table)))


def _no_manifest(path: Path, rng: Generator) -> None:
    _rewritten(path, lambda table: table.replace_schema_metadata(None))


def _other_problems(path: Path, rng: Generator) -> None:
    _with_column(path, "problem_id", lambda table: pc.utf8_reverse(table["problem_id"]))


def _huge(path: Path, rng: Generator) -> None:
    _with_column(path, "details", lambda table: pa.array(["\0" * HUGE_BYTES] + [""] * (len(table) - 1)))


def _pipe(path: Path, rng: Generator) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, rng: Generator) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _folder(path: Path, rng: Generator) -> None:
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    (path / path.name).write_bytes(content)


def _other_name(path: Path, rng: Generator) -> None:
    path.rename(path.with_name(f"{rng.bytes(8).hex()}.parquet"))


KINDS: dict[str, Callable[[Path, Generator], None]] = {
    "a bit flipped": _flipped,
    "cut off": _cut,
    "cut off, under its own digest": _cut_and_renamed,
    "bytes added": _longer,
    "noise": _noise,
    "under another unit's name": _of_another_unit,
    "trials left out": _fewer_trials,
    "trials twice": _trials_twice,
    "no details": _no_details,
    "no manifest": _no_manifest,
    "other problems": _other_problems,
    "a value of 64 MB": _huge,
    "a pipe": _pipe,
    "a link": _link,
    "a folder": _folder,
    "no bundle's name": _other_name,
}
