"""Three made-up machines: a Raspberry Pi, a laptop and a desktop, for `lab plan --example` and `lab demo --machines 3`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from workpools.report import CapabilityReport
from workpools.tiers import decide


class ExampleMachine(NamedTuple):
    """A made-up machine."""

    host: str
    ram_gb: float
    spare_gb: float  # of its memory
    cores: int
    gflops: float
    texts_per_s: float


# Not measured: the desktop 6 cores x 32 operations a cycle x 3.6 GHz x 0.8, the laptop 4 x 32 x 2 x 0.8, the Pi twice its 8
# to 10 GFLOPS in Linpack, which is double precision; texts in the proportion of the reference machine.
EXAMPLE = (
    ExampleMachine("pi-4", 4, 3.2, 4, 20, 8),
    ExampleMachine("laptop", 8, 6.5, 4, 200, 78),
    ExampleMachine("desktop", 16, 13, 6, 550, 214),
)


def example_reports() -> list[CapabilityReport]:
    """Return reports of the machines in EXAMPLE."""
    found = []
    for one in EXAMPLE:
        machine = {"host": one.host, "architecture": "aarch64" if one.ram_gb == 4 else "x86_64", "os": "Linux"}
        has: dict[str, Any] = {
            "ram_total_gb": float(one.ram_gb),
            "ram_available_gb": float(one.spare_gb),
            "disk_free_gb": 100.0,
        }
        has |= {"cores_physical": one.cores, "cores_logical": one.cores, "gpus": []}
        has |= {"engines": ["embedder", "language_model", "lora"], "python": "3.11"}
        speeds = {"matrix_gflops": float(one.gflops), "embedding_texts_per_s": float(one.texts_per_s)}
        about: dict[str, Any] = machine | has | speeds | asdict(decide(one.spare_gb, 100))
        found.append(CapabilityReport(created_at=datetime.now(UTC), versions={}, **about))
    return found
