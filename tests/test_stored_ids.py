"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "48450403fe973bfc8b72c332b3d639e3",
    "p3": "655c434a06b84587d720f498201e0302",
    "e1": "a3b868da0572f922e5af225cee2d356d",
}


@pytest.mark.parametrize("phase", STORED)
def test_a_move_or_a_new_name_changes_no_unit_id(phase: str) -> None:
    """An id that changed without a reason would throw finished results away."""
    retrieval = {"embedder": "all-MiniLM-L6-v2", "text_weight": 0.7, "k": 5, "distance": "cosine"}
    units = get_phase(phase).units(configure(phase, "smoke"), {"retrieval": retrieval}, [])
    assert units[0].unit_id == STORED[phase]
