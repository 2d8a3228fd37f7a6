"""The collector: bundles from the inbox into the warehouse, exactly once; bad ones into quarantine with the reason."""

from __future__ import annotations

import errno
import json
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from experiments.contract import Json
from experiments.environment import checked_host
from experiments.errors import LabError
from experiments.identity import canonical
from warehouse.bundles import BadBundle, Bundle, read_bundle
from warehouse.database import writing
from warehouse.durable import TEMPORARY, move, sweep, write_whole
from warehouse.places import Places
from warehouse.signing import refusal
from warehouse.transport import MAX_REPORT_BYTES, Store

FROM_ARCHIVE = "archive"  # in the place of a transport, where the row was lost that knew it
CLOCK_SLACK = timedelta(minutes=10)  # a host's clock may be this much ahead
UNPLANNED = "no plan in this warehouse asks for its unit"
# Rows of trials from a bundle's table registered as `incoming`; its SHA-256, unit and host are asked for.
TRIALS = (
    "SELECT ?, ?, ?, ordinal, problem_id, condition, seed, attempts, solved, answer, truth, tokens_in, tokens_out, "
    "latency_s, error, details::JSON FROM incoming"
)
TIERS = ("weak", "medium", "strong", "unfit")  # DESIGN, The way of the data, 1


@dataclass
class Collected:
    """What one call took in."""

    ingested: int = 0
    replicates: int = 0  # second bundles of a unit, kept and never counted
    known: int = 0  # bundles that were here already
    quarantined: list[tuple[str, str]] = field(default_factory=list)  # (name, reason)
    left: list[tuple[str, str]] = field(default_factory=list)  # (name, reason) of what stays for the next call


def collect(places: Places, store: Store, con: duckdb.DuckDBPyConnection | None = None) -> Collected:
    """Take everything out of the inbox. A crash at any point loses and doubles nothing: run it again.

    Args:
        con: a connection from `writing`; without one, the warehouse is opened, and the snapshot published, only when
            something waits.

    Raises:
        LabError: the warehouse is held by another process.
    """
    store.fetch()
    taken = Collected()
    waiting, reports = _waiting(store), _new_reports(places, store)
    if con is not None:
        _take_all(con, places, store, waiting, reports, taken)
    elif waiting or reports:
        with writing(places, publish=True) as own:
            # Looked again: another collector may have held the lock until now.
            _take_all(own, places, store, _waiting(store), _new_reports(places, store), taken)
    return taken


def _take_all(
    con: duckdb.DuckDBPyConnection, places: Places, store: Store, waiting: Sequence[Path],
    reports: Sequence[tuple[str, bytes]], taken: Collected,
) -> None:  # fmt: skip
    for path in waiting:
        try:
            _take(con, places, store, path, taken)
        except FileNotFoundError:
            continue  # somebody took it away meanwhile
        except (OSError, LabError) as error:
            taken.left.append((path.name, str(error)[:200]))
    for host, content in reports:
        with suppress(FileNotFoundError):
            _take_report(con, places, store, host, content, taken)


def _waiting(store: Store) -> list[Path]:
    if not store.inbox.is_dir():
        return []
    sweep(store.inbox)
    return sorted(p for p in store.inbox.iterdir() if not p.name.startswith(TEMPORARY))


