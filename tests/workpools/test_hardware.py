"""What a host is made of: told from what the system's files and programs say, kept here as they say it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import psutil
import pytest

from common.errors import LabError
from workpools import hardware
from workpools.hardware import (
    amd_gpus,
    amd_of_drm,
    amd_of_rocm,
    cores,
    flags_of_cpuinfo,
    flags_of_sysctl,
    memory,
    nvidia_gpus,
)

MB = 10**6


def write(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def group(folder: Path, limit: str | int, used: int, cache: int) -> None:
    """The files of a control group of version 2."""
    write(folder / "memory.max", limit)
    write(folder / "memory.current", used)
    write(folder / "memory.stat", f"anon {used - cache}\nfile {cache}\ninactive_file {cache}\nslab 1")


def test_memory_without_a_limit_is_the_systems(tmp_path: Path) -> None:
    """On a plain machine nothing is taken off, whichever version of control groups it has, or none."""
    for said in (None, "0::/user.slice/app.scope", "4:memory:/a\n0::/"):
        if said:
            write(tmp_path / "proc/self/cgroup", said)
            group(tmp_path / "sys/fs/cgroup/user.slice/app.scope", "max", 5 * MB, 0)
            write(tmp_path / "sys/fs/cgroup/memory/a/memory.limit_in_bytes", 2**63 - 4096)
            write(tmp_path / "sys/fs/cgroup/memory/a/memory.usage_in_bytes", 5 * MB)
        found = memory(tmp_path)
        assert (found.limit_gb, found.reason) == (None, None)
        assert found.total_gb == round(psutil.virtual_memory().total / 1e9, 2)
        assert 0 < found.available_gb <= found.total_gb


def test_a_containers_limit_counts_and_its_file_cache_does_not(tmp_path: Path) -> None:
    """In a container the system tells of the whole machine: a host would be called strong and its shards be killed."""
    write(tmp_path / "proc/self/cgroup", "0::/")
    group(tmp_path / "sys/fs/cgroup", 40 * MB, 30 * MB, 10 * MB)
    found = memory(tmp_path)
    assert (found.limit_gb, found.available_gb) == (0.04, 0.02)  # 40 - (30 - 10) = 20 MB
    assert found.reason is not None
    assert "a limit of 0.04 GB on this process (its container) leaves 0.02, the machine " in found.reason
    group(tmp_path / "sys/fs/cgroup", 40 * MB, 45 * MB, 0)
    assert memory(tmp_path).available_gb == 0


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    """A group may be freer than the one around it, as a pod's container is."""
    write(tmp_path / "proc/self/cgroup", "0::/pod/container")
    group(tmp_path / "sys/fs/cgroup/pod/container", "max", 10 * MB, 0)
    group(tmp_path / "sys/fs/cgroup/pod", 80 * MB, 20 * MB, 0)
    group(tmp_path / "sys/fs/cgroup", 90 * MB, 70 * MB, 0)
    found = memory(tmp_path)
    assert (found.limit_gb, found.available_gb) == (0.08, 0.02)


def test_limits_of_version_1_and_of_a_hidden_path_are_found(tmp_path: Path) -> None:
    """An older container sees its own files at the top, under the outer system's path that is not there."""
    write(tmp_path / "proc/self/cgroup", "5:cpu,cpuacct:/docker/4f1c\n4:memory:/docker/4f1c\n0::/")
    top = tmp_path / "sys/fs/cgroup/memory"
    write(top / "memory.limit_in_bytes", 60 * MB)
    write(top / "memory.usage_in_bytes", 30 * MB)
    write(top / "memory.stat", f"inactive_file 1\ntotal_inactive_file {10 * MB}")
    found = memory(tmp_path)
    assert (found.limit_gb, found.available_gb) == (0.06, 0.04)


@pytest.mark.parametrize("said", ["", "0", "0::", "0::/../../..", "x:memory:/a\n::::", "0::/\x00"])
def test_odd_groups_limit_nothing(tmp_path: Path, said: str) -> None:
    """What cannot be read is no limit, and no reason for a traceback; no path leads out of the folder of groups."""
    write(tmp_path / "proc/self/cgroup", said)
    write(tmp_path / "memory.max", 1)
    write(tmp_path / "memory.current", 1)
    write(tmp_path / "sys/fs/cgroup/memory.max", "-5")
    assert memory(tmp_path).limit_gb is None


def test_the_owner_may_lend_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with much memory whose owner needs most of it must not be given work for all of it, nor more than it has."""
    system = memory(tmp_path)
    for text, gb in (("0.5", 0.5), ("1e6", None), ("", None)):
        monkeypatch.setenv(hardware.LENT, text)
        found = memory(tmp_path)
        assert (found.limit_gb, found.total_gb) == (gb, system.total_gb)
        assert gb is None or (found.available_gb == gb and "LAB_RAM_GB lends 0.5 GB of " in (found.reason or ""))
    monkeypatch.setenv(hardware.LENT, "0.5")
    write(tmp_path / "proc/self/cgroup", "0::/")
    group(tmp_path / "sys/fs/cgroup", 40 * MB, 30 * MB, 10 * MB)
    assert (memory(tmp_path).limit_gb, memory(tmp_path).available_gb) == (0.04, 0.02)
    for wrong in ("4 GB", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(hardware.LENT, wrong)
        with pytest.raises(LabError, match="is not a number of GB above 0"):
            memory(tmp_path)


def test_a_quota_and_the_affinity_are_what_a_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with half a core was taken for a machine with all of them, and given work for as many."""
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cores(tmp_path) == (4, 8, 8, None) and cores(tmp_path).reason is None
    write(tmp_path / "proc/self/cgroup", "0::/pod/container")
    write(tmp_path / "sys/fs/cgroup/cpu.max", "max 100000")
    write(tmp_path / "sys/fs/cgroup/pod/container/cpu.max", "150000 100000")
    write(tmp_path / "sys/fs/cgroup/pod/cpu.max", "50000 100000")
    assert cores(tmp_path) == (4, 8, 0.5, 0.5)
    assert cores(tmp_path).reason == "processor: a quota of this process allows 0.5 of 8 hardware threads"
    write(tmp_path / "proc/self/cgroup", "4:cpu,cpuacct:/docker/4f1c")
    for name, value in (("cpu.cfs_quota_us", 200_000), ("cpu.cfs_period_us", 100_000)):
        write(tmp_path / "sys/fs/cgroup/cpu" / name, value)
    assert cores(tmp_path) == (4, 8, 2, 2)
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores(tmp_path) == (4, 8, 1, None)
    assert cores(tmp_path).reason == "processor: the affinity of this process allows 1 of 8 hardware threads"


