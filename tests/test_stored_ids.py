"""Unit ids stored by an earlier commit are still the ids of the same work."""

from __future__ import annotations

import pytest

from experiments.registry import configure, expected_findings, get_phase

# The first unit of a phase at smoke scale. A change that moves one throws finished trials away: it belongs into LOG.md.
STORED = {
    "p1": "491520127ee0aeb8cef785c677447480",
    "p3": "6c91021f000049b38d7d7cd399aa598a",
    "e1": "f4725eb049ad284d7d128a33543d4972",
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
