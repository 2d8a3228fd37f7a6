"""The interface of all transports, and the names that they may transfer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from common.errors import LabError
from warehouse.delivery.bundles import NAME

SHA256 = re.compile(r"[0-9a-f]{64}")
UNIT = re.compile(r"[0-9a-f]{32}")
REPORT = re.compile(r"capability_report_([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.json")
INBOX, FILES, HOSTS = "inbox", "files", "hosts"  # the folders of a results store
SWEEP_S = 3600.0  # between two searches for files of interrupted deliveries
CONNECT_S = 20  # after which a machine that does not answer counts as unreachable


class UnreachableError(LabError, OSError):
    """The results store does not answer, or refuses. Nothing is lost: bundles stay in the spool."""


class Transport(Protocol):
    """Access to a results store. Every method may raise OSError (UnreachableError says what to do)."""

    kind: str  # stored with each bundle that it delivered
    where: str  # the store's address for people, without passwords

    def send(self, bundles: Sequence[Path]) -> dict[str, str]:
        """Put bundles into the store's inbox, each whole or not at all; return name -> reason of those that failed."""

    def has(self, unit_id: str) -> bool:
        """Return True if a bundle of the unit was delivered and is still visible from here."""

    def fetch(self, inbox: Path) -> list[str]:
        """Copy delivered bundles into a folder of this host, whole, and then remove them from the store; return notes."""

    def put(self, folder: str, name: str, content: bytes) -> None:
        """Store a file in FILES, under its digest, or a report in HOSTS; one with another content is replaced."""

    def get(self, folder: str, name: str) -> bytes | None:
        """Return a file of FILES, not verified; None if there is none."""

    def reports(self) -> dict[str, bytes]:
        """Return host -> report; at most MAX_REPORT_BYTES + 1 bytes of each, so that one that is too large is noticed."""


def bundles_in(folder: Path) -> list[Path]:
    """Return the paths in `folder` that are named like a bundle, by name."""
    return sorted(p for p in folder.glob("*.parquet") if NAME.fullmatch(p.name)) if folder.is_dir() else []


def has_bundle_of(unit_id: str, folder: Path) -> bool:
    """Return True if a bundle of the unit is in `folder`, which may be missing."""
    return folder.is_dir() and next(folder.glob(f"{unit_id}.*.parquet"), None) is not None


def report_name(host: str) -> str:
    """Return the file name of a host's report."""
    return f"capability_report_{host}.json"


def last_line(text: str) -> str:
    """Return the last line of a program's output, shortened."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else "no output")[:300]
