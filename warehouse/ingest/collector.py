"""The collector: ingest bundles from the inbox exactly once; put bad ones into quarantine with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from common.files import TEMPORARY, move, sweep, sync_folder
from warehouse.database.arrivals import arrival_at, last_arrival
from warehouse.database.connection import writing
from warehouse.database.statements import column_of, insert, number_of, transaction
from warehouse.delivery.bundles import BadBundle, Bundle
from warehouse.delivery.reading import read_bundle
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.directory import Directory
from warehouse.delivery.transports.protocol import bundles_in
from warehouse.ingest import arrival
from warehouse.ingest.host_reports import new_reports, take_reports
from warehouse.ingest.outcome import Collected, Collection, Refused, noting_what_stays, quarantine, why_it_stays
from warehouse.ingest.read_ahead import Inbox, Readings, read_ahead
from warehouse.ingest.suspects import Suspects
from warehouse.ingest.trial_rows import insert_trials, row_of, table_of
from warehouse.paths import Paths

KIND = re.compile(r"[a-z0-9+]{1,20}")
FROM_ARCHIVE = "archive"  # instead of a transport, for bundles that lost their row
GROUP_BUNDLES = 200  # ingested in one transaction
# The trials of small bundles are inserted together up to these sizes.
CHUNK_TRIALS = 15_000
CHUNK_BYTES = 64 * 2**20  # in memory
# Settings of DuckDB during a collection, measured with 1.5 on two cores.
SETTINGS = {
    # Larger transactions are written into the database directly, not into its log first: with 60,000 trials a fifth less
    # time. Smaller ones are faster with the log.
    "checkpoint_threshold": "4MB",
    # A second thread would slow down the one that reads bundles, by a third.
    "threads": "1",
    # Full row groups are written while more bundles are read, instead of all at the end.
    "write_buffer_row_group_count": "1",
}


def collect(paths: Paths, store: Store, con: Connection | None = None) -> Collected:
    """Ingest everything in the inbox, after what the archive holds without a row.

    A crash at any point loses and doubles nothing: run it again. What cannot be read for a fault of this machine stays.

    Args:
        con: a connection from `writing`; None: open the warehouse, and publish a snapshot, if something waits.

    Raises:
        LabError: the warehouse is held by another process.
    """
    store.fetch()
    taken = Collected()
    waiting, reports = _waiting(store), new_reports(paths, store, taken.left)
    if con is not None:
        _take_all(Collection(con, paths, store, taken), waiting, reports)
    elif waiting or reports:
        with writing(paths, publish=True) as own:
            # Listed again: another collector may have held the lock until now.
            taken.left.clear()
            _take_all(Collection(own, paths, store, taken), _waiting(store), new_reports(paths, store, taken.left))
    return taken


def _take_all(now: Collection, waiting: Sequence[Path], reports: Mapping[str, bytes]) -> None:
    _recover(now)
    if waiting:
        with _settings(now.con), Suspects(now.paths) as suspects:
            inbox = Inbox(now.paths, partial(arrival.look_up, now.con), suspects)
            with closing(read_ahead(inbox, waiting)) as readings:
                for first in range(0, len(waiting), GROUP_BUNDLES):
                    _take(now, waiting[first : first + GROUP_BUNDLES], readings, inbox)
    if reports:
        take_reports(now, reports)


@contextmanager
def _settings(con: Connection) -> Iterator[None]:
    """Apply SETTINGS to DuckDB during the block."""
    before = [con.execute("SELECT current_setting(?)", [name]).fetchone() for name in SETTINGS]
    try:
        for name, value in SETTINGS.items():
            con.execute(f"SET {name} = '{value}'")
        yield
    finally:
        for name, found in zip(SETTINGS, before, strict=True):
            con.execute(f"SET {name} = '{found[0]}'" if found else f"RESET {name}")


def _waiting(store: Store) -> list[Path]:
    if not store.inbox.is_dir():
        return []
    for folder in store.folders:
        sweep(folder)
    return sorted(p for p in store.inbox.iterdir() if not p.name.startswith(TEMPORARY))


class _Good(NamedTuple):
    path: Path
    sha256: str
    known: bool  # True if it was ingested before


class _Bad(NamedTuple):
    path: Path
    reason: str


@dataclass
class _Sorted:
    """The entries of one group, by what is to be done with them."""

    good: list[_Good] = field(default_factory=list)
    bad: list[_Bad] = field(default_factory=list)
    left: list[Refused] = field(default_factory=list)


def _take(now: Collection, group: Sequence[Path], readings: Readings, inbox: Inbox) -> None:
    """Insert the bundles of a group in one transaction, then move them into the archive, and bad entries into quarantine.

    `readings` begin with those of `group`, which are consumed.
    """
    seen, archive, taken = _Sorted(), now.paths.bundles, now.taken
    try:
        with closing(_new_bundles(now, group, readings, seen)) as bundles:
            replicates = insert_bundles(now.con, bundles, datetime.now(UTC), now.store.transport.kind)
    except BadBundle as error:
        if len(group) > 1:
            # One bundle has a bad value: insert each alone to find it.
            for path in group:
                with closing(read_ahead(inbox, [path])) as alone:
                    _take(now, [path], alone, inbox)
            return
        seen, replicates = _Sorted(bad=[_Bad(group[0], str(error))]), {}
    there = archived(now.paths)
    taken.left += seen.left
    for path, sha256, known in seen.good:
        taken.known += known
        taken.ingested += not known
        taken.replicates += not known and replicates[sha256] > 0
        # A bundle may come signed and unsigned; a known one replaces its file in the archive, which may be damaged.
        target = there.setdefault(sha256, archive / path.name)
        with noting_what_stays(path, taken):
            move(path, target, sync=False)
    if seen.good and archive.is_dir():
        sync_folder(archive)
    for path, reason in seen.bad:
        with noting_what_stays(path, taken):
            quarantine(now, path, reason)


def _new_bundles(
    now: Collection, group: Sequence[Path], readings: Readings, seen: _Sorted
) -> Generator[Bundle, None, None]:
    """Yield the bundles of a group that are to be inserted; sort all entries into `seen`."""
    known = arrival.known(now.con, group)
    own = islice(readings, len(group))
    try:
        for path, reading in own:
            try:
                bundle = reading.result()
                before = bundle.sha256 in known
                # Attachments first: they are content-addressed, so a crash before the commit does no harm.
                for a in bundle.attachments:
                    now.store.put_file(a.content)
            except BadBundle as error:
                seen.bad.append(_Bad(path, str(error)))
                continue
            except FileNotFoundError:
                continue
            except Exception as error:
                if (reason := why_it_stays(error, path)) is None:
                    raise
                seen.left.append(Refused(path.name, reason))
                continue
            known.add(bundle.sha256)
            seen.good.append(_Good(path, bundle.sha256, before))
            if not before:
                yield bundle
    finally:
        for _ in own:
            pass  # consume the rest of a group that failed, so that the next group begins with its own


def _recover(now: Collection) -> None:
    """Insert the bundles of the archive that lost their rows, as a cut log of the warehouse leaves them."""
    there = archived(now.paths)
    for sha256 in column_of(now.con, "SELECT sha256 FROM bundles"):
        there.pop(sha256, None)
    names = {path: path.name.split(".")[0] for path in there.values()}
    sql = "SELECT DISTINCT unit_id FROM units WHERE unit_id IN (SELECT unnest(?::VARCHAR[]))"
    planned = set(column_of(now.con, sql, [list(names.values())])) if names else set()
    # Others stay: their plan may have lost its row too.
    for path in (p for p, unit_id in names.items() if unit_id in planned):
        with noting_what_stays(path, now.taken):
            try:
                take_archived(now.con, now.store, read_bundle(path), path)
            except BadBundle as error:
                quarantine(now, path, str(error))
            else:
                now.taken.recovered += 1


def archived(paths: Paths) -> dict[str, Path]:
    """Return SHA-256 -> file of every bundle in the archive."""
    return {path.name.split(".")[1]: path for path in bundles_in(paths.bundles)}


def take_archived(con: Connection, store: Store, bundle: Bundle, path: Path) -> None:
    """Insert a bundle of the archive that has no row; it counts as received when its file was written.

    Raises:
        BadBundle: it is not what a plan asks for, it was rejected, or DuckDB refuses a value.
    """
    arrival.checked(con, bundle)
    for a in bundle.attachments:
        store.put_file(a.content)
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    insert_bundles(con, [bundle], at, FROM_ARCHIVE)
    number = [arrival_at(con, at), bundle.sha256]
    con.execute("UPDATE bundles SET arrival = ? WHERE sha256 = ?", number)


def insert_bundles(con: Connection, bundles: Iterable[Bundle], received_at: datetime, transport: str) -> dict[str, int]:
    """Insert bundles in one transaction, or none and raise BadBundle; return SHA-256 -> replicate number."""
    try:
        with transaction(con):
            return _insert_rows(con, bundles, received_at, transport)
    except duckdb.DataError as error:
        raise BadBundle(f"the warehouse refuses a value: {str(error)[:200]}") from error


def _transport(bundle: Bundle, own: str) -> str:
    """Return the transport by which a bundle came.

    What lies in this machine's own folder may have been put there by the inbox's server or over ssh, as its sender says.
    """
    said = bundle.manifest["provenance"].get("transport")
    return str(said) if own == Directory.kind and isinstance(said, str) and KIND.fullmatch(said) else own


def _insert_rows(con: Connection, bundles: Iterable[Bundle], received_at: datetime, transport: str) -> dict[str, int]:
    chunk, trials, size = list[pa.Table](), 0, 0
    rows: list[dict[str, object]] = []
    arrival = last_arrival(con)
    replicates: dict[str, int] = {}
    per_unit: Counter[str] = Counter()
    for bundle in bundles:
        m = bundle.manifest
        if m["unit_id"] not in per_unit:
            per_unit[m["unit_id"]] = number_of(con, "SELECT count(*) FROM bundles WHERE unit_id = ?", [m["unit_id"]])
        replicates[bundle.sha256] = per_unit[m["unit_id"]]
        per_unit[m["unit_id"]] += 1
        arrival += 1
        received = {"replicate": replicates[bundle.sha256], "received_at": received_at}
        received["transport"] = _transport(bundle, transport)
        received["arrival"] = arrival
        rows.append({"sha256": bundle.sha256, **row_of(bundle), **received})
        files = [
            {"sha256": a.sha256, "unit_id": m["unit_id"], "name": a.name, "size_bytes": len(a.content)}
            for a in bundle.attachments
        ]
        insert(con, "files", files, "DO NOTHING")
        table = table_of(bundle)
        chunk.append(table)
        trials, size = trials + table.num_rows, size + table.nbytes
        if trials >= CHUNK_TRIALS or size >= CHUNK_BYTES:
            insert_trials(con, chunk)
            chunk, trials, size = [], 0, 0
    if chunk:
        insert_trials(con, chunk)
    insert(con, "bundles", rows)
    return replicates
