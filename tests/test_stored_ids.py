"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, expected_findings, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "0a7a40a0794bef6aa81fa93eac4f768e",
    "p3": "c90e0b5db298dd378e6beea92eca5807",
    "e1": "803b5897ffa3200326e2592952cb9048",
}


@pytest.mark.parametrize("phase", STORED)
def test_a_move_or_a_new_name_changes_no_unit_id(phase: str) -> None:
    """An id that changed without a reason would throw finished results away."""
    units = get_phase(phase).units(configure(phase, "smoke"), expected_findings(), [])
    assert units[0].unit_id == STORED[phase]
