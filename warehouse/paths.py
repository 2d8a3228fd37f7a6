"""Paths of the warehouse, its bundles and their delivery on this host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.environment import lab_home


@dataclass(frozen=True)
class Paths:
    """All paths below one LAB_HOME."""

    home: Path

    @staticmethod
    def local() -> Paths:
        """Return the paths below this host's LAB_HOME."""
        return Paths(lab_home())

    @property
    def warehouse(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def lock(self) -> Path:
        return self.home / "warehouse.lock"

    @property
    def backups(self) -> Path:
        """Copies of the warehouse from before each change of its schema."""
        return self.home / "backups"

    @property
    def snapshot(self) -> Path:
        return self.home / "snapshot.duckdb"

    @property
    def bundles(self) -> Path:
        """Archive of the bundles that were taken in."""
        return self.home / "bundles"

    @property
    def quarantine(self) -> Path:
        return self.home / "quarantine"

    @property
    def spool(self) -> Path:
        """This host's own bundles that are not delivered yet."""
        return self.home / "spool"

    @property
    def reports(self) -> Path:
        """Capability reports of known hosts."""
        return self.home / "hosts"

    @property
    def keys(self) -> Path:
        """Keys of hosts, which sign their bundles."""
        return self.home / "keys"

    @property
    def records(self) -> Path:
        """What the warehouse holds beside trials, as files: with the bundles, all that it takes to build it anew."""
        return self.home / "records"

    @property
    def embeddings(self) -> Path:
        """Text embeddings that this host has computed (experiments/backends/embedding_cache.py)."""
        return self.home / "embeddings.sqlite"

    @property
    def spool_reason(self) -> Path:
        """Why the last delivery left something in the spool."""
        return self.home / "spool.json"

    @property
    def transports(self) -> Path:
        """State of transports between two uses, such as git's own copy of the store."""
        return self.home / "ways"  # the folder's name in earlier versions
