"""The pools that this coordinator's own worker serves: `lab up --serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.errors import LabError
from lab.services.processes import Service
from workpools.report import CapabilityReport
from workpools.tiers import POOLS, serves

COORDINATOR = "coordinator"  # the pool of pipelines and collections, which every coordinator serves


def check_serve(serve: Sequence[str], alive: Mapping[str, Service]) -> None:
    """Refuse a name that is no pool, and workers that serve others already.

    Args:
        serve: the pools that the user names; none for those of this machine's tier and below.
        alive: the services that run, by name.
    """
    for pool in serve:
        if pool not in POOLS:
            raise LabError(f"there is no pool {pool[:80]!r}", f"--serve takes one of: {', '.join(POOLS)}")
    wanted = {f"worker-{pool}" for pool in (*serve, COORDINATOR)}
    if serve and (others := [name for name in alive if name.startswith("worker-") and name not in wanted]):
        raise LabError(f"already running: {', '.join(others)}", "lab down first")


def pools_served(report: CapabilityReport, serve: Sequence[str]) -> tuple[str, ...]:
    """Return the tiers that this machine serves: all that it can, or those in `serve`; LabError if it cannot."""
    able = serves(report.tier)
    if beyond := [pool for pool in serve if pool not in (*able, COORDINATOR)]:
        what = f"--serve {beyond[0]}: {report.host} is {report.tier}"
        raise LabError(what, f"choose one of: {', '.join((*able, COORDINATOR))}")
    return tuple(tier for tier in able if not serve or tier in serve)
