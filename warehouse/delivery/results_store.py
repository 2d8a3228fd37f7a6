"""The results store as the rest of the program sees it: deliver, ask, fetch, whatever way LAB_RESULTS_URL names."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from common.environment import checked_host
from common.errors import LabError
from common.files import sweep, write_whole
from warehouse.delivery import spool as spools
from warehouse.delivery.transports.choice import configured_transport
from warehouse.delivery.transports.directory import Directory, reports_in
from warehouse.delivery.transports.protocol import (
    FILES,
    HOSTS,
    INBOX,
    MAX_REPORT_BYTES,
    SHA256,
    UNIT,
    Transport,
    UnreachableError,
    bundles_in,
    report_name,
)
from warehouse.paths import Paths

__all__ = ["MAX_REPORT_BYTES", "Delivery", "Store", "UnreachableError"]
FETCH_S = 5.0  # between two looks into a store elsewhere, which cost a connection each
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """What a delivery did; `reason` says why bundles still wait."""

    delivered: int
    waiting: int
    reason: str | None = None
    size_bytes: int = 0  # of what was delivered


@dataclass
class _Seen:
    fetched_at: float = -FETCH_S


@dataclass(frozen=True)
class Store:
    """The results store: inbox/, files/<sha256>, hosts/ in `root`.

    `root` is the store itself where that is a directory, else this host's own copy of what it fetched and may need again.
    """

    root: Path
    spool: Path
    archive: Path
    transport: Transport | None = None  # None: the directory `root`, which is made when missing
    _seen: _Seen = field(default_factory=_Seen, compare=False, repr=False)

    @staticmethod
    def configured(paths: Paths) -> Store:
        """The store named by LAB_RESULTS_URL, else results/ in LAB_HOME.

        Raises:
            LabError: the URL is of an unknown kind or not absolute, or what its kind needs is not installed.
        """
        way = configured_transport(paths)
        root = way.root if isinstance(way, Directory) else paths.home / "results"
        return Store(root, paths.spool, paths.bundles, way)

    @property
    def way(self) -> Transport:
        return self.transport or Directory(self.root, own=True)

    @property
    def kind(self) -> str:
        """Name of the transport."""
        return self.way.kind

    @property
    def where(self) -> str:
        """The store's address for people."""
        return self.way.where

    @property
    def inbox(self) -> Path:
        """Where the collector finds bundles."""
        return self.root / INBOX

    @property
    def folders(self) -> tuple[Path, ...]:
        """All that is here of the store."""
        return self.inbox, self.root / FILES, self.root / HOSTS

    @property
    def _remote(self) -> bool:
        return not isinstance(self.way, Directory)

    def deliver(self, spool: Path) -> Delivery:
        """Bring every bundle of the spool into the store, whole, then drop it from the spool; never raises for I/O."""
        with suppress(OSError):
            sweep(spool)
        waiting = bundles_in(spool)
        paths = Paths(self.spool.parent)
        if not waiting:
            spools.keep_reason(paths, self.where, None)
            return Delivery(0, 0)
        failed = {p.name: "not a plain file" for p in waiting if p.exists() and not p.is_file()}
        good = [p for p in waiting if p.name not in failed and p.exists()]
        sizes = {}
        for path in good:
            with suppress(FileNotFoundError):
                sizes[path.name] = path.stat().st_size
        try:
            failed |= self.way.send([p for p in good if p.name in sizes])
        except OSError as error:
            # The store as a whole says no, so the reason is not one bundle's.
            reason = " ".join(str(error).split())
            left = sum(p.exists() for p in waiting)
            spools.keep_reason(paths, self.where, reason if left else None)
            return Delivery(0, left, reason if left else None)
        delivered, size = spools.moved(spool, sizes, failed)
        still = {name: reason for name, reason in failed.items() if (spool / name).exists()}
        said = [f"{name}: {reason}" for name, reason in still.items()]
        reason_ = said[-1] if said else None
        spools.keep_reason(paths, self.where, reason_)
        return Delivery(delivered, len(still), reason_, size)

    def fetch(self) -> list[str]:
        """Bring what hosts delivered elsewhere to where the collector looks; what there is to tell, such as a branch rewritten.

        In a directory it lies there already. A store that cannot be reached is told as well, and asked again the next time.
        """
        if not self._remote:
            return []
        self._seen.fetched_at = time.monotonic()
        try:
            self.inbox.mkdir(parents=True, exist_ok=True)
            notes = self.way.fetch(self.inbox)
            self._fetch_reports()
        except OSError as error:
            notes = [" ".join(str(error).split())]
        for note in notes:
            log.warning("%s: %s", self.where, note)
        return notes

    def arrived(self) -> bool:
        """Whether bundles wait for the collector. Cheap enough to be asked each second: a store elsewhere is asked every FETCH_S."""
        if time.monotonic() - self._seen.fetched_at >= FETCH_S:
            self.fetch()
        return self.inbox.is_dir() and any(self.inbox.glob("*.parquet"))

    def waiting(self) -> set[str]:
        """Ids of the units whose bundles lie in the spool or the inbox, not taken in yet."""
        return {p.name.split(".")[0] for folder in (self.spool, self.inbox) for p in bundles_in(folder)}

    def has_bundle(self, unit_id: str) -> bool:
        """Whether a bundle of this unit lies in the spool, the store or the archive, as far as seen from here.

        A store that does not answer has none: the unit is then computed, and its second bundle does no harm.
        """
        if not UNIT.fullmatch(unit_id):
            raise LabError(f"invalid unit id {unit_id[:80]!r}", "32 hex digits")

        def lies_in(folder: Path) -> bool:
            return folder.is_dir() and next(folder.glob(f"{unit_id}.*.parquet"), None) is not None

        # In the order in which a bundle moves on, so that one that moves meanwhile is seen in the next folder.
        if lies_in(self.spool):
            return True
        try:
            if self.way.has(unit_id):
                return True
        except OSError as error:
            log.warning("%s: %s", self.where, error)
        return lies_in(self.inbox) or lies_in(self.archive)

    def put_file(self, content: bytes) -> str:
        """Keep a file under its SHA-256, which is returned; one that was damaged is replaced.

        Raises:
            OSError: the store cannot be reached.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        self.way.put_file(sha256, content)
        if self._remote:
            write_whole(self.root / FILES / sha256, content)
        return sha256

    def get_file(self, sha256: str) -> bytes:
        """The file with this SHA-256, verified.

        Raises:
            LabError: no digest, not there, or its content differs; UnreachableError: the store does not answer.
        """
        if not SHA256.fullmatch(sha256):
            raise LabError(f"invalid SHA-256 {sha256[:80]!r}", "64 hex digits")
        kept = self.root / FILES / sha256
        if self._remote and kept.is_file():
            content = kept.read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
        found = self.way.get_file(sha256)
        if found is None:
            raise LabError(f"file {sha256[:12]} is not in {self.where}", "lab collect on the coordinator")
        if hashlib.sha256(found).hexdigest() != sha256:
            raise LabError(
                f"file {sha256[:12]} in {self.where} was changed",
                f"on the coordinator, copy the bundle that brought it from {self.archive} to {self.inbox}, then: lab collect",
            )
        if self._remote:
            write_whole(kept, found)
        return found

    def put_report(self, host: str, content: bytes) -> None:
        """Register a host's capability report.

        Raises:
            LabError: no host's name; UnreachableError: the store does not answer.
        """
        self.way.put_report(checked_host(host), content)

    def reports(self) -> list[tuple[str, bytes]]:
        """(host, content) of every registered report; of one that is too large only so much that it shows."""
        if self._remote:
            try:
                self._fetch_reports()
            except OSError as error:
                log.warning("%s: %s", self.where, error)
        return self.reports_here()

    def reports_here(self) -> list[tuple[str, bytes]]:
        """reports() as they lie here since the last fetch()."""
        return sorted(reports_in(self.root / HOSTS).items())

    def _fetch_reports(self) -> None:
        """Copy reports that are new. One that the collector put into quarantine does not come again until it changes."""
        brought = self.root / "brought"
        before = reports_in(brought)
        for host, content in self.way.reports().items():
            if before.get(host) != content:
                write_whole(self.root / HOSTS / report_name(host), content)
                write_whole(brought / report_name(host), content)