def _take(con: duckdb.DuckDBPyConnection, places: Places, store: Store, path: Path, taken: Collected) -> None:
    """One entry of the inbox: into the warehouse and the archive, or into quarantine."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BadBundle("not a plain file")
        bundle = read_bundle(path)
        if refused := refusal(places, bundle.manifest["host"], bundle.sha256, bundle.signature):
            raise BadBundle(refused)
        known = con.execute("SELECT 1 FROM bundles WHERE sha256 = ?", [bundle.sha256]).fetchone()
        if not known:
            _check_planned(con, bundle)
        # Attachments first: they are content-addressed, so a crash before the commit leaves nothing wrong behind.
        for a in bundle.attachments:
            store.put_file(a.content)
        if known:
            taken.known += 1
        else:
            replicate = _insert(con, bundle, datetime.now(UTC), store.way.kind)
            taken.ingested += 1
            taken.replicates += replicate > 0
    except BadBundle as error:
        _quarantine(con, places, store, path, str(error), taken)
        return
    # The same bundle may come signed and unsigned; one that is known replaces its file, which may be damaged.
    kept = next(places.bundles.glob(f"{bundle.manifest['unit_id']}.{bundle.sha256}*.parquet"), None)
    move(path, kept or places.bundles / path.name)


def take_archived(con: duckdb.DuckDBPyConnection, store: Store, bundle: Bundle, path: Path) -> None:
    """A bundle that lies in the archive, at `path`, and has no row; it counts as received when its file came.

    Raises:
        BadBundle: no plan asks for it, or DuckDB refuses a value.
    """
    _check_planned(con, bundle)
    for a in bundle.attachments:
        store.put_file(a.content)
    _insert(con, bundle, datetime.fromtimestamp(path.stat().st_mtime, UTC), FROM_ARCHIVE)


def _check_planned(con: duckdb.DuckDBPyConnection, bundle: Bundle) -> None:
    """Whether some plan asks for the bundle's unit, and it was computed with what was planned.

    Raises:
        BadBundle: with what differs.
    """
    m = bundle.manifest
    planned = con.execute(
        "SELECT phase, spec->'identity' FROM units WHERE unit_id = ? LIMIT 1", [m["unit_id"]]
    ).fetchone()
    if planned is None:
        raise BadBundle(UNPLANNED)
    phase, identity = planned
    if m["phase"] != phase:
        raise BadBundle(f"it says {m['phase']}, its unit is one of {phase}")
    wanted, used = json.loads(identity), m["provenance"].get("identity")
    if not isinstance(used, dict):
        raise BadBundle("it does not say with which code, data and models it was computed")
    if used != wanted:
        differ = sorted(k for k in wanted.keys() | used.keys() if wanted.get(k) != used.get(k))
        raise BadBundle(f"computed with other {', '.join(differ)[:200]} than planned")


def _insert(con: duckdb.DuckDBPyConnection, bundle: Bundle, received_at: datetime, transport: str) -> int:
    """Rows of one bundle in one transaction; returns its replicate number.

    Raises:
        BadBundle: DuckDB refuses a value.
    """
    # Outside the transaction: DuckDB 2 lets go of a table in no transaction that has failed.
    con.register("incoming", bundle.trials.drop_columns(["attachment"]))
    con.begin()
    try:
        replicate = _insert_rows(con, bundle, received_at, transport)
        con.commit()
    except duckdb.DataError as error:
        con.rollback()
        raise BadBundle(f"the warehouse refuses a value: {str(error)[:200]}") from error
    except Exception:
        con.rollback()
        raise
    finally:
        con.unregister("incoming")
    return replicate


def _insert_rows(con: duckdb.DuckDBPyConnection, bundle: Bundle, received_at: datetime, transport: str) -> int:
    m = bundle.manifest
    (replicate,) = con.execute("SELECT count(*) FROM bundles WHERE unit_id = ?", [m["unit_id"]]).fetchone() or (0,)
    con.execute(
        "INSERT INTO bundles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            bundle.sha256, m["unit_id"], m["host"], m["attempt"], replicate, received_at, bundle.size_bytes,
            m["schema_version"], transport, canonical(m),
        ],
    )  # fmt: skip
    con.execute(f"INSERT INTO trials {TRIALS}", [bundle.sha256, m["unit_id"], m["host"]])
    for a in bundle.attachments:
        con.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [a.sha256, m["unit_id"], a.name, len(a.content)],
        )
    return int(replicate)


def _quarantine(
    con: duckdb.DuckDBPyConnection, places: Places, store: Store, path: Path, reason: str, taken: Collected
) -> None:
    """Move a bad entry out of the way, with its reason beside it and in the warehouse.

    A link becomes a file that names its goal, so that whoever opens the quarantine does not follow it either.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[:150]
    places.quarantine.mkdir(parents=True, exist_ok=True)
    status = path.lstat()
    target, number = places.quarantine / name, 0
    while target.exists() or target.is_symlink():
        number += 1
        target = places.quarantine / f"{name}.{number}"
    write_whole(target.with_name(f"{target.name}.reason.txt"), f"{reason}\n".encode())
    # The row goes first and only once under that name, so that a crash before the move doubles nothing.
    con.execute(
        "INSERT INTO quarantine SELECT ?, ?, ?, ? WHERE NOT EXISTS (FROM quarantine WHERE name = ? AND reason = ?)",
        [target.name, reason, status.st_size, datetime.now(UTC), target.name, reason],
    )
    if stat.S_ISREG(status.st_mode):
        move(path, target)
    elif stat.S_ISDIR(status.st_mode):
        _move_folder(path, target, store.root / "refused" / target.name)
    else:
        write_whole(target, str(path.readlink()).encode(errors="backslashreplace") if path.is_symlink() else b"")
        path.unlink()
    taken.quarantined.append((path.name.encode(errors="backslashreplace").decode(), reason))


