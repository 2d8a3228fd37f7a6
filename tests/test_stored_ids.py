"""Unit ids stored by an earlier version are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, get_phase

# Planned at smoke scale by the commit before the modules were moved into their folders.
STORED = {
    "p1": "805294b6f59e231ab60554741a5ae6a5",
    "p3": "3c3e8e10d95291be0d2dc75136262c3b",
    "e0": "e9b27f4815ef648fbcb42d73832d5e9d",
}


@pytest.mark.parametrize("phase", STORED)
def test_a_move_of_modules_changes_no_unit_id(phase: str) -> None:
    """An id that changed without a reason would throw away finished results."""
    units = get_phase(phase).units(configure(phase, "smoke"), {}, [])
    assert units[0].unit_id == STORED[phase]
