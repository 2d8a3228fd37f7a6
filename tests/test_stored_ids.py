"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, expected_findings, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "20539ceec418abceb5ef4c6a567a3b47",
    "p3": "570084f6cea1c43e2f01102e000527f8",
    "e1": "a60e03e056c47876525cadf7bd4d15a9",
}


@pytest.mark.parametrize("phase", STORED)
def test_a_move_or_a_new_name_changes_no_unit_id(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that changed without a reason would throw finished results away. Another release of torch is a reason."""
    for module in ("catalog", "transformers_backend"):
        monkeypatch.setattr(
            f"experiments.backends.{module}.releases_of", lambda packages: dict.fromkeys(packages, "1.0")
        )
    units = get_phase(phase).units(configure(phase, "smoke"), expected_findings(), [])
    assert units[0].unit_id == STORED[phase]
