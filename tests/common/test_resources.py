"""Memory and cores that a process may use: of the system, its containers and its owner."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from common import resources
from common.errors import LabError
from common.resources import cores, disk_free_gb, memory

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
        monkeypatch.setenv(resources.LENT, text)
        found = memory(tmp_path)
        assert (found.limit_gb, found.total_gb) == (gb, system.total_gb)
        assert gb is None or (found.available_gb == gb and "LAB_RAM_GB lends 0.5 GB of " in (found.reason or ""))
    monkeypatch.setenv(resources.LENT, "0.5")
    write(tmp_path / "proc/self/cgroup", "0::/")
    group(tmp_path / "sys/fs/cgroup", 40 * MB, 30 * MB, 10 * MB)
    assert (memory(tmp_path).limit_gb, memory(tmp_path).available_gb) == (0.04, 0.02)
    for wrong in ("4 GB", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(resources.LENT, wrong)
        with pytest.raises(LabError, match="is not a number of GB above 0"):
            memory(tmp_path)


def test_a_quota_and_the_affinity_are_what_a_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with half a core was taken for a machine with all of them, and given work for as many."""
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cores(tmp_path) == (4, 8, 8, None) and cores(tmp_path).reasons == []
    write(tmp_path / "proc/self/cgroup", "0::/pod/container")
    write(tmp_path / "sys/fs/cgroup/cpu.max", "max 100000")
    write(tmp_path / "sys/fs/cgroup/pod/container/cpu.max", "150000 100000")
    write(tmp_path / "sys/fs/cgroup/pod/cpu.max", "50000 100000")
    assert cores(tmp_path) == (4, 8, 0.5, 0.5)
    assert cores(tmp_path).reasons == ["processor: a quota of this process allows 0.5 of 8 hardware threads"]
    write(tmp_path / "proc/self/cgroup", "4:cpu,cpuacct:/docker/4f1c")
    for name, value in (("cpu.cfs_quota_us", 200_000), ("cpu.cfs_period_us", 100_000)):
        write(tmp_path / "sys/fs/cgroup/cpu" / name, value)
    assert cores(tmp_path) == (4, 8, 2, 2)
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores(tmp_path) == (4, 8, 1, None)
    assert cores(tmp_path).reasons == ["processor: the affinity of this process allows 1 of 8 hardware threads"]


def test_a_group_is_found_where_it_is_mounted(tmp_path: Path) -> None:
    """Older systems mount groups in folders of their own, and a container mounts its own group as the top of all."""
    write(tmp_path / "proc/self/cgroup", "4:cpu,cpuacct:/docker/4f1c/task\n3:memory:/docker/4f1c/task\n0::/app.scope")
    mounts = (
        "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate",
        "31 25 0:27 /docker/4f1c /cgroup/my\\040memory rw,nosuid shared:9 - cgroup cgroup rw,memory",
        "32 25 0:28 /docker /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
    )
    write(tmp_path / "proc/self/mountinfo", "\n".join(mounts))
    write(tmp_path / "cgroup/my memory/task/memory.limit_in_bytes", 60 * MB)
    write(tmp_path / "cgroup/my memory/task/memory.usage_in_bytes", 30 * MB)
    write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/4f1c/cpu.cfs_quota_us", 50_000)
    write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/4f1c/cpu.cfs_period_us", 100_000)
    assert (memory(tmp_path).limit_gb, memory(tmp_path).available_gb) == (0.06, 0.03)
    assert cores(tmp_path).quota == 0.5
    group(tmp_path / "sys/fs/cgroup/unified/app.scope", 50 * MB, 40 * MB, 0)
    assert (memory(tmp_path).limit_gb, memory(tmp_path).available_gb) == (0.05, 0.01)


def test_limits_that_are_told_in_another_file_count(tmp_path: Path) -> None:
    """Beyond memory.high a process is slowed until nothing moves; version 1 tells of outer groups in memory.stat alone; and
    where what is used is not told, no more than the limit is left."""
    write(tmp_path / "proc/self/cgroup", "0::/")
    group(tmp_path / "sys/fs/cgroup", "max", 30 * MB, 0)
    write(tmp_path / "sys/fs/cgroup/memory.high", 80 * MB)
    assert (memory(tmp_path).limit_gb, memory(tmp_path).available_gb) == (0.08, 0.05)
    (tmp_path / "sys/fs/cgroup/memory.current").unlink()
    assert memory(tmp_path).available_gb == 0.08
    write(tmp_path / "proc/self/cgroup", "4:memory:/")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", 2**63 - 4096)
    write(tmp_path / "sys/fs/cgroup/memory/memory.usage_in_bytes", 30 * MB)
    write(tmp_path / "sys/fs/cgroup/memory/memory.stat", f"hierarchical_memory_limit {70 * MB}")
    assert (memory(tmp_path).limit_gb, memory(tmp_path).available_gb) == (0.07, 0.04)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits there")
def test_what_this_process_can_address_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell with ulimit -v, or a 32-bit Python on a 64-bit machine (a Raspberry Pi's default for years), cannot have all."""
    script = (
        "from common.resources import memory; m = memory(); print(m.limit_gb, m.available_gb <= m.limit_gb, m.reason)"
    )
    limited = ["sh", "-c", 'ulimit -v 1000000 && exec "$0" -c "$1"', sys.executable, script]
    printed = subprocess.run(limited, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("1.02 True memory: a limit of 1.02 GB on this process (ulimit -v) leaves ")
    system = psutil.virtual_memory()._replace(total=16 * 2**30, available=15 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: system)
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    found = memory(tmp_path)
    assert found.limit_gb == 4.29 and "(this Python is of 32 bits)" in (found.reason or "")


def test_what_the_system_does_not_say_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is hidden nothing is made up: no memory fits nothing, unless the owner says how much there is."""

    def hidden() -> None:
        raise PermissionError(13, "Permission denied", "/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 4 if logical else None)
    assert memory(tmp_path) == resources.Memory(None, None, None, resources.UNKNOWN)
    monkeypatch.setenv(resources.LENT, "4")
    assert memory(tmp_path).available_gb == 4
    assert cores(tmp_path).physical is None
    assert "the system does not say how many cores" in cores(tmp_path).reasons[-1]


@pytest.mark.parametrize(
    "usage",
    [(0, 0, 0), (2**64, 0, 2**64 - 4096), (10**12, 0, -1), OSError(38, "Function not implemented")],
    ids=["nothing", "more than any disk", "less than nothing", "no answer"],
)
def test_a_disk_that_does_not_say_what_is_free_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usage: tuple[int, int, int] | OSError
) -> None:
    """Some network file systems give numbers that no disk has; they were taken for room, or ended in a traceback."""

    def asked(folder: Path) -> object:
        if isinstance(usage, OSError):
            raise usage
        return shutil._ntuple_diskusage(*usage)  # type: ignore[attr-defined]

    assert (disk_free_gb(tmp_path) or 0) > 0
    monkeypatch.setattr(shutil, "disk_usage", asked)
    assert disk_free_gb(tmp_path) is None
