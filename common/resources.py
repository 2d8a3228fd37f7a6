"""Memory, cores and disk that this process may use: what the system has, less what a container or the owner keeps."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from common import cgroups
from common.errors import LabError

GB = 1e9
LENT = "LAB_RAM_GB"  # environment variable: what the owner lends, for a machine that is used for other things too
ROOT = Path("/")  # of the file system; tests have their own
UNKNOWN = f"memory: the system does not say how much there is: export {LENT}=4"
ADDRESSES_32_BIT = 2**32  # bytes
MOST_DISK_GB = 1e9  # some network file systems give numbers near 2^64 for a size that they do not know


@dataclass(frozen=True)
class Memory:
    """Memory in GB (10^9 bytes), None where the system does not say; `reason` explains that, or why less is left."""

    total_gb: float | None
    available_gb: float | None
    limit_gb: float | None
    reason: str | None = None


class _Limit(NamedTuple):
    limit: int  # bytes
    left: int
    of: str


def memory(root: Path = ROOT) -> Memory:
    """Return the memory available to this process: what the system has, or less where a container or the owner limits it.

    Raises:
        LabError: LAB_RAM_GB is not valid.
    """
    found, lent = _system_memory(root), lent_gb()
    if found.total_gb is None or found.available_gb is None:
        return found if lent is None else replace(found, available_gb=lent, limit_gb=lent)
    if lent is None or lent >= found.total_gb:
        return found
    limit_gb = min(lent, found.limit_gb or lent)
    if lent >= found.available_gb:
        return replace(found, limit_gb=limit_gb)
    reason = f"memory: {LENT} lends {lent:g} GB of {found.available_gb:.2f} available"
    return Memory(found.total_gb, lent, limit_gb, reason)


def _system_memory(root: Path) -> Memory:
    try:
        system = psutil.virtual_memory()
    except (OSError, KeyError, ValueError, RuntimeError, psutil.Error):  # /proc is hidden, or in a form of its own
        return Memory(None, None, None, UNKNOWN)
    if system.total <= 0:
        return Memory(None, None, None, UNKNOWN)
    total_gb, system_gb = round(system.total / GB, 2), round(max(0, system.available) / GB, 2)
    # A limit above the memory itself limits nothing.
    limits = [one for one in _limits(root) if one.limit < system.total]
    if not limits:
        return Memory(total_gb, system_gb, None)
    limit_gb, least = round(min(one.limit for one in limits) / GB, 2), min(limits, key=lambda one: one.left)
    left_gb = round(max(0, least.left) / GB, 2)
    if left_gb >= system_gb:
        return Memory(total_gb, system_gb, limit_gb)
    on = f"a limit of {round(least.limit / GB, 2):.2f} GB on this process ({least.of})"
    return Memory(total_gb, left_gb, limit_gb, f"memory: {on} leaves {left_gb:.2f}, the machine {system_gb:.2f}")


def _limits(root: Path) -> Iterator[_Limit]:
    for one in cgroups.memory_limits(root):
        yield _Limit(one.limit, one.left, "its container")
    used, addresses = psutil.Process().memory_info().vms, _address_space()
    if addresses is not None:
        yield _Limit(addresses, addresses - used, "ulimit -v")
    if sys.maxsize < ADDRESSES_32_BIT:
        yield _Limit(ADDRESSES_32_BIT, ADDRESSES_32_BIT - used, "this Python is of 32 bits")


def _address_space() -> int | None:
    """Return the bytes of address space that `ulimit -v` leaves, None without a limit."""
    if sys.platform == "win32":
        return None  # it has no such limit
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        return None if soft == resource.RLIM_INFINITY or soft < 0 else soft
    return None


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

    physical: int | None  # None where the system does not say
    logical: int
    usable: float
    quota: float | None  # of a container, in cores

    @property
    def reasons(self) -> list[str]:
        """Return a line if this process may not use all, and one if cores are not told from hardware threads."""
        found = []
        if self.usable < self.logical:
            how = "a quota" if self.usable == self.quota else "the affinity"
            found = [f"processor: {how} of this process allows {self.usable:g} of {self.logical} hardware threads"]
        if self.physical is None:
            found.append("processor: the system does not say how many cores its hardware threads share")
        return found

    @property
    def threads(self) -> int:
        """Threads that compute without waiting for each other: hyperthreads and what a quota stops do not count."""
        return max(1, math.floor(min(self.usable, self.physical or self.logical)))


def cores(root: Path = ROOT) -> Cores:
    """Return the cores of this machine, and how many of them affinity and a container's quota leave to this process."""
    logical = psutil.cpu_count() or os.cpu_count() or 1
    mine = logical
    if sys.platform != "win32":
        with suppress(AttributeError, OSError):  # macOS does not have it
            mine = len(os.sched_getaffinity(0))
    quota = min(cgroups.quotas(root), default=None)
    return Cores(psutil.cpu_count(logical=False), logical, min(logical, mine, quota or math.inf), quota)


def disk_free_gb(folder: Path) -> float | None:
    """Return what this user may still write to the disk of `folder`, GB; None where the file system does not say."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        return None
    return round(found.free / GB, 2) if found.total > 0 and 0 <= found.free / GB <= MOST_DISK_GB else None
