"""The collector: bundles from the inbox into the warehouse, exactly once; bad ones into quarantine with the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from experiments.identity import canonical
from warehouse.bundles import BadBundle, Bundle, read_bundle
from warehouse.database import writing
from warehouse.durable import TEMPORARY, sync_folder, write_whole
from warehouse.places import Places
from warehouse.transport import Store

TRANSPORT = "directory"
MAX_REPORT_BYTES = 2**20  # a report is a few kilobytes
CLOCK_SLACK = timedelta(minutes=10)  # a host's clock may be this much ahead


@dataclass
class Collected:
    """What one call took in."""

    ingested: int = 0
    replicates: int = 0  # second bundles of a unit, kept and never counted
    known: int = 0  # bundles that were here already
    quarantined: list[tuple[str, str]] = field(default_factory=list)


def collect(places: Places, store: Store, con: duckdb.DuckDBPyConnection | None = None) -> Collected:
    """Take everything out of the inbox. A crash at any point loses and doubles nothing: run it again.

    Args:
        con: a connection from `writing`; without one, the warehouse is opened only when something waits.
    """
    taken = Collected()
    waiting = (
        sorted(p for p in store.inbox.iterdir() if not p.name.startswith(TEMPORARY)) if store.inbox.is_dir() else []
    )
    reports = store.reports()
    if con is None:
        if waiting or reports:
            with writing(places, publish=bool(waiting)) as own:
                return collect(places, store, own)
        return taken
    for path in waiting:
        try:
            if path.is_symlink() or not path.is_file():
                raise BadBundle("not a plain file")
            bundle = read_bundle(path)
        except BadBundle as error:
            _quarantine(con, places, path, str(error), taken)
            continue
        _take(con, places, store, path, bundle, taken)
    for host, content in reports:
        _take_report(con, places, store, host, content, taken)
    return taken


def _take(
    con: duckdb.DuckDBPyConnection, places: Places, store: Store, path: Path, bundle: Bundle, taken: Collected
) -> None:
    if con.execute("SELECT 1 FROM bundles WHERE sha256 = ?", [bundle.sha256]).fetchone():
        taken.known += 1
    else:
        # Attachments first: they are content-addressed, so a crash before the commit leaves nothing wrong behind.
        for a in bundle.attachments:
            store.put_file(a.content)
        con.begin()
        try:
            replicate = _insert(con, bundle)
            con.commit()
        except Exception:
            con.rollback()
            raise
        taken.ingested += 1
        taken.replicates += replicate > 0
    places.bundles.mkdir(parents=True, exist_ok=True)
    target = places.bundles / path.name
    if path.stat().st_dev == places.bundles.stat().st_dev:
        path.replace(target)
        sync_folder(places.bundles)
    else:
        write_whole(target, path.read_bytes())
        path.unlink()


def _insert(con: duckdb.DuckDBPyConnection, bundle: Bundle) -> int:
    """Rows of one bundle, inside the caller's transaction; returns its replicate number."""
    m = bundle.manifest
    (replicate,) = con.execute("SELECT count(*) FROM bundles WHERE unit_id = ?", [m["unit_id"]]).fetchone() or (0,)
    con.execute(
        "INSERT INTO bundles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            bundle.sha256, m["unit_id"], m["host"], m["attempt"], replicate, datetime.now(UTC), bundle.size_bytes,
            m["schema_version"], TRANSPORT, canonical(m),
        ],
    )  # fmt: skip
    incoming = bundle.trials.drop_columns(["attachment"])
    con.register("incoming", incoming)
    try:
        con.execute(
            "INSERT INTO trials SELECT ?, ?, ?, ordinal, problem_id, condition, seed, attempts, solved, answer, truth, "
            "tokens_in, tokens_out, latency_s, error, details::JSON FROM incoming",
            [bundle.sha256, m["unit_id"], m["host"]],
        )
    finally:
        con.unregister("incoming")
    for a in bundle.attachments:
        con.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [a.sha256, m["unit_id"], a.name, len(a.content)],
        )
    return int(replicate)


def _quarantine(con: duckdb.DuckDBPyConnection, places: Places, path: Path, reason: str, taken: Collected) -> None:
    """Move a bad file out of the way, with its reason beside it and in the warehouse. A link is removed, never followed."""
    name = path.name[:150]
    places.quarantine.mkdir(parents=True, exist_ok=True)
    size = path.lstat().st_size
    target = places.quarantine / name
    number = 0
    while target.exists() or target.is_symlink():
        number += 1
        target = places.quarantine / f"{name}.{number}"
    write_whole(places.quarantine / f"{target.name}.reason.txt", f"{reason}\n".encode())
    path.replace(target)
    con.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?)", [name, reason, size, datetime.now(UTC)])
    taken.quarantined.append((name, reason))


def _take_report(
    con: duckdb.DuckDBPyConnection, places: Places, store: Store, host: str, content: bytes, taken: Collected
) -> None:
    """A host's report into `hosts`; one that is already known leaves no trace."""
    known = places.reports / f"capability_report_{host}.json"
    if known.is_file() and known.read_bytes() == content:
        return
    try:
        if len(content) > MAX_REPORT_BYTES:
            raise ValueError(f"{len(content)} bytes, more than {MAX_REPORT_BYTES}")
        report = json.loads(content)
        if report["host"] != host:
            raise ValueError("the report names another host than its file")
        seen = datetime.fromisoformat(report["created_at"])
        if seen.tzinfo is None or seen > datetime.now(UTC) + CLOCK_SLACK:
            raise ValueError("created_at has no time zone or lies in the future")
        tier, python, versions = str(report["tier"]), str(report["python"]), report["versions"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        path = store.root / "hosts" / f"capability_report_{host}.json"
        _quarantine(con, places, path, f"not a capability report: {error}", taken)
        return
    con.execute(
        "INSERT INTO hosts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host) DO UPDATE SET tier = excluded.tier, "
        "last_seen = excluded.last_seen, report = excluded.report, python = excluded.python, versions = excluded.versions",
        [host, tier, seen, seen, canonical(report), python, canonical(versions)],
    )
    write_whole(known, content)
