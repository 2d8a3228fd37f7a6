"""The results store: where hosts deliver bundles, and files and reports are exchanged. Today a directory."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from experiments.environment import checked_host
from experiments.errors import LabError
from warehouse.bundles import NAME
from warehouse.durable import copy_whole, sweep, write_whole
from warehouse.places import Places

SHA256 = re.compile(r"[0-9a-f]{64}")
UNIT = re.compile(r"[0-9a-f]{32}")
MAX_REPORT_BYTES = 2**20  # a report is a few kilobytes


@dataclass(frozen=True)
class Delivery:
    """What a delivery did; `reason` says why bundles still wait."""

    delivered: int
    waiting: int
    reason: str | None = None


@dataclass(frozen=True)
class Store:
    """A results store in a directory (local, or a mount): inbox/, files/<sha256>, hosts/."""

    root: Path
    spool: Path
    archive: Path

    @staticmethod
    def here(places: Places) -> Store:
        """The store named by LAB_RESULTS_URL, else results/ in LAB_HOME.

        Raises:
            LabError: the URL is of a kind that is not built, or not absolute.
        """
        url = os.environ.get("LAB_RESULTS_URL")
        return Store(_folder(url) if url else places.home / "results", places.spool, places.bundles)

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    def deliver(self, spool: Path) -> Delivery:
        """Copy every bundle of the spool into the inbox, whole, then drop it from the spool; never raises for I/O."""
        waiting = _bundles_in(spool)
        delivered, left, reason = 0, 0, None
        try:
            self.inbox.mkdir(parents=True, exist_ok=True)
            sweep(spool)
        except OSError as error:
            return Delivery(0, len(waiting), f"{self.inbox}: {error.strerror or error}")
        for path in waiting:
            try:
                # A copy, since spool and inbox may lie on different devices, where no rename is atomic.
                copy_whole(path, self.inbox / path.name)
                path.unlink()
                delivered += 1
            except OSError as error:
                # Another process of this host may have delivered it meanwhile.
                if path.exists():
                    left, reason = left + 1, f"{path.name}: {error.strerror or error}"
        return Delivery(delivered, left, reason)

    def waiting(self) -> set[str]:
        """Ids of the units whose bundles lie in the spool or the inbox, not taken in yet."""
        return {p.name.split(".")[0] for folder in (self.spool, self.inbox) for p in _bundles_in(folder)}

    def has_bundle(self, unit_id: str) -> bool:
        """Whether a bundle of this unit lies in the inbox, the spool or the archive, as far as seen from here."""
        if not UNIT.fullmatch(unit_id):
            raise LabError(f"invalid unit id {unit_id[:80]!r}", "32 hex digits")
        # In the order in which a bundle moves on, so that one that moves meanwhile is seen in the next folder.
        folders = (self.spool, self.inbox, self.archive)
        return any(next(f.glob(f"{unit_id}.*.parquet"), None) is not None for f in folders if f.is_dir())

    def put_file(self, content: bytes) -> str:
        """Keep a file under its SHA-256, which is returned; one that was damaged is replaced."""
        sha256 = hashlib.sha256(content).hexdigest()
        target = self.root / "files" / sha256
        if not target.is_file() or target.stat().st_size != len(content) or target.read_bytes() != content:
            write_whole(target, content)
        return sha256

    def get_file(self, sha256: str) -> bytes:
        """The file with this SHA-256, verified.

        Raises:
            LabError: no digest, not there, or its content differs.
        """
        if not SHA256.fullmatch(sha256):
            raise LabError(f"invalid SHA-256 {sha256[:80]!r}", "64 hex digits")
        path = self.root / "files" / sha256
        if not path.is_file():
            raise LabError(f"file {sha256[:12]} is not in {self.root}", "lab collect on the coordinator")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise LabError(
                f"file {sha256[:12]} in {self.root} was changed",
                f"on the coordinator, copy the bundle that brought it from {self.archive} to {self.inbox}, then: lab collect",
            )
        return content

    def put_report(self, host: str, content: bytes) -> None:
        """Register a host's capability report."""
        write_whole(self.root / "hosts" / f"capability_report_{checked_host(host)}.json", content)

    def reports(self) -> list[tuple[str, bytes]]:
        """(host, content) of every registered report; of one that is too large only so much that it shows."""
        found = []
        for path in sorted((self.root / "hosts").glob("capability_report_*.json")):
            if path.is_file() and not path.is_symlink():
                with suppress(OSError), path.open("rb") as file:
                    found.append((path.stem.removeprefix("capability_report_"), file.read(MAX_REPORT_BYTES + 1)))
        return found


def _bundles_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.parquet") if NAME.fullmatch(p.name)) if folder.is_dir() else []


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme not in ("", "file") or (parts.scheme == "file" and parts.netloc not in ("", "localhost")):
        raise LabError(
            f"LAB_RESULTS_URL = {url[:200]!r}: {parts.scheme}:// is not supported", "use a path or file:///path"
        )
    path = Path(unquote(parts.path) if parts.scheme else url)
    if not path.is_absolute():
        raise LabError(
            f"LAB_RESULTS_URL is not an absolute path: {url[:200]!r}", f"export LAB_RESULTS_URL={path.absolute()}"
        )
    return path
