"""The hardware of this host: memory and cores with a container's limits, instruction sets, graphics processors."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from common.errors import LabError

GB = 1e9
LENT = "LAB_RAM_GB"  # environment variable: what the owner lends, for a machine that is used for other things too
ROOT = Path("/")  # of the file system; tests have their own
AMD_VENDOR = "0x1002"  # of the PCI bus

# Instruction sets that decide how fast matrices are multiplied, as /proc/cpuinfo names them.
FLAGS = (
    "sse4_2 avx f16c fma avx2 avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
    "neon asimd asimdhp asimddp i8mm bf16 sve sve2 sme"
).split()
# Their names in macOS's `sysctl hw.optional`: https://developer.apple.com/documentation/kernel/1387446-sysctlbyname
DARWIN_FLAGS = {
    f"hw.optional.{name}": flag
    for name, flag in zip(
        "sse4_2 avx1_0 f16c fma avx2_0 avx512f avx512bw avx512vnni neon AdvSIMD arm.FEAT_FP16 arm.FEAT_DotProd "
        "arm.FEAT_I8MM arm.FEAT_BF16 arm.FEAT_SME".split(),
        "sse4_2 avx f16c fma avx2 avx512f avx512bw avx512_vnni asimd asimd asimdhp asimddp i8mm bf16 sme".split(),
        strict=True,
    )
}


@dataclass(frozen=True)
class Memory:
    """Memory in GB (10^9 bytes); `reason` explains a container's limit that leaves less than the system."""

    total_gb: float
    available_gb: float
    limit_gb: float | None
    reason: str | None = None


def memory(root: Path = ROOT) -> Memory:
    """Return the memory available to this process: what the system has, or less where a container or the owner limits it.

    Raises:
        LabError: LAB_RAM_GB is not valid.
    """
    found, lent = _system_memory(root), lent_gb()
    if lent is None or lent >= found.total_gb:
        return found
    limit_gb = min(lent, found.limit_gb or lent)
    if lent >= found.available_gb:
        return replace(found, limit_gb=limit_gb)
    return Memory(
        found.total_gb, lent, limit_gb, f"memory: {LENT} lends {lent:g} GB of {found.available_gb:.2f} available"
    )


def _system_memory(root: Path) -> Memory:
    system = psutil.virtual_memory()
    total_gb, system_gb = round(system.total / GB, 2), round(system.available / GB, 2)
    # Without a limit version 1 gives 2^63 less a page; a limit above the memory itself limits nothing.
    limits = [one for one in _limits(root) if one.limit < system.total]
    if not limits:
        return Memory(total_gb, system_gb, None)
    limit_gb = round(min(one.limit for one in limits) / GB, 2)
    left_gb = round(max(0, min(one.left for one in limits)) / GB, 2)
    if left_gb >= system_gb:
        return Memory(total_gb, system_gb, limit_gb)
    reason = f"memory: a limit of {limit_gb:.2f} GB on this process (its container) leaves {left_gb:.2f}, the machine {system_gb:.2f}"
    return Memory(total_gb, left_gb, limit_gb, reason)


def lent_gb() -> float | None:
    """Return the memory that the owner lends, GB: LAB_RAM_GB; None where it is not set.

    Raises:
        LabError: it is not a number above 0.
    """
    text = os.environ.get(LENT)
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise LabError(f"{LENT} = {text[:40]!r} is not a number of GB above 0", f"export {LENT}=4")
    return found


class Cores(NamedTuple):
    """Processor cores of this machine, hardware threads, and what this process may use of them; a quota may be a part of one."""

    physical: int
    logical: int
    usable: float
    quota: float | None  # of a container, in cores

    @property
    def reason(self) -> str | None:
        """Return a line if this process may not use all."""
        if self.usable >= self.logical:
            return None
        how = "a quota" if self.usable == self.quota else "the affinity"
        return f"processor: {how} of this process allows {self.usable:g} of {self.logical} hardware threads"


def cores(root: Path = ROOT) -> Cores:
    """Return the cores of this machine, and how many of them affinity and a container's quota leave to this process."""
    logical = psutil.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    quotas = list(_quotas(root))
    quota = min(quotas) if quotas else None
    return Cores(psutil.cpu_count(logical=False) or 1, logical, min(mine, quota or math.inf), quota)


def _quotas(root: Path) -> Iterator[float]:
    """Find the processor quotas of the control groups around this process, in cores.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu, https://docs.kernel.org/scheduler/sched-bwc.html
    """
    for folder, version in _groups(root, "cpu"):
        if version == 2:
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        allowed, each = _number(quota), _number(period)
        if allowed and each:
            yield allowed / each


class _Limit(NamedTuple):
    """Bytes that a control group allows, and bytes left of them."""

    limit: int
    left: int