EPYC = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse sse4_2 avx f16c fma avx2 smep\nbugs\t\t: a\n"
XEON = (
    "flags\t\t: sse4_2 avx fma avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8\n\nprocessor\t: 1\nflags\t\t: fpu\n"
)
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
    assert flags_of_sysctl(M3) == ["asimd", "asimdhp", "asimddp", "i8mm", "bf16"]
    assert flags_of_sysctl(INTEL_MAC) == ["sse4_2", "avx", "fma", "avx2"]
    assert flags_of_cpuinfo("flags\t\t:\n") == []
    assert flags_of_cpuinfo("processor : 0\n") is flags_of_sysctl("") is None


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc/cpuinfo")
def test_this_processors_sets_are_those_of_its_own_file() -> None:
    """The real file of this machine is understood, not only those kept here."""
    found = hardware.cpu_flags()
    assert found is not None
    words = Path("/proc/cpuinfo").read_text().split()
    assert all(flag in words for flag in found)
    assert found == [f for f in hardware.FLAGS if f in words]


ROCM = "WARNING: AMD GPU device(s) is/are in a low-power state.\n\n" + json.dumps(
    {
        "card1": {"Card series": "Navi 21 [Radeon RX 6800]", "Card SKU": "001"},
        "card0": {"VRAM Total Memory (B)": "21458059264", "Card Series": "Radeon RX 7900 XT", "Card Model": "0x744c"},
        "card2": {"Card Series": "AMD Instinct MI250", "VRAM Total Memory (B)": "N/A"},
        "system": {"Driver version": "6.8"},
    }
)


def test_amds_cards_are_named_as_rocm_names_them() -> None:
    """A machine with an AMD card was listed as one without a GPU; releases of ROCm differ, and some say a warning first."""
    assert amd_of_rocm(ROCM) == [
        "AMD Radeon RX 7900 XT, 20464 MiB",
        "AMD Navi 21 [Radeon RX 6800]",
        "AMD Instinct MI250",
    ]
    for odd in ("", "no device", "{", '{"card0": 1}', '{"card0": {}}'[:-1], "[" * 100_000, '{"a":' * 100_000):
        assert amd_of_rocm(odd) == []


def test_without_rocm_amds_cards_are_found_on_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most machines with an AMD card have no ROCm; connectors of a card, and other makers' cards, are not listed."""
    drm = tmp_path / "sys/class/drm"
    for card, vendor, device in (
        ("card0", "0x8086", "0x9a49"),
        ("card10", "0x1002", "0x164e"),
        ("card2", "0x1002", "0x73bf"),
    ):
        write(drm / card / "device/vendor", vendor)
        write(drm / card / "device/device", device)
    write(drm / "card2/device/mem_info_vram_total", 16368 * 2**20)
    write(drm / "card2-HDMI-A-1/device/vendor", "0x1002")
    assert amd_of_drm(tmp_path) == ["AMD GPU 0x73bf, 16368 MiB", "AMD GPU 0x164e"]
    assert amd_of_drm(tmp_path / "none") == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert amd_gpus(root=tmp_path) == amd_of_drm(tmp_path)


def tool(folder: Path, name: str, script: str) -> None:
    """A program of this name on the PATH, in the place of the real one."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_programs_that_fail_or_hang_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that hangs is not the same as no card: the first is told, and neither holds up the assessment."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    tool(tmp_path, "nvidia-smi", "echo 'NVIDIA H100, 81559 MiB'; echo; echo 'NVIDIA T4, 15360 MiB'")
    assert nvidia_gpus(60) == ["NVIDIA H100, 81559 MiB", "NVIDIA T4, 15360 MiB"]
    tool(tmp_path, "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert nvidia_gpus(60) == []
    tool(tmp_path, "nvidia-smi", "exec sleep 100")
    assert nvidia_gpus(0.2) is None
    tool(tmp_path, "rocm-smi", "exec sleep 100")
    write(tmp_path / "sys/class/drm/card0/device/vendor", "0x1002")
    write(tmp_path / "sys/class/drm/card0/device/device", "0x744c")
    assert amd_gpus(0.2, tmp_path) == ["AMD GPU 0x744c"]
    (tmp_path / "nvidia-smi").write_text("no program")
    assert nvidia_gpus(60) == []


def test_apples_chips_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Apple Silicon the chip is the GPU; an Intel Mac has none that computes for us."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    tool(tmp_path, "sysctl", f"if [ $1 = -n ]; then echo 'Apple M2 Pro'; else printf '{M3}'; fi")
    assert hardware.apple_gpus() == []
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert hardware.apple_gpus(60) == ["Apple M2 Pro"]
    assert hardware.cpu_flags(60) == flags_of_sysctl(M3)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert hardware.apple_gpus(60) == []
