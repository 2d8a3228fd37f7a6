"""Limits of the control groups around this process, of version 2 and 1: memory in bytes, processor in cores.

A group may be freer than the one around it, so each one on the way up counts.
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# Where control groups are mounted unless /proc/self/mountinfo says otherwise.
MOUNTED = "/sys/fs/cgroup"


class Limit(NamedTuple):
    """Bytes that a control group allows, and bytes left of them."""

    limit: int
    left: int


class _Group(NamedTuple):
    folder: Path
    version: int


def memory_limits(root: Path) -> Iterator[Limit]:
    """Find the limits of memory. Without one, version 1 gives 2^63 less a page.

    The memory in use includes the file cache. Its inactive part is freed before anything else, so it counts as left.

    Args:
        root: of the file system.
    """
    for folder, version in _groups(root, "memory"):
        stat = system_text(folder / "memory.stat")
        if version == 2:
            # Above `high` a process is slowed down until it is of no use.
            allowed = [_number(system_text(folder / name)) for name in ("memory.max", "memory.high")]
            used, cache = _number(system_text(folder / "memory.current")), _line(stat, "inactive_file")
        else:
            # The second holds limits of groups around this one, which a container does not see.
            allowed = [_number(system_text(folder / "memory.limit_in_bytes")), _line(stat, "hierarchical_memory_limit")]
            used, cache = _number(system_text(folder / "memory.usage_in_bytes")), _line(stat, "total_inactive_file")
        known = [one for one in allowed if one is not None]
        if known:
            yield Limit(min(known), min(known) - max(0, (used or 0) - (cache or 0)))


def quotas(root: Path) -> Iterator[float]:
    """Find the quotas of the processor, in cores. https://docs.kernel.org/scheduler/sched-bwc.html"""
    for folder, version in _groups(root, "cpu"):
        if version == 2:
            quota, _, period = system_text(folder / "cpu.max").partition(" ")
        else:
            quota, period = (system_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        allowed, each = _number(quota), _number(period)
        if allowed and each:
            yield allowed / each


def _groups(root: Path, controller: str) -> Iterator[_Group]:
    """Find the groups around this process, the innermost first."""
    for line in system_text(root / "proc/self/cgroup").splitlines():
        number, controllers, inside = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            version = 2
        elif controller in controllers.split(","):
            version = 1
        else:
            continue
        top, outside = _mount(root, controller, version)
        if inside == outside or inside.startswith(f"{outside.rstrip('/')}/"):
            inside = inside[len(outside) :]
        # A group's path may be the outer system's, of which a container sees no folder: then the top is the container's.
        below = [p for p in PurePosixPath(inside.strip("/")).parts if p != ".."]
        for depth in range(len(below), -1, -1):
            yield _Group(top.joinpath(*below[:depth]), version)


def _mount(root: Path, controller: str, version: int) -> tuple[Path, str]:
    """Return the folder where a controller's groups are mounted, and which group its top is."""
    for line in system_text(root / "proc/self/mountinfo").splitlines():
        words, _, of_kind = line.partition(" - ")
        kind, _, options = of_kind.partition(" ")
        if version == 2 and kind != "cgroup2":
            continue
        if version == 1 and not (kind == "cgroup" and controller in options.rpartition(" ")[2].split(",")):
            continue
        fields = [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), word) for word in words.split(" ")]
        if len(fields) > 4:
            return root / fields[4].lstrip("/"), fields[3]
    return root / MOUNTED.lstrip("/") / (controller if version == 1 else ""), "/"


def system_text(path: Path) -> str:
    """Return the content of a small file of the system, "" where there is none or it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # a path may hold what no path can
        return ""


def _number(text: str) -> int | None:
    """Parse a whole number; None for "max", "-1" and for nothing."""
    return int(text) if re.fullmatch(r"\d{1,20}\n?", text) else None


def _line(stat: str, name: str) -> int | None:
    found = re.search(rf"^{name} (\d{{1,20}})$", stat, re.MULTILINE)
    return int(found[1]) if found else None
