"""What every transport does, and the names that may pass over it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from common.errors import LabError
from warehouse.delivery.bundles import NAME

SHA256 = re.compile(r"[0-9a-f]{64}")
UNIT = re.compile(r"[0-9a-f]{32}")
MAX_REPORT_BYTES = 2**20  # a report is a few kilobytes
REPORT = re.compile(r"capability_report_([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.json")
INBOX, FILES, HOSTS = "inbox", "files", "hosts"  # the folders of a results store
SWEEP_S = 3600.0  # between two looks for what interrupted deliveries left
CONNECT_S = 20  # until a machine that does not answer counts as unreachable


class UnreachableError(LabError, OSError):
    """The results store does not answer, or refuses: nothing is lost, the spool keeps what it has."""


class Transport(Protocol):
    """One way to a results store. Every method may raise OSError (UnreachableError with what mends it)."""

    kind: str  # stored with each bundle that came this way
    where: str  # the store's address for people, without passwords

    def send(self, bundles: Sequence[Path]) -> dict[str, str]:
        """Put bundles into the store's inbox, each whole or not at all; name -> reason of those that are not there."""

    def has(self, unit_id: str) -> bool:
        """Whether a bundle of the unit was delivered and is still to be seen from here."""

    def fetch(self, inbox: Path) -> list[str]:
        """Bring what was delivered into a folder of this host, whole, and only then let go of it; what to tell."""

    def put_file(self, sha256: str, content: bytes) -> None:
        """Keep a file under its digest, in place of one that was damaged."""

    def get_file(self, sha256: str) -> bytes | None:
        """What lies under the digest, not verified; None where there is nothing."""

    def put_report(self, host: str, content: bytes) -> None:
        """Register a host's capability report."""

    def reports(self) -> dict[str, bytes]:
        """host -> report, of one that is too large only so much that it shows."""


def bundles_in(folder: Path) -> list[Path]:
    """Everything in `folder` that is called like a bundle, in the order of names."""
    return sorted(p for p in folder.glob("*.parquet") if NAME.fullmatch(p.name)) if folder.is_dir() else []


def report_name(host: str) -> str:
    """The file name of a host's report."""
    return f"capability_report_{host}.json"


def told(text: str) -> str:
    """One short line of what a program said last."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else "it said nothing")[:300]
