"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "292f94a9c1c8cc1ccd54e27de31cb8b0",
    "p3": "bdfbbd6604fcb43eebe660a32622632f",
    "e1": "e674b38d006cd2015b4e12d062792c49",
}


@pytest.mark.parametrize("phase", STORED)
def test_a_move_or_a_new_name_changes_no_unit_id(phase: str) -> None:
    """An id that changed without a reason would throw finished results away."""
    retrieval = {"embedder": "all-MiniLM-L6-v2", "text_weight": 0.7, "k": 5, "distance": "cosine"}
    units = get_phase(phase).units(configure(phase, "smoke"), {"retrieval": retrieval}, [])
    assert units[0].unit_id == STORED[phase]
