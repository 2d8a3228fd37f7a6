"""Capability reports in the two public layouts from before this project, read as reports of today.

They come from the assessment scripts of AerionDyseti/llm-memory-experiments (machine_capability/, 2025): a basic one with
`capabilities.prerequisites`, and an enhanced one with `results.eligibility.machine_tier`. They count memory and disk in GiB,
give times without a zone, and do not list this project's engines. Their tier is not taken over: it follows from memory and
disk, as for every host. A speed is taken where it measures the same. Fields that are not used are ignored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

from pydantic import AfterValidator, AliasPath, BaseModel, ConfigDict, Field

from common.environment import host_name_from
from workpools.report import MOST, CapabilityReport, naming_the_field, validated
from workpools.tiers import TIERS, decide

GIB_IN_GB = 2**30 / 1e9
MIB_IN_MB = 2**20 / 1e6
EMBEDDER = "all-MiniLM-L6-v2"
EAST = timezone(timedelta(hours=14))  # the easternmost time zone


def _at(path: str) -> Any:
    """Declare where a layout has a field, as names joined by dots."""
    return Field(validation_alias=AliasPath(*path.split(".")))


def _label(value: str) -> str:
    """Return a system's name as the name of a host; refuse paths."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", value) or not re.match("[A-Za-z0-9]", value):
        raise ValueError("not the name of a host")
    return host_name_from(value)


def _instant(value: str) -> str:
    datetime.fromisoformat(value)
    return value


Host = Annotated[str, AfterValidator(_label)]
Time = Annotated[str, Field(max_length=40), AfterValidator(_instant)]  # longer fractions take minutes to parse
Gib = Annotated[float, Field(ge=0, le=MOST)]
Ram = Annotated[float, Field(gt=0, le=MOST)]
Cores = Annotated[int, Field(ge=1, le=int(MOST))]
Speed = Annotated[float, Field(ge=0, le=MOST)]


