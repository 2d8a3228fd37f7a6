"""A capability report with made-up numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from workpools.assess import CapabilityReport
from workpools.tiers import decide

ALL = ("embedder", "language_model", "lora")


def made_up_report(host: str, ram_gb: float = 16, engines: tuple[str, ...] = ALL, **more: Any) -> CapabilityReport:
    """Return a report of a host with this memory and these engines; `more` replaces other fields."""
    decision = decide(ram_gb, 100)
    fields: dict[str, Any] = {
        "created_at": datetime(2026, 11, 1, tzinfo=UTC),
        "os": "Linux",
        "architecture": "aarch64",
        "python": "3.11.2",
        "versions": {},
        "cores_physical": 4,
        "cores_logical": 4,
        "ram_total_gb": 32.0,
        "ram_available_gb": float(ram_gb),
        "disk_free_gb": 100.0,
        "gpus": [],
        "engines": list(engines),
        "tier": decision.tier,
        "profiles": decision.profiles,
        "reasons": decision.reasons,
    }
    return CapabilityReport(host=host, **(fields | more))
