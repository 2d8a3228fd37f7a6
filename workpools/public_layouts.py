"""Reports of older layouts as reports of today: version 1, and the two public layouts from before this project.

Those two come from the public assessment scripts of AerionDyseti/llm-memory-experiments (machine_capability/, 2025): a
basic one with `capabilities.prerequisites`, and an enhanced one with `results.eligibility.machine_tier`. They count
memory and disk in GiB, give times without a zone, and know nothing of this project's engines. What they say of a tier
is not taken over: it follows from memory and disk, as for every host. A speed is taken where the same was measured.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from common.environment import HOST_PATTERN
from workpools.report import CapabilityReport, ReportVersion1, validated
from workpools.tiers import TIERS, decide

GIB_IN_GB = 2**30 / 1e9
MIB_IN_MB = 2**20 / 1e6
EMBEDDER = "all-MiniLM-L6-v2"
EAST = timezone(timedelta(hours=14))  # the zone furthest ahead
Section = dict[str, JsonValue]  # of which nothing is read


def _label(value: str) -> str:
    """The system's name as this project writes it: its first label, in lowercase; no path passes."""
    label = re.sub(r"[^a-z0-9-]", "-", value.split(".")[0].lower()).strip("-")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", value) or not HOST_PATTERN.fullmatch(label):
        raise ValueError("not the name of a host")
    return label


def _instant(value: str) -> str:
    datetime.fromisoformat(value)
    return value


Host = Annotated[str, AfterValidator(_label)]
Time = Annotated[str, Field(max_length=40), AfterValidator(_instant)]  # or thousands of digits pass for a fraction
Gib = Annotated[float, Field(ge=0, le=2**40)]
Cores = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class BasicSystem(_Strict):
    platform: str
    processor: str
    architecture: str
    python_version: str
    cpu_count: Cores
    cpu_count_physical: Cores | None
    ram_gb: Annotated[float, Field(gt=0, le=2**40)]
    ram_available_gb: Gib
    disk_free_gb: Gib
    gpu: str | None = None
    gpu_type: str | None = None


class BasicCapabilities(_Strict):
    prerequisites: bool
    e0_e1: bool
    e2_full: bool
    e2_quantized: bool
    model_recommendations: list[str] = []
    notes: str | None = None


class BasicReport(_Strict):
    """Of the basic script."""

    timestamp: Time
    hostname: Host
    system: BasicSystem
    benchmark: Section = {}
    capabilities: BasicCapabilities


class Metadata(_Strict):
    timestamp: Time
    duration_seconds: float = 0
    hostname: Host
    report_version: Literal["2.0"]


class Processor(_Strict):
    physical_cores: Cores | None
    logical_cores: Cores
    current_freq_mhz: float | None = None
    min_freq_mhz: float | None = None
    max_freq_mhz: float | None = None


class Memory(_Strict):
    total_gb: Annotated[float, Field(gt=0, le=2**40)]
    available_gb: Gib
    used_gb: float = 0
    percent_used: float = 0
    swap_total_gb: float = 0
    swap_used_gb: float = 0


class Disk(_Strict):
    total_gb: float = 0
    used_gb: float = 0
    free_gb: Gib
    percent_used: float = 0


class Gpu(_Strict):
    type: str
    name: str
    memory: str | None = None
    driver: str | None = None
    details: str | None = None
    unified_memory: bool | None = None


class System(_Strict):
    hostname: Host
    platform: str
    platform_release: str
    platform_version: str = ""
    architecture: str
    processor: str = ""
    python_version: str
    python_implementation: str = ""
    cpu: Processor
    memory: Memory
    storage: Disk
    gpu: Gpu | None = None


class MatrixProduct(_Strict):
    time_seconds: float = 0
    gflops: Annotated[float, Field(ge=0)]


class Speeds(_Strict):
    matrix_mult: MatrixProduct | None = None
    fft: Section = {}
    integer_ops: Section = {}
    threading: Section = {}
    rating: str = ""


class BlockSpeed(_Strict):
    read_mb_s: float = 0
    write_mb_s: Annotated[float, Field(ge=0)]
    iterations: int = 0


class Storage(_Strict):
    small: Section = Field({}, alias="4KB")
    middle: Section = Field({}, alias="1MB")
    large: BlockSpeed | None = Field(None, alias="10MB")
    random_access: Section = {}
    rating: str = ""


class Ollama(_Strict):
    available: bool
    models: list[str] = []
    has_phi3: bool | None = None
    status: str = ""
    error: str = ""


class Embeddings(_Strict):
    status: str
    model: str = ""
    load_time_s: float = 0
    encode_time_s: float = 0
    throughput_sents_per_sec: float = 0
    embedding_dim: int = 0
    error: str = ""


class Llm(_Strict):
    ollama: Ollama
    embeddings: Embeddings
    inference: Section = {}
    finetuning: Section = {}


class Eligible(_Strict):
    eligible: bool
    reasons: list[str] = []


