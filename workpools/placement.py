"""Which pool a phase goes to, and its hosts there: the cheapest tier that fits and has a worker online."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.errors import LabError
from workpools.assess import CapabilityReport
from workpools.tiers import NEEDS, TIERS, tiers_for


@dataclass(frozen=True)
class Placement:
    """Where a phase's shards go."""

    pool: str
    hosts: tuple[str, ...]  # names of the pool's workers that are fit, in the order given
    reason: str
    quantized: bool = False  # the pool's machines run the phase with a quantised model only

    @property
    def workers(self) -> int:
        return len(self.hosts)


def place(
    profile: str,
    needs: Sequence[str],
    online: Mapping[str, Sequence[str]],
    reports: Sequence[CapabilityReport] = (),
    there_is: str = "online",
) -> Placement:
    """Choose the pool for a phase.

    Args:
        profile: prerequisites, e0_e1 or e2.
        needs: engines that its machines must have.
        online: names of the online workers of each pool.
        reports: known hosts; a worker named like one is believed to be it, one with no report is believed able.
        there_is: what the workers in `online` are, for the reasons: online, or registered when a plan only asks who is known.

    Raises:
        LabError: no fit worker is online; says what is needed and what there is.
    """
    known = {r.host: r for r in reports}
    lacking: list[str] = []
    for tier in tiers_for(profile):
        quantized = profile == "e2" and tier == "medium"
        able = []
        for worker in online.get(tier, ()):
            if missing := _missing(known.get(worker), needs, quantized):
                lacking.append(f"{worker} lacks {', '.join(missing)}")
            else:
                able.append(worker)
        if able:
            if quantized:
                strong = "no strong worker fits" if online.get("strong") else f"no strong worker is {there_is}"
                return Placement(tier, tuple(able), f"quantised, since {strong}", True)
            return Placement(tier, tuple(able), f"cheapest tier {there_is} that fits {profile}")
    need = NEEDS[profile]
    there = ", ".join(f"{t} {len(online.get(t, ()))}" for t in TIERS)
    wanted = tiers_for(profile)[0]
    detail = f"; {'; '.join(sorted(set(lacking)))}" if lacking else ""
    raise LabError(
        f"{profile} needs a {wanted} worker ({need.ram_gb:g} GB RAM available, {need.disk_gb:g} GB disk); {there_is}: {there}{detail}",
        f"prefect worker start --pool {wanted}" + (", on a machine after: make setup" if lacking else ""),
    )


def _missing(report: CapabilityReport | None, needs: Sequence[str], quantized: bool) -> list[str]:
    """What a reported host lacks; [] for one without a report."""
    if report is None:
        return []
    missing = sorted(set(needs) - set(report.engines))
    # The medium tier also takes hosts that fit e0_e1 alone.
    if quantized and not report.profiles.get("e2_quantized", True):
        need = NEEDS["e2_quantized"]
        missing.append(f"{need.ram_gb:g} GB RAM available or {need.disk_gb:g} GB disk")
    return missing
