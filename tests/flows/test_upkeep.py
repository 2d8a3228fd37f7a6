"""The small flows around the pipeline, called as functions: no server is started here."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.upkeep import assess_host
from workpools.assess import parse_report


def test_assess_host_writes_and_registers_what_lab_assess_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is assessed through Prefect is known to its own lab up and to the coordinator, with one report."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_HOST", "pi-4")
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), disable_run_logger():
        said = assess_host.fn(quick=True)
    name = "capability_report_pi-4.json"
    content = (tmp_path / name).read_bytes()
    assert (tmp_path / "results" / "hosts" / name).read_bytes() == content
    report = parse_report(content)
    assert said == {"host": "pi-4", "tier": report.tier}
    assert report.clock_offset_s is None
