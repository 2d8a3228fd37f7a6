"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, expected_findings, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "a79ac8622ee36b36c2578e6ef0de3d5e",
    "p3": "8feafb405ec9f1a22ef043176f585b45",
    "e1": "30d61956b90962a8ebf0b9417dcf3ea9",
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
