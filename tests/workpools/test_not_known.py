"""What a system does not say about itself: it is said, and fits nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import resources
from common.resources import Memory
from workpools import graphics, instruction_sets
from workpools.assess import assess, parse_report
from workpools.fit import unfit_now


def test_what_is_not_known_is_said_and_fits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that hides its memory, disk and cores ended the assessment with a traceback; a zero or a 1 would be made up."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr(resources, "memory", lambda: Memory(None, None, None, resources.UNKNOWN))
    monkeypatch.setattr(resources, "disk_free_gb", lambda folder: None)
    monkeypatch.setattr(resources, "cores", lambda: resources.Cores(None, 4, 4, None))
    monkeypatch.setattr(
        graphics, "amd", lambda timeout_s: graphics.Cards((), ("AMD's cards are not known",), known=False)
    )
    monkeypatch.setattr(instruction_sets, "cpu_flags", lambda timeout_s: None)
    report = assess(quick=True, api_url="http://127.0.0.1:9/api")
    assert (report.tier, any(report.profiles.values())) == ("unfit", False)
    assert report.ram_total_gb is report.ram_available_gb is report.ram_idle_gb is report.ram_idle_at is None
    assert report.disk_free_gb is report.cores_physical is report.cpu_flags is None
    said = " | ".join(report.reasons)
    for part in (
        "not weak: an unknown amount of RAM available, 3 needed | not weak: an unknown amount of disk free, 5 needed",
        "export LAB_RAM_GB=4",
        f"the file system of {tmp_path} does not say how much is free",
        "does not say how many cores",
        "AMD's cards are not known",
        "instruction sets of the processor are not known",
    ):
        assert part in said
    assert parse_report(report.model_dump_json().encode()) == report
    monkeypatch.setattr("workpools.fit.memory", resources.memory)
    assert unfit_now("prerequisites") == "an unknown amount of RAM available, 3 needed"
