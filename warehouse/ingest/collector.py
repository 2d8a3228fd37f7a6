"""The collector: bundles from the inbox into the warehouse, exactly once; bad ones into quarantine with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa

from common.errors import LabError
from common.files import TEMPORARY, move, sweep, sync_folder
from experiments.contract import Json
from warehouse.database.connection import writing
from warehouse.database.statements import column_of, insert, number_of, transaction
from warehouse.delivery.bundles import NAME, BadBundle, Bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.host_reports import new_reports, take_reports
from warehouse.ingest.outcome import Collected, quarantine, reporting_what_stays
from warehouse.ingest.read_ahead import Readings, read_ahead
from warehouse.ingest.trial_rows import insert_trials, row_of, table_of
from warehouse.paths import Paths

FROM_ARCHIVE = "archive"  # in the place of a transport, where the row was lost that knew it
UNPLANNED = "no plan in this warehouse asks for its unit"
GROUP_BUNDLES = 200  # taken in at once, in one transaction
# Of small bundles as many as make up one of these are inserted together.
CHUNK_TRIALS = 15_000
CHUNK_BYTES = 64 * 2**20  # in memory
# Settings of DuckDB while bundles are taken in, as measured with 1.5 on two cores.
TAKING = {
    # From which size on a transaction goes into the database at once, not into its log first and then from there: of 60,000
    # trials a fifth of the time less. Smaller ones do better with the log, since that writes nothing again.
    "checkpoint_threshold": "4MB",
    # A second thread would only take the place of the one that reads: a third less work.
    "threads": "1",
    # Each full row group is written at once, while more is read; otherwise all of them in the end, while nothing is.
    "write_buffer_row_group_count": "1",
}


def collect(paths: Paths, store: Store, con: duckdb.DuckDBPyConnection | None = None) -> Collected:
    """Take everything out of the inbox. A crash at any point loses and doubles nothing: run it again.

    Args:
        con: a connection from `writing`; without one, the warehouse is opened, and the snapshot published, only when
            something waits.

    Raises:
        LabError: the warehouse is held by another process.
    """
    store.fetch()
    taken = Collected()
    waiting, reports = _waiting(store), new_reports(paths, store)
    if con is not None:
        _take_all(con, paths, store, waiting, reports, taken)
    elif waiting or reports:
        with writing(paths, publish=True) as own:
            # Looked again: another collector may have held the lock until now.
            _take_all(own, paths, store, _waiting(store), new_reports(paths, store), taken)
    return taken


def _take_all(
    con: duckdb.DuckDBPyConnection,
    paths: Paths,
    store: Store,
    waiting: Sequence[Path],
    reports: Sequence[tuple[str, bytes]],
    taken: Collected,
) -> None:
    if waiting:
        with _taking(con), closing(read_ahead(paths, waiting)) as readings:
            for first in range(0, len(waiting), GROUP_BUNDLES):
                _take(con, paths, store, waiting[first : first + GROUP_BUNDLES], readings, taken)
    if reports:
        take_reports(con, paths, store, reports, taken)


@contextmanager
def _taking(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """DuckDB as TAKING says, until the end of the block."""
    before = [con.execute("SELECT current_setting(?)", [name]).fetchone() for name in TAKING]
    try:
        for name, value in TAKING.items():
            con.execute(f"SET {name} = '{value}'")
        yield
    finally:
        for name, found in zip(TAKING, before, strict=True):
            con.execute(f"SET {name} = '{found[0]}'" if found else f"RESET {name}")


def _waiting(store: Store) -> list[Path]:
    if not store.inbox.is_dir():
        return []
    for folder in store.folders:
        sweep(folder)
    return sorted(p for p in store.inbox.iterdir() if not p.name.startswith(TEMPORARY))


@dataclass
class _Seen:
    """What became of the entries of one group while they were read."""

    good: list[tuple[Path, str, bool]] = field(default_factory=list)  # with its SHA-256, and whether it was here before
    bad: list[tuple[Path, str]] = field(default_factory=list)  # with the reason
    left: list[tuple[str, str]] = field(default_factory=list)  # name and reason


def _take(
    con: duckdb.DuckDBPyConnection,
    paths: Paths,
    store: Store,
    group: Sequence[Path],
    readings: Readings,
    taken: Collected,
) -> None:
    """Entries of the inbox: into the warehouse, all of them or none, then into the archive, or into quarantine.

    Args:
        readings: begin with those of `group`, and are used up as far.
    """
    seen = _Seen()
    try:
        with closing(_new_bundles(con, store, group, readings, seen)) as bundles:
            replicates = _insert(con, bundles, datetime.now(UTC), store.way.kind)
    except BadBundle as error:
        if len(group) > 1:
            # One of them, and nobody knows which.
            for path in group:
                with closing(read_ahead(paths, [path])) as alone:
                    _take(con, paths, store, [path], alone, taken)
            return
        seen, replicates = _Seen(bad=[(group[0], str(error))]), {}
    there = archived(paths)
    taken.left += seen.left
    for path, sha256, known in seen.good:
        taken.known += known
        taken.ingested += not known
        taken.replicates += not known and replicates[sha256] > 0
        # The same bundle may come signed and unsigned; one that is known replaces its file, which may be damaged.
        target = there.setdefault(sha256, paths.bundles / path.name)
        with reporting_what_stays(path, taken):
            move(path, target, sync=False)
    if seen.good and paths.bundles.is_dir():
        sync_folder(paths.bundles)
    for path, reason in seen.bad:
        with reporting_what_stays(path, taken):
            quarantine(con, paths, store, path, reason, taken)


def _new_bundles(
    con: duckdb.DuckDBPyConnection, store: Store, group: Sequence[Path], readings: Readings, seen: _Seen
) -> Generator[Bundle, None, None]:
    """The bundles of a group that are to be inserted."""
    names = [named for path in group if (named := NAME.fullmatch(path.name))]
    known = _known(con, [named[2] for named in names])
    planned = _planned(con, [named[1] for named in names])
    own = islice(readings, len(group))
    try:
        for path, reading in own:
            try:
                bundle = reading.result()
                before = bundle.sha256 in known
                if not before:
                    _check_planned(bundle, planned)
                # Attachments first: content-addressed, so a crash before the commit leaves nothing wrong behind.
                for a in bundle.attachments:
                    store.put_file(a.content)
            except BadBundle as error:
                seen.bad.append((path, str(error)))
                continue
            except FileNotFoundError:
                continue
            except (OSError, LabError) as error:
                seen.left.append((path.name, str(error)[:200]))
                continue
            known.add(bundle.sha256)
            seen.good.append((path, bundle.sha256, before))
            if not before:
                yield bundle
    finally:
        for _ in own:
            pass  # of a group that is given up, so that the next one begins with its own


def archived(paths: Paths) -> dict[str, Path]:
    """SHA-256 -> file of every bundle in the archive, by its name."""
    found = {}
    for path in sorted(paths.bundles.glob("*.parquet")):
        if named := NAME.fullmatch(path.name):
            found[named[2]] = path
    return found


def take_archived(con: duckdb.DuckDBPyConnection, store: Store, bundle: Bundle, path: Path) -> None:
    """A bundle that lies in the archive, at `path`, and has no row; it counts as received when its file came.

    Raises:
        BadBundle: no plan asks for it, or DuckDB refuses a value.
    """
    _check_planned(bundle, _planned(con, [bundle.manifest["unit_id"]]))
    for a in bundle.attachments:
        store.put_file(a.content)
    _insert(con, [bundle], datetime.fromtimestamp(path.stat().st_mtime, UTC), FROM_ARCHIVE)


def _known(con: duckdb.DuckDBPyConnection, hashes: Sequence[str]) -> set[str]:
    return set(
        column_of(con, "SELECT sha256 FROM bundles WHERE sha256 IN (SELECT unnest(?::VARCHAR[]))", [list(hashes)])
    )


def _planned(con: duckdb.DuckDBPyConnection, unit_ids: Sequence[str]) -> dict[str, tuple[str, Json]]:
    """Unit -> (phase, identity), of those that some plan asks for."""
    rows = con.execute(
        "SELECT DISTINCT ON (unit_id) unit_id, phase, spec->'identity' FROM units "
        "WHERE unit_id IN (SELECT unnest(?::VARCHAR[]))",
        [list(unit_ids)],
    ).fetchall()
    return {unit_id: (phase, json.loads(identity)) for unit_id, phase, identity in rows}


def _check_planned(bundle: Bundle, planned: Mapping[str, tuple[str, Json]]) -> None:
    """Whether some plan asks for the bundle's unit, and it was computed with what was planned.

    Raises:
        BadBundle: with what differs.
    """
    m = bundle.manifest
    if m["unit_id"] not in planned:
        raise BadBundle(UNPLANNED)
    phase, wanted = planned[m["unit_id"]]
    if m["phase"] != phase:
        raise BadBundle(f"it says {m['phase']}, its unit is one of {phase}")
    used = m["provenance"].get("identity")
    if not isinstance(used, dict):
        raise BadBundle("it does not say with which code, data and models it was computed")
    if used != wanted:
        differ = sorted(k for k in wanted.keys() | used.keys() if wanted.get(k) != used.get(k))
        raise BadBundle(f"computed with other {', '.join(differ)[:200]} than planned")


def _insert(
    con: duckdb.DuckDBPyConnection, bundles: Iterable[Bundle], received_at: datetime, transport: str
) -> dict[str, int]:
    """Rows of bundles in one transaction; returns SHA-256 -> replicate number.

    Raises:
        BadBundle: DuckDB refuses a value; nothing was inserted.
    """
    try:
        with transaction(con):
            return _insert_rows(con, bundles, received_at, transport)
    except duckdb.DataError as error:
        raise BadBundle(f"the warehouse refuses a value: {str(error)[:200]}") from error


def _insert_rows(
    con: duckdb.DuckDBPyConnection, bundles: Iterable[Bundle], received_at: datetime, transport: str
) -> dict[str, int]:
    chunk, trials, size = list[pa.Table](), 0, 0
    rows: list[dict[str, object]] = []
    replicates: dict[str, int] = {}
    per_unit: Counter[str] = Counter()
    for bundle in bundles:
        m = bundle.manifest
        if m["unit_id"] not in per_unit:
            per_unit[m["unit_id"]] = number_of(con, "SELECT count(*) FROM bundles WHERE unit_id = ?", [m["unit_id"]])
        replicates[bundle.sha256] = per_unit[m["unit_id"]]
        per_unit[m["unit_id"]] += 1
        rows.append(
            {
                "sha256": bundle.sha256,
                **row_of(bundle),
                "replicate": replicates[bundle.sha256],
                "received_at": received_at,
                "transport": transport,
            }
        )
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
