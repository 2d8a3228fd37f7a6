"""Made-up rows of a chain of verdicts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def verdict(phase: str, status: str, minutes: int = 0, **values: Any) -> dict[str, Any]:
    """A row of gate_history as `chain_of` gives it."""
    return {
        "phase": phase,
        "status": status,
        "decided_at": NOON + timedelta(minutes=minutes),
        "threshold": 1.2,
        "value": 1.5,
        "low": 1.3,
        "high": 1.7,
        "main_metric": "similarity_ratio",
        "n": 30,
        "reason": "It is so.",
        "why": None,
        "differs": "",
        "next_steps": "[]",
        "plan_id": "0f3a",
    } | values