def _move_folder(path: Path, target: Path, beside: Path) -> None:
    """Rename a folder into quarantine, or beside the inbox when that is another device: nothing in it is read."""
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside.parent.mkdir(exist_ok=True)
        path.replace(beside)


def _new_reports(places: Places, store: Store) -> list[tuple[str, bytes]]:
    def known(host: str) -> bytes | None:
        path = places.reports / f"capability_report_{host}.json"
        return path.read_bytes() if path.is_file() else None

    return [(host, content) for host, content in store.reports_here() if known(host) != content]


def _take_report(
    con: duckdb.DuckDBPyConnection, places: Places, store: Store, host: str, content: bytes, taken: Collected
) -> None:
    """A host's report into `hosts`, keeping when it was first seen."""
    try:
        report, seen = _checked_report(host, content)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, LabError) as error:
        path = store.root / "hosts" / f"capability_report_{host}.json"
        _quarantine(con, places, store, path, f"not a capability report: {str(error)[:200]}", taken)
        return
    con.execute(
        "INSERT INTO hosts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host) DO UPDATE SET tier = excluded.tier, "
        "last_seen = excluded.last_seen, report = excluded.report, python = excluded.python, versions = excluded.versions",
        [host, report["tier"], seen, seen, canonical(report), report["python"], canonical(report["versions"])],
    )
    write_whole(places.reports / f"capability_report_{host}.json", content)


def _checked_report(host: str, content: bytes) -> tuple[Json, datetime]:
    """The report and when it was made.

    Raises:
        ValueError, KeyError, TypeError, RecursionError, OverflowError, LabError: it is none.
    """
    if len(content) > MAX_REPORT_BYTES:
        raise ValueError(f"more than {MAX_REPORT_BYTES} bytes")
    report = json.loads(content)
    if not isinstance(report, dict):
        raise TypeError("not an object")
    canonical(report).encode()  # refuses NaN and half surrogate pairs
    if report["host"] != checked_host(host):
        raise ValueError("the report names another host than its file")
    seen = datetime.fromisoformat(report["created_at"])
    if seen.tzinfo is None or seen > datetime.now(UTC) + CLOCK_SLACK:
        raise ValueError("created_at has no time zone or lies in the future")
    if report["tier"] not in TIERS:
        raise ValueError(f"tier is none of {', '.join(TIERS)}")
    if not isinstance(report["python"], str) or not isinstance(report["versions"], dict):
        raise TypeError("python is no text, or versions is no object")
    return report, seen.astimezone(UTC)
