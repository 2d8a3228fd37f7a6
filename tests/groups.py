"""Groups of test files: which share a server, and which begin first."""

from __future__ import annotations

from pathlib import Path

# Files that are run one after the other by one process, since they share a server; all others are run each by itself.
GROUPS = {
    "one_server": "test_monitor_live test_other_origins test_gates test_cancelled test_two_hosts test_upkeep test_deaths".split()
}
# The longest first, so that in the end no process works on one of them while the others have nothing left to do.
FIRST = (
    "test_pipeline one_server test_namespaces test_lan_laboratory test_machines_demo test_hosts_command test_reproducible test_phases_run "
    "test_large_takings test_packaging"
).split()


def group_of(path: str | Path) -> str:
    """Return the group of a test file; a file of no group is one by itself."""
    stem = Path(path).stem
    return next((group for group, names in GROUPS.items() if stem in names), stem)