def _limits(root: Path) -> Iterator[_Limit]:
    """Find the control groups around this process that limit memory, of version 2 or 1.

    The memory in use includes the file cache. Its inactive part is freed before anything else, so it counts as left.
    https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
    """
    for folder, version in _groups(root, "memory"):
        names = ("memory.max", "memory.current", "inactive_file")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit, used = _number(_text(folder / names[0])), _number(_text(folder / names[1]))
        if limit is not None and used is not None:
            cache = re.search(rf"^{names[2]} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
            yield _Limit(limit, limit - max(0, used - int(cache[1] if cache else 0)))


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Find the folders of the control groups around this process, the innermost first, each with its version."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, inside = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            top, version = root / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            top, version = root / "sys/fs/cgroup" / controller, 1
        else:
            continue
        # A group's path may be the outer system's, of which a container sees no folder: then the top is the container's.
        below = [p for p in Path(inside.strip("/")).parts if p != ".."]
        for depth in range(len(below), -1, -1):
            yield top.joinpath(*below[:depth]), version


def _text(path: Path) -> str:
    """Return the content of a small system file, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # a path may hold what no path can
        return ""


def _number(text: str) -> int | None:
    """Parse a number of bytes; None for "max" and for nothing."""
    return int(text) if re.fullmatch(r"\d{1,20}\n?", text) else None


def cpu_flags(timeout_s: float = 5, root: Path = ROOT) -> list[str] | None:
    """Return those of FLAGS that this processor has; None if the system does not list them."""
    if platform.system() == "Darwin":
        return flags_of_sysctl(_output(["sysctl", "hw.optional"], timeout_s) or "")
    return flags_of_cpuinfo(_text(root / "proc/cpuinfo"))


def flags_of_cpuinfo(text: str) -> list[str] | None:
    """Find FLAGS in Linux's /proc/cpuinfo, in the line "flags" on x86 and "Features" on ARM."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return [f for f in FLAGS if f in found[1].split()] if found else None


def flags_of_sysctl(text: str) -> list[str] | None:
    """Find FLAGS in the output of macOS's `sysctl hw.optional`."""
    printed = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    has = {flag for name, flag in DARWIN_FLAGS.items() if printed.get(name, "").strip() == "1"}
    return [f for f in FLAGS if f in has] if printed else None


def apple_gpus(timeout_s: float = 5) -> list[str]:
    """Name the graphics processor of an Apple chip by the chip."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return []
    return [(_output(["sysctl", "-n", "machdep.cpu.brand_string"], timeout_s) or "").strip() or "Apple"]


def nvidia_gpus(timeout_s: float = 5) -> list[str] | None:
    """Return names and memory of NVIDIA's cards; None if their driver does not answer in time."""
    printed = _output(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"], timeout_s)
    return None if printed is None else [line.strip() for line in printed.splitlines() if line.strip()]


def amd_gpus(timeout_s: float = 5, root: Path = ROOT) -> list[str]:
    """Return AMD's cards as ROCm names them, else as the kernel lists them."""
    printed = _output(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"], timeout_s)
    return amd_of_rocm(printed or "") or amd_of_drm(root)


def amd_of_rocm(text: str) -> list[str]:
    """Find names and memory in the output of `rocm-smi --json`; [] for any other text."""
    cards = None
    with suppress(ValueError, RecursionError):
        cards = json.loads(text[text.find("{") :])  # warnings come before it
    found = []
    for key, card in sorted(cards.items()) if isinstance(cards, dict) else ():
        if key.startswith("card") and isinstance(card, dict):
            # Releases of ROCm differ in the capital letter.
            name = card.get("Card Series") or card.get("Card series") or card.get("Card SKU") or "GPU"
            found.append(_amd(str(name), str(card.get("VRAM Total Memory (B)", ""))))
    return found


def amd_of_drm(root: Path = ROOT) -> list[str]:
    """Find AMD's cards among the kernel's graphics devices, by vendor and device numbers of the PCI bus."""
    cards = [p for p in (root / "sys/class/drm").glob("card*") if re.fullmatch(r"card\d+", p.name)]
    return [
        _amd(f"GPU {_text(card / 'device/device').strip()}", _text(card / "device/mem_info_vram_total"))
        for card in sorted(cards, key=lambda p: int(p.name.removeprefix("card")))
        if _text(card / "device/vendor").strip() == AMD_VENDOR
    ]


def _amd(name: str, vram_bytes: str) -> str:
    known = _number(vram_bytes.strip())
    size = f", {known / 2**20:.0f} MiB" if known else ""  # MiB as in nvidia-smi
    return f"{name if 'AMD' in name else f'AMD {name}'}{size}"


def _output(command: Sequence[str], timeout_s: float) -> str | None:
    """Return the output of a program; "" if it is not installed or fails, None if it does not end in time."""
    tool = shutil.which(command[0])
    if tool is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            [tool, *command[1:]], capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
