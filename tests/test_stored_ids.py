"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, expected_findings, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "cf7f405da7a6efafcb4ecc7f7066181f",
    "p3": "5145a194fcd9933388b4f6de24695136",
    "e1": "ef36001650f7e824197409027952263e",
}


@pytest.mark.parametrize("phase", STORED)
def test_a_move_or_a_new_name_changes_no_unit_id(phase: str) -> None:
    """An id that changed without a reason would throw finished results away."""
    units = get_phase(phase).units(configure(phase, "smoke"), expected_findings(), [])
    assert units[0].unit_id == STORED[phase]
