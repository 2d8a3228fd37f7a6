"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, expected_findings, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "9f73f40dda7198a593c3fb4db5c7891c",
    "p3": "148a33bdaba91adb74c03410e5b93803",
    "e1": "2d5ca8fcc3c70166b6ef05625beca0af",
}


@pytest.mark.parametrize("phase", STORED)
def test_a_move_or_a_new_name_changes_no_unit_id(phase: str) -> None:
    """An id that changed without a reason would throw finished results away."""
    units = get_phase(phase).units(configure(phase, "smoke"), expected_findings(), [])
    assert units[0].unit_id == STORED[phase]