class _Layout(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class BasicReport(_Layout):
    """The fields used of the basic script's report."""

    timestamp: Time
    host: Annotated[Host, _at("hostname")]
    os: Annotated[str, _at("system.platform")]
    architecture: Annotated[str, _at("system.architecture")]
    python: Annotated[str, _at("system.python_version")]
    cores_physical: Annotated[Cores | None, _at("system.cpu_count_physical")]
    cores_logical: Annotated[Cores, _at("system.cpu_count")]
    ram_total: Annotated[Ram, _at("system.ram_gb")]
    ram_available: Annotated[Gib, _at("system.ram_available_gb")]
    disk_free: Annotated[Gib, _at("system.disk_free_gb")]
    gpu: Annotated[str | None, _at("system.gpu")] = None
    prerequisites: Annotated[bool, _at("capabilities.prerequisites")]
    e0_e1: Annotated[bool, _at("capabilities.e0_e1")]
    e2_full: Annotated[bool, _at("capabilities.e2_full")]
    e2_quantized: Annotated[bool, _at("capabilities.e2_quantized")]

    @property
    def stated_tier(self) -> int:
        """Tier 0 to 3 that the script gave; it sets e2_quantized only for a host that is too small for e2_full."""
        return 3 if self.e2_full else 2 if self.e0_e1 or self.e2_quantized else 1 if self.prerequisites else 0

    def own_fields(self) -> dict[str, Any]:
        """Return the fields of a CapabilityReport that the layouts state differently."""
        return {"os": self.os, "gpus": [line.strip() for line in (self.gpu or "").splitlines() if line.strip()]}


class EnhancedReport(_Layout):
    """The fields used of the enhanced script's report."""

    timestamp: Annotated[Time, _at("metadata.timestamp")]
    host: Annotated[Host, _at("metadata.hostname")]
    report_version: Annotated[str, Field(pattern=r"^2\.0$"), _at("metadata.report_version")]
    os: Annotated[str, _at("results.system.platform")]
    os_release: Annotated[str, _at("results.system.platform_release")]
    architecture: Annotated[str, _at("results.system.architecture")]
    python: Annotated[str, _at("results.system.python_version")]
    cores_physical: Annotated[Cores | None, _at("results.system.cpu.physical_cores")]
    cores_logical: Annotated[Cores, _at("results.system.cpu.logical_cores")]
    ram_total: Annotated[Ram, _at("results.system.memory.total_gb")]
    ram_available: Annotated[Gib, _at("results.system.memory.available_gb")]
    disk_free: Annotated[Gib, _at("results.system.storage.free_gb")]
    gpu: Annotated[str | None, _at("results.system.gpu.name")] = None
    gpu_memory: Annotated[str | None, _at("results.system.gpu.memory")] = None
    matrix_gflops: Annotated[Speed | None, _at("results.cpu.matrix_mult.gflops")] = None
    disk_write_mib_s: Annotated[Speed | None, _at("results.storage.10MB.write_mb_s")] = None
    has_ollama: Annotated[bool, _at("results.llm.ollama.available")] = False
    ollama_models: Annotated[list[str], _at("results.llm.ollama.models")] = []
    embedder_status: Annotated[str, _at("results.llm.embeddings.status")] = ""
    embedder: Annotated[str, _at("results.llm.embeddings.model")] = ""
    stated_tier: Annotated[int, Field(ge=0, le=3), _at("results.eligibility.machine_tier")]

    def own_fields(self) -> dict[str, Any]:
        """Return the fields of a CapabilityReport that the layouts state differently."""
        has_embedder = (self.embedder_status, self.embedder) == ("ready", EMBEDDER)
        written = self.disk_write_mib_s
        return {
            "os": f"{self.os} {self.os_release}",
            "gpus": [", ".join(filter(None, (self.gpu, self.gpu_memory)))] if self.gpu else [],
            "engines": ["embedder"] * has_embedder + ["ollama"] * self.has_ollama,
            "matrix_gflops": self.matrix_gflops,
            "disk_write_mb_s": None if written is None else round(written * MIB_IN_MB, 1),
            "ollama_models": sorted(self.ollama_models) if self.has_ollama else None,
        }


def from_public(content: bytes, enhanced: bool) -> CapabilityReport:
    """Read a report of the enhanced script, else of the basic one, as one of today; refuse it if a used field is wrong."""
    old = validated(EnhancedReport, content) if enhanced else validated(BasicReport, content)
    ram_available_gb, disk_free_gb = _gb(old.ram_available), _gb(old.disk_free)
    decision = decide(ram_available_gb, disk_free_gb)
    own = {"engines": []} | old.own_fields()
    reasons = ["from an older layout, which does not list installed packages: lab assess on that machine"]
    if own.get("matrix_gflops") is not None:
        reasons.append("matrix_gflops is a lower bound: the older script also timed making the matrices")
    tier = TIERS.index(decision.tier) + 1 if decision.tier in TIERS else 0
    if old.stated_tier != tier:
        reasons.append(f"the older script gave tier {old.stated_tier} of 3; by memory and disk it is {tier}")
    fields = {
        "host": old.host,
        "created_at": _earliest(old.timestamp),
        "architecture": old.architecture,
        # sys.version goes on with the compiler
        "python": old.python.split(maxsplit=1)[0] if old.python.strip() else "",
        "versions": {},
        "cores_physical": old.cores_physical,
        "cores_logical": old.cores_logical,
        "ram_total_gb": _gb(old.ram_total),
        "ram_available_gb": ram_available_gb,
        "disk_free_gb": disk_free_gb,
        "tier": decision.tier,
        "profiles": decision.profiles,
        "reasons": [*decision.reasons, *reasons],
    }
    return naming_the_field(lambda: CapabilityReport.model_validate(fields | own))


def _gb(gib: float) -> float:
    return round(gib * GIB_IN_GB, 2)


def _earliest(text: str) -> datetime:
    """Return the earliest instant that a local time can mean, so that a report never counts as newer than it is."""
    read = datetime.fromisoformat(text)
    if read.tzinfo is None:
        try:
            read = read.replace(tzinfo=EAST).astimezone(UTC)
        except OverflowError:  # within a day of the year 1
            read = read.replace(tzinfo=UTC)
    return read
