"""A capability report in which nothing was measured."""

from __future__ import annotations

import json
from typing import Any

REPORT: dict[str, Any] = {
    "os": "Linux 6.1",
    "architecture": "aarch64",
    "python": "3.11.2",
    "created_at": "2026-01-02T06:00:00Z",
    "tier": "weak",
    "cores_physical": 4,
    "cores_logical": 4,
    "ram_total_gb": 8.0,
    "ram_available_gb": 6.5,
    "disk_free_gb": 50.0,
    **{name: {} for name in ("versions", "profiles")},
    **{name: [] for name in ("gpus", "engines", "reasons")},
}


def report_file(name: str, **values: Any) -> bytes:
    """The file of a host."""
    return json.dumps(REPORT | {"host": name} | values).encode()
