"""Bundles of this host that wait for delivery, for the page that shows the machines."""

from __future__ import annotations

from common.errors import LabError
from warehouse.delivery.spool import look
from warehouse.paths import Paths
from warehouse.queries.snapshot import Row


def waiting() -> Row:
    """Return `bundles` (number) and `size_bytes` that wait, `oldest_at` (None: nothing waits) and `reason` (may be empty)."""
    try:
        found = look(Paths.local())
    except (OSError, LabError):
        return {"bundles": 0, "size_bytes": 0, "oldest_at": None, "reason": ""}
    oldest = found.waiting[0].since if found.waiting else None
    why = found.last_attempt.reason if found.last_attempt else ""
    return {"bundles": len(found.waiting), "size_bytes": found.size_bytes, "oldest_at": oldest, "reason": why}
