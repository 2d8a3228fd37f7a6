"""The results store as the rest of the program sees it: deliver, look up, fetch, over the transport of LAB_RESULTS_URL."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
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
    SHA256,
    UNIT,
    Transport,
    UnreachableError,
    bundles_in,
    has_bundle_of,
    report_name,
)
from warehouse.paths import Paths

__all__ = ["Delivery", "Store", "UnreachableError"]
FETCH_S = 5.0  # between two looks into a remote store, which cost a connection each
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """Outcome of a delivery; `reason` says why bundles still wait."""

    delivered: int
    waiting: int
    reason: str | None = None
    size_bytes: int = 0  # of the delivered bundles
    damaged: int = 0  # bundles that were found damaged, and set aside


class Store:
    """The results store: inbox/, files/<sha256>, hosts/ in `root`.

    Args:
        root: the store itself if it is a directory, else this host's copy of what it fetched and may need again.
        spool: where this host's bundles wait.
        archive: where ingested bundles are.
        transport: how to reach the store; None: it is the directory `root`, which is made when missing.
    """

    def __init__(self, root: Path, spool: Path, archive: Path, transport: Transport | None = None) -> None:
        self.root, self.spool, self.archive = root, spool, archive
        self.transport: Transport = transport or Directory(root, own=True)
        self.where = self.transport.where  # its address for people
        self.inbox = root / INBOX  # where the collector finds bundles
        self.folders = (self.inbox, root / FILES, root / HOSTS)
        self._remote = not isinstance(self.transport, Directory)
        self._fetched_at = -FETCH_S

    @staticmethod
    def configured(paths: Paths) -> Store:
        """Return the store that LAB_RESULTS_URL names, else results/ in LAB_HOME.

        Raises:
            LabError: the URL is invalid, or a package or program for it is not installed.
        """
        transport = configured_transport(paths)
        root = transport.root if isinstance(transport, Directory) else paths.home / "results"
        return Store(root, paths.spool, paths.bundles, transport)

    def deliver(self, spool: Path) -> Delivery:
        """Deliver every bundle of the spool, whole, and then remove it from the spool.

        A damaged one is set aside: it would be refused wherever it came. What the system refuses, on this machine or at the
        store, is not raised: its bundles stay, with the reason.
        """
        sweep(spool)
        failed, sizes, damaged = dict[str, str](), dict[str, int](), 0
        listed, reason = False, None
        try:
            for path in bundles_in(spool):
                try:
                    if not path.is_file():
                        if path.exists():
                            failed[path.name] = "not a plain file"
                    elif wrong := spools.set_aside_damaged(Paths(self.spool.parent), path):
                        log.warning("%s", wrong)
                        damaged += 1
                    else:
                        sizes[path.name] = path.stat().st_size
                except FileNotFoundError:
                    continue  # delivered meanwhile
                except OSError as error:
                    failed[path.name] = error.strerror or str(error)
            listed = True
            if sizes:
                failed |= self.transport.send([spool / name for name in sizes])
        except (OSError, MemoryError) as error:
            # The reason is the whole store's, not one bundle's.
            reason = " ".join(str(error).split()) or "there is not enough memory"
            failed |= dict.fromkeys(sizes, reason)
        for name in sizes.keys() - failed.keys():
            try:
                # Another process of this host may have delivered it too.
                (spool / name).unlink(missing_ok=True)
            except OSError as error:
                failed[name] = f"delivered, but not removed from the spool: {error.strerror}"
        still = [name for name in failed if os.path.lexists(spool / name)]
        done = sizes.keys() - failed.keys()
        if listed:
            reason = (reason or f"{still[-1]}: {failed[still[-1]]}") if still else None
        with suppress(OSError):
            spools.save_reason(Paths(self.spool.parent), self.where, reason)
        waiting = len(still) if listed else 1  # or more: nobody knows
        return Delivery(len(done), waiting, reason, sum(sizes[name] for name in done), damaged)

    def fetch(self) -> list[str]:
        """Copy what hosts delivered to a remote store into the inbox; a directory needs no copy.

        Returns:
            Notes for the user, such as a branch that was rewritten, or that the store did not answer.
        """
        if not self._remote:
            return []
        self._fetched_at = time.monotonic()
        try:
            self.inbox.mkdir(parents=True, exist_ok=True)
            notes = self.transport.fetch(self.inbox)
            self._fetch_reports()
        except OSError as error:
            notes = [" ".join(str(error).split())]
        for note in notes:
            log.warning("%s: %s", self.where, note)
        return notes

    def arrived(self) -> bool:
        """Return True if bundles wait for the collector. It may be called each second: a remote store is asked every FETCH_S."""
        if time.monotonic() - self._fetched_at >= FETCH_S:
            self.fetch()
        return self.inbox.is_dir() and any(self.inbox.glob("*.parquet"))

    def look_soon(self) -> None:
        """Have the next `arrived` ask a remote store, however long ago the last one did."""
        self._fetched_at = -FETCH_S

    def waiting(self) -> set[str]:
        """Return the ids of the units whose bundles are in the spool or the inbox."""
        return {p.name.split(".")[0] for folder in (self.spool, self.inbox) for p in bundles_in(folder)}

    def has_bundle(self, unit_id: str) -> bool:
        """Return True if a bundle of this unit is in the spool, the store or the archive, as far as this host can see.

        A store that does not answer counts as empty: the unit is then computed, and its second bundle does no harm.
        """
        if not UNIT.fullmatch(unit_id):
            raise LabError(f"invalid unit id {unit_id[:80]!r}", "32 hex digits")
        # In the order in which a bundle moves on, so that one that moves meanwhile is seen in the next folder.
        if has_bundle_of(unit_id, self.spool):
            return True
        try:
            if self.transport.has(unit_id):
                return True
        except OSError as error:
            log.warning("%s: %s", self.where, error)
        return has_bundle_of(unit_id, self.inbox) or has_bundle_of(unit_id, self.archive)

    def put_file(self, content: bytes) -> str:
        """Store a file under its SHA-256, and return that; a damaged file is replaced.

        Raises:
            OSError: the store cannot be reached.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        self.transport.put(FILES, sha256, content)
        if self._remote:
            write_whole(self.root / FILES / sha256, content)
        return sha256

    def get_file(self, sha256: str) -> bytes:
        """Return the file with this SHA-256, verified.

        Raises:
            LabError: invalid digest, no such file, or its content differs.
            UnreachableError: the store does not answer.
        """
        if not SHA256.fullmatch(sha256):
            raise LabError(f"invalid SHA-256 {sha256[:80]!r}", "64 hex digits")
        copy = self.root / FILES / sha256
        if self._remote and copy.is_file():
            content = copy.read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
        found = self.transport.get(FILES, sha256)
        if found is None:
            raise LabError(f"file {sha256[:12]} is not in {self.where}", "lab collect on the coordinator")
        if hashlib.sha256(found).hexdigest() != sha256:
            raise LabError(
                f"file {sha256[:12]} in {self.where} was changed",
                f"on the coordinator, copy the bundle that brought it from {self.archive} to {self.inbox}, then: lab collect",
            )
        if self._remote:
            write_whole(copy, found)
        return found

    def put_report(self, host: str, content: bytes) -> None:
        """Register a host's capability report.

        Raises:
            LabError: invalid host name.
            UnreachableError: the store does not answer.
        """
        self.transport.put(HOSTS, report_name(checked_host(host)), content)

    def forget_report(self, host: str) -> bool:
        """Remove a host's report from the folder that this machine reads; return False if there was none.

        A copy from a remote store does not come again until the host is assessed again.
        """
        path = self.root / HOSTS / report_name(checked_host(host))
        there = path.is_file()
        path.unlink(missing_ok=True)
        return there

    def reports(self) -> dict[str, bytes]:
        """Return host -> content of every registered report, by host; see Transport.reports."""
        if self._remote:
            try:
                self._fetch_reports()
            except OSError as error:
                log.warning("%s: %s", self.where, error)
        return self.fetched_reports()

    def fetched_reports(self) -> dict[str, bytes]:
        """Return the reports as of the last fetch()."""
        return reports_in(self.root / HOSTS)

    def _fetch_reports(self) -> None:
        """Copy new reports. One that the collector put into quarantine does not come again until it changes."""
        fetched = self.root / "brought"  # the folder's name in earlier versions
        before = reports_in(fetched)
        for host, content in self.transport.reports().items():
            if before.get(host) != content:
                write_whole(self.root / HOSTS / report_name(host), content)
                write_whole(fetched / report_name(host), content)
