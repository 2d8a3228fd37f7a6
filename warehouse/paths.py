"""Paths of the warehouse, its bundles and their delivery on this host."""

from __future__ import annotations

import re
from pathlib import Path

from common.environment import lab_home


class Paths:
    """All paths below one LAB_HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.warehouse = home / "warehouse.duckdb"
        self.lock = home / "warehouse.lock"
        self.backups = home / "backups"  # copies of the warehouse from before each change of its schema
        self.snapshot = home / "snapshot.duckdb"
        self.bundles = home / "bundles"  # archive of ingested bundles
        self.quarantine = home / "quarantine"
        self.reading = home / "reading"  # name of the bundle that is being read (warehouse/ingest/suspects.py)
        self.spool = home / "spool"  # this host's own bundles that are not delivered yet
        self.spool_reason = home / "spool.json"  # why the last delivery left bundles in the spool
        self.reports = home / "hosts"  # capability reports of known hosts
        self.notes = home / "notes"  # of the user, on runs (warehouse/run_notes.py)
        self.keys = home / "keys"  # keys of hosts, which sign their bundles
        self.records = home / "records"  # all tables but the trials, as files; with the bundles, enough for a rebuild
        self.embeddings = home / "embeddings.sqlite"  # computed by this host (experiments/backends/embedding_cache.py)
        self.transports = home / "ways"  # state of transports, such as git's copy of the store; an old folder name

    def shard_lock(self, host: str) -> Path:
        """Return the lock of a host that a shard, or the measuring of speeds, holds: others may share this folder."""
        return self.home / f"shard-{host}.lock"

    def refused(self, name: str) -> Path:
        """Return a path in the quarantine that is free, for an entry of any name."""
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:150]
        target, number = self.quarantine / plain, 0
        while target.exists() or target.is_symlink():
            number += 1
            target = self.quarantine / f"{plain}.{number}"
        return target

    @staticmethod
    def local() -> Paths:
        """Return the paths below this host's LAB_HOME."""
        return Paths(lab_home())
