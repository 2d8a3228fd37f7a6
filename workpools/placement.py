"""Which pool a phase goes to, and its hosts there: the cheapest tier that fits and has a worker online."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from common.errors import LabError
from workpools.assess import CapabilityReport
from workpools.hosts import UNNAMED
from workpools.needs import fetch, is_model, lacking
from workpools.tiers import NEEDS, TIERS, tiers_for


@dataclass(frozen=True)
class Placement:
    """Where a phase's shards go."""

    pool: str
    hosts: tuple[str, ...]  # names of the pool's workers that are fit, in the order given
    reason: str
    quantized: bool = False  # the pool's machines run the phase with a quantised model only
    unfit: tuple[str, ...] = ()  # the pool's other workers: they must not get the phase's shards

    @property
    def workers(self) -> int:
        return len(self.hosts)


def place(
    profile: str,
    needs: Sequence[str],
    online: Mapping[str, Sequence[str]],
    reports: Sequence[CapabilityReport] = (),
    there_is: str = "online",
    above: str | None = None,
    drained: Collection[str] = (),
) -> Placement:
    """Choose the pool for a phase.

    Args:
        profile: prerequisites, e0_e1 or e2.
        needs: engines and models that its machines must have (workpools.needs).
        online: names of the online workers of each pool.
        reports: known hosts; a worker named like one is believed to be it, one with no report is believed able.
        above: a tier whose machines turned out too small; only bigger ones are looked at.
        drained: hosts that take no more work.
        there_is: what the workers in `online` are, for the reasons: online, or registered when a plan only asks who is known.

    Raises:
        LabError: no fit worker is online; says what is needed and what there is.
    """
    known = {r.host: r for r in reports}
    lacking: list[str] = []
    for tier in tiers_for(profile):
        if above in TIERS and TIERS.index(tier) <= TIERS.index(above):
            continue
        quantized = profile == "e2" and tier == "medium"
        able: list[str] = []
        unfit: list[str] = []
        for worker in online.get(tier, ()):
            missing = ["leave to take work (drained)"] if worker in drained else []
            missing += _missing(known.get(worker), needs, quantized)
            (unfit if missing else able).append(worker)
            lacking += [f"{worker} lacks {', '.join(missing)}"] if missing else []
        if able:
            why = f"cheapest tier {there_is} that fits {profile}" if above is None else f"bigger than {above}"
            if quantized:
                strong = "no strong worker fits" if online.get("strong") else f"no strong worker is {there_is}"
                why = f"quantised, since {strong}"
            return Placement(tier, tuple(able), why, quantized, tuple(unfit))
    need = NEEDS[profile]
    there = ", ".join(f"{t} {len(online.get(t, ()))}" for t in TIERS)
    wanted = tiers_for(profile)[0]
    detail = f"; {'; '.join(sorted(set(lacking)))}" if lacking else ""
    mend = f"prefect worker start --pool {wanted}" + (", on a machine after: make setup" if lacking else "")
    if models := [n for n in needs if is_model(n) and any(n in text for text in lacking)]:
        mend = f"on one of them: {fetch(models[0])}, then lab assess"
    raise LabError(
        f"{profile} needs a {wanted} worker ({need.ram_gb:g} GB RAM available, {need.disk_gb:g} GB disk); {there_is}: {there}{detail}",
        mend,
    )


def fit_hosts(
    profile: str,
    needs: Sequence[str],
    online: Mapping[str, Sequence[str]],
    reports: Sequence[CapabilityReport] = (),
    drained: Collection[str] = (),
) -> dict[str, Placement]:
    """Every online host that fits a phase, each with its own placement: on these a replicated phase runs.

    Raises:
        LabError: there is none.
    """
    found: dict[str, Placement] = {}
    for tier in tiers_for(profile):
        for host in online.get(tier, ()):
            # A name of Prefect's own making names no machine, so nothing could be compared by it.
            if host in found or host.startswith(UNNAMED):
                continue
            try:
                found[host] = place(profile, needs, {tier: [host]}, reports, drained=drained)
            except LabError:
                continue
    if not found:
        place(profile, needs, {}, reports)
    return found


def _missing(report: CapabilityReport | None, needs: Sequence[str], quantized: bool) -> list[str]:
    """What a reported host lacks; [] for one without a report."""
    if report is None:
        return []
    missing = lacking(needs, report.engines, report.models)
    # The medium tier also takes hosts that fit e0_e1 alone.
    if quantized and not report.profiles.get("e2_quantized", True):
        need = NEEDS["e2_quantized"]
        missing.append(f"{need.ram_gb:g} GB RAM available or {need.disk_gb:g} GB disk")
    return missing