class Eligibility(_Strict):
    prerequisites: Eligible
    e0_parameter_optimization: Eligible
    e1_memory_retrieval: Eligible
    e2_finetuning_full: Eligible
    e2_finetuning_quantized: Eligible
    machine_tier: Annotated[int, Field(ge=0, le=3)]
    recommended_role: str | None = None


class Results(_Strict):
    system: System
    cpu: Speeds | None = None
    memory: Section = {}
    storage: Storage | None = None
    software: Section = {}
    llm: Llm | None = None
    network: Section = {}
    eligibility: Eligibility


class EnhancedReport(_Strict):
    """Of the enhanced script."""

    metadata: Metadata
    results: Results
    recommendations: list[str] = []
    warnings: list[str] = []


def from_version_1(content: bytes) -> CapabilityReport:
    """A report of version 1 as one of version 2: what it does not know is None.

    Raises:
        LabError: a field is missing, unknown or wrong.
    """
    old = validated(ReportVersion1, content)
    return CapabilityReport(
        **{name: getattr(old, name) for name in ReportVersion1.model_fields} | {"report_version": 2}
    )


def from_public(content: bytes, enhanced: bool) -> CapabilityReport:
    """A report of the older public layouts as one of today.

    Raises:
        LabError: a field is missing, unknown or wrong.
    """
    return (
        _from_enhanced(validated(EnhancedReport, content)) if enhanced else _from_basic(validated(BasicReport, content))
    )


def _from_basic(old: BasicReport) -> CapabilityReport:
    system, can = old.system, old.capabilities
    # It says e2_quantized only of a host that is too small for e2_full.
    stated = 3 if can.e2_full else 2 if can.e0_e1 or can.e2_quantized else 1 if can.prerequisites else 0
    return _report(
        stated,
        host=old.hostname,
        created_at=_earliest(old.timestamp),
        os=system.platform,
        architecture=system.architecture,
        python=_version(system.python_version),
        cores_physical=system.cpu_count_physical or 1,
        cores_logical=system.cpu_count,
        ram_total_gb=_gb(system.ram_gb),
        ram_available_gb=_gb(system.ram_available_gb),
        disk_free_gb=_gb(system.disk_free_gb),
        gpus=[line.strip() for line in (system.gpu or "").splitlines() if line.strip()],
        engines=[],
    )


def _from_enhanced(old: EnhancedReport) -> CapabilityReport:
    results = old.results
    system, cpu, storage, llm = results.system, results.cpu, results.storage, results.llm
    engines = ["embedder"] if llm and (llm.embeddings.status, llm.embeddings.model) == ("ready", EMBEDDER) else []
    gpu = system.gpu
    ollama = llm.ollama if llm and llm.ollama.available else None
    product = cpu.matrix_mult if cpu else None
    return _report(
        results.eligibility.machine_tier,
        host=old.metadata.hostname,
        created_at=_earliest(old.metadata.timestamp),
        os=f"{system.platform} {system.platform_release}",
        architecture=system.architecture,
        python=_version(system.python_version),
        cores_physical=system.cpu.physical_cores or 1,
        cores_logical=system.cpu.logical_cores,
        ram_total_gb=_gb(system.memory.total_gb),
        ram_available_gb=_gb(system.memory.available_gb),
        disk_free_gb=_gb(system.storage.free_gb),
        gpus=[", ".join(filter(None, (gpu.name, gpu.memory)))] if gpu else [],
        engines=engines + (["ollama"] if ollama else []),
        matrix_gflops=product.gflops if product else None,
        disk_write_mb_s=round(storage.large.write_mb_s * MIB_IN_MB, 1) if storage and storage.large else None,
        ollama_models=sorted(ollama.models) if ollama else None,
    )


def _report(stated: int, **values: Any) -> CapabilityReport:
    decision = decide(values["ram_available_gb"], values["disk_free_gb"])
    reasons = [
        *decision.reasons,
        "from an older layout, which does not tell what is installed: lab assess on that machine",
    ]
    if values.get("matrix_gflops") is not None:
        reasons.append("matrix_gflops is a lower bound: the older script timed the making of the matrices as well")
    here = (TIERS.index(decision.tier) + 1) if decision.tier in TIERS else 0
    if stated != here:
        reasons.append(f"the older script said tier {stated} of 3; memory and disk say {here}")
    return CapabilityReport(versions={}, tier=decision.tier, profiles=decision.profiles, reasons=reasons, **values)


def _gb(gib: float) -> float:
    return round(gib * GIB_IN_GB, 2)


def _version(text: str) -> str:
    """The number in sys.version: "3.12.3 (main, ...) [GCC 13.3.0]"."""
    return text.split(maxsplit=1)[0] if text.strip() else ""


def _earliest(text: str) -> datetime:
    """The earliest instant that a local time can mean, so that no report passes for newer than it is."""
    read = datetime.fromisoformat(text)
    if read.tzinfo is None:
        try:
            read = read.replace(tzinfo=EAST).astimezone(UTC)
        except OverflowError:  # within a day of the year 1
            read = read.replace(tzinfo=UTC)
    return read
