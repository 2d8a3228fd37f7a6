"""Instruction sets of a processor, read from what its system prints."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from workpools import instruction_sets
from workpools.instruction_sets import flags_of_cpuinfo, flags_of_sysctl

EPYC = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse sse4_2 avx f16c fma avx2 smep\nbugs\t\t: a\n"
XEON = (
    "flags\t\t: sse4_2 avx fma avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8\n\nprocessor\t: 1\nflags\t\t: fpu\n"
)
# Of 64 bits, and the same machine as a 32-bit system sees it; on neither is there a word for what it lacks.
PI_4 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
PI_3 = (
    "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nBogoMIPS\t: 38.40\n"
    "Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32\n"
    "\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 3 Model B Rev 1.2\n"
)
S390X = "vendor_id       : IBM/S390\nfeatures\t: esan3 zarch stfle msa\n"
RISCV = "processor\t: 0\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\n"
PI_5 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 atomics fphp asimdhp asimddp\n"
M3 = (
    "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 1\nhw.optional.neon: 1\n"
    "hw.optional.arm.FEAT_SME: 0\nhw.optional.arm.FEAT_FP16: 1\nhw.optional.AdvSIMD: 1\nhw.optional.floatingpoint: 1\n"
)
INTEL_MAC = (
    "hw.optional.avx1_0: 1\nhw.optional.avx2_0: 1\nhw.optional.fma: 1\nhw.optional.avx512f: 0\nhw.optional.sse4_2: 1\n"
)


def test_instruction_sets_have_one_name_on_every_system() -> None:
    """Hosts are compared by them; what does not matter for a model (fpu, atomics) stays out."""
    assert flags_of_cpuinfo(EPYC) == ["sse4_2", "avx", "f16c", "fma", "avx2"]
    assert flags_of_cpuinfo(XEON) == [
        "sse4_2",
        "avx",
        "fma",
        "avx2",
        "avx512f",
        "avx512_vnni",
        "amx_tile",
        "amx_int8",
        "amx_bf16",
    ]
    assert flags_of_cpuinfo(PI_5) == ["asimd", "asimdhp", "asimddp"]
    assert (flags_of_cpuinfo(PI_4), flags_of_cpuinfo(PI_3)) == (["asimd"], ["neon"])
    assert (flags_of_cpuinfo(S390X), flags_of_cpuinfo(RISCV)) == ([], None)
    assert flags_of_sysctl(M3) == ["asimd", "asimdhp", "asimddp", "i8mm", "bf16"]
    assert flags_of_sysctl(INTEL_MAC) == ["sse4_2", "avx", "fma", "avx2"]
    assert flags_of_cpuinfo("flags\t\t:\n") == []
    assert flags_of_cpuinfo("processor : 0\n") is flags_of_sysctl("") is None


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc/cpuinfo")
def test_this_processors_sets_are_those_of_its_own_file() -> None:
    """The real file of this machine is understood, not only those kept here."""
    found = instruction_sets.cpu_flags()
    assert found is not None
    words = Path("/proc/cpuinfo").read_text().split()
    assert all(flag in words for flag in found)
    assert found == [f for f in instruction_sets.FLAGS if f in words]
