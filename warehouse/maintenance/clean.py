"""Find and remove old files that nothing needs, and report how much disk each part of LAB_HOME takes."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from duckdb import DuckDBPyConnection as Connection

from common.errors import LabError
from common.files import TEMPORARY
from experiments.backends.conversions import unfinished
from warehouse.database.statements import column_of, transaction
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import archived
from warehouse.maintenance.repair import forget_summary
from warehouse.paths import Paths

AGE = re.compile(r"([0-9]{1,5})([hdw])")
SHA256 = "[0-9a-f]{64}"
UNITS_OF_AGE = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Removal:
    """A file, or a folder of a conversion, that can be removed."""

    kind: str  # bundle, quarantine, leftover, file, log, old warehouse, embeddings
    path: Path
    size_bytes: int
    why: str


def age_of(text: str, option: str = "--older-than") -> timedelta:
    """Return the time span that 30d, 12h or 4w names.

    Raises:
        LabError: `text` is none of these forms; `option` names it in the message.
    """
    found = AGE.fullmatch(text.strip())
    if not found:
        raise LabError(f"{option} {text!r:.40} is not an age", "write 30d, 12h or 4w")
    return timedelta(**{UNITS_OF_AGE[found[2]]: int(found[1])})


def removable(con: Connection, paths: Paths, store: Store, age: timedelta, force: bool = False) -> list[Removal]:
    """List files that are older than `age` and that nothing stored needs.

    Args:
        force: also list bundles that a verdict or an audit rests on. The verdict stays, but cannot be computed again.
    """
    before = datetime.now(UTC) - age
    found = list(_old_bundles(con, paths, before, force))
    found += _old_files(paths.quarantine, "quarantine", before, "refused")
    found += _old_files(paths.home / "logs", "log", before, "of a service")
    for folder in (paths.home, paths.backups, paths.spool, paths.bundles, store.inbox, store.root / "files"):
        found += _old_files(folder, "leftover", before, "half written", re.escape(TEMPORARY) + ".*")
    found += _old_conversions(before)
    found += _old_files(paths.home, "old warehouse", before, "replaced by a rebuild", r"warehouse\.before\..*")
    embeddings = re.escape(paths.embeddings.name)
    found += _old_files(paths.home, "embeddings", before, "computed again when needed", embeddings)
    needed = {*column_of(con, "SELECT sha256 FROM files"), *_shared_data(con)}
    jobs = _old_files(store.root / "files", "file", before, "a job that was sent", SHA256)
    found += (r for r in jobs if r.path.name not in needed)
    return found


def remove(con: Connection, found: list[Removal]) -> None:
    """Remove these files; a bundle's rows go before its file, so that a crash in between leaves no row without a file."""
    for one in found:
        if one.kind == "bundle":
            _forget(con, one.path.name.split(".")[1])
        if one.path.is_dir():
            shutil.rmtree(one.path)
        else:
            one.path.unlink(missing_ok=True)


def sizes(paths: Paths, store: Store | None) -> dict[str, int]:
    """Return the bytes of each part of LAB_HOME on this host; 0 for a part that is missing."""
    names = ("warehouse", "snapshot", "bundles", "records", "spool", "quarantine", "backups")
    parts: dict[str, Path] = {name: getattr(paths, name) for name in names}
    parts |= {"logs": paths.home / "logs", "models": paths.home / "models", "embeddings": paths.embeddings}
    if store:
        parts |= {"inbox": store.inbox, "files": store.root / "files"}
    return {name: bytes_of(path) for name, path in parts.items()}


def _old_bundles(con: Connection, paths: Paths, before: datetime, force: bool) -> Iterator[Removal]:
    rows = con.execute(
        """
        SELECT b.sha256, b.unit_id, list(DISTINCT v.run_id || ' ' || v.phase) FILTER (v.run_id IS NOT NULL),
               bool_or(a.unit_id IS NOT NULL)
        FROM bundles b LEFT JOIN units u USING (unit_id) LEFT JOIN verdicts v ON v.run_id = u.run_id AND v.phase = u.phase
        LEFT JOIN audits a ON a.unit_id = b.unit_id
        WHERE b.unit_id IN (SELECT unit_id FROM bundles GROUP BY 1 HAVING max(received_at) < ?)
        GROUP BY ALL ORDER BY b.sha256
        """,
        [before],
    ).fetchall()
    there = archived(paths)
    for sha256, unit_id, verdicts, audited in rows:
        if (verdicts or audited) and not force:
            continue
        path = there.get(sha256, paths.bundles / f"{unit_id}.{sha256}.parquet")
        why = f"the verdict of {', '.join(sorted(verdicts))} rests on it" if verdicts else "no verdict rests on it"
        yield Removal("bundle", path, bytes_of(path), why)


def _old_files(folder: Path, kind: str, before: datetime, why: str, name: str = ".*") -> list[Removal]:
    """List the old files directly in a folder whose whole name matches a pattern."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not re.fullmatch(name, path.name, re.DOTALL):
            continue
        status = path.lstat()
        if path.is_file() and not path.is_symlink() and status.st_mtime < before.timestamp() <= time.time():
            found.append(Removal(kind, path, status.st_size, why))
    return found


def _old_conversions(before: datetime) -> Iterator[Removal]:
    for path in unfinished():
        if path.stat().st_mtime < before.timestamp() <= time.time():
            yield Removal("leftover", path, bytes_of(path), "weights that were not converted to the end")


def _shared_data(con: Connection) -> set[str]:
    """Return the SHA-256 of the users' own data that runs work on, as their plans name them."""
    return {found for content in column_of(con, "SELECT content FROM plans") for found in re.findall(SHA256, content)}


def _forget(con: Connection, sha256: str) -> None:
    with transaction(con):
        forget_summary(con, sha256)
        con.execute("DELETE FROM trials WHERE bundle_sha256 = ?", [sha256])
        con.execute("DELETE FROM bundles WHERE sha256 = ?", [sha256])
        con.execute("DELETE FROM files WHERE unit_id NOT IN (SELECT unit_id FROM bundles)")


def bytes_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 if it is missing."""
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.exists() else 0
