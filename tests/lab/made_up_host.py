"""A capability report with made-up numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from workpools.assess import CapabilityReport
from workpools.tiers import decide


def made_up_report(host: str, ram_gb: float = 16, **more: Any) -> CapabilityReport:
    decision = decide(ram_gb, 100)
    return CapabilityReport(
        host=host,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        os="Linux",
        architecture="aarch64",
        python="3.11.2",
        cores_physical=4,
        cores_logical=4,
        ram_total_gb=32.0,
        ram_available_gb=float(ram_gb),
        disk_free_gb=100.0,
        gpus=[],
        engines=["embedder"],
        tier=decision.tier,
        profiles=decision.profiles,
        reasons=decision.reasons,
        **({"versions": {"torch": "2.13.0"}} | more),
    )
