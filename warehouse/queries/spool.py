"""What waits on this host to be delivered, for the page that shows the machines."""

from __future__ import annotations

from common.errors import LabError
from warehouse.delivery.spool import look
from warehouse.paths import Paths
from warehouse.queries.snapshot import Row


def waiting() -> Row:
    """`bundles` and `size_bytes` that wait, `oldest_at` (None when nothing waits), and `reason`, why, as far as known."""
    try:
        found = look(Paths.local())
    except (OSError, LabError):
        return {"bundles": 0, "size_bytes": 0, "oldest_at": None, "reason": ""}
    oldest = found.waiting[0].since if found.waiting else None
    why = found.last_try.reason if found.last_try else ""
    return {"bundles": len(found.waiting), "size_bytes": found.size_bytes, "oldest_at": oldest, "reason": why}
