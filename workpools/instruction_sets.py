"""The processor's instruction sets, by one name on every system."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from common.cgroups import system_text
from common.resources import ROOT
from workpools.tools import ask

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


def cpu_flags(timeout_s: float = 5, root: Path = ROOT) -> list[str] | None:
    """Return those of FLAGS that this processor has; None if the system does not list them."""
    if platform.system() == "Darwin":
        said = ask(["sysctl", "hw.optional"], timeout_s)
        return flags_of_sysctl(said.text if said else "")
    return flags_of_cpuinfo(system_text(root / "proc/cpuinfo"))


def flags_of_cpuinfo(text: str) -> list[str] | None:
    """Find FLAGS in Linux's /proc/cpuinfo, in the line "flags" on x86 and "Features" on ARM, in small letters elsewhere."""
    found = re.search(r"^(?:flags|features)\s*:(.*)$", text, re.MULTILINE | re.IGNORECASE)
    return [f for f in FLAGS if f in found[1].split()] if found else None


def flags_of_sysctl(text: str) -> list[str] | None:
    """Find FLAGS in the output of macOS's `sysctl hw.optional`."""
    printed = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    has = {flag for name, flag in DARWIN_FLAGS.items() if printed.get(name, "").strip() == "1"}
    return [f for f in FLAGS if f in has] if printed else None
