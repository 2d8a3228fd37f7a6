"""The snapshot: a copy of the warehouse that readers open, replaced in one step, so that none of them meets a lock."""

from __future__ import annotations

from pathlib import Path

from warehouse.durable import copy_whole, sweep
from warehouse.places import Places


def publish(places: Places) -> Path:
    """Copy the checkpointed, closed warehouse onto the snapshot's name; the caller holds the warehouse's lock."""
    # Only the holder of the lock writes here, so whatever is half written is from one that died.
    sweep(places.home, older_than_s=0.0)
    copy_whole(places.warehouse, places.snapshot)
    return places.snapshot
