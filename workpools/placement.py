"""Choose the pool and hosts of a phase: the cheapest tier that fits and has a worker online."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from common.environment import is_host
from common.errors import LabError
from workpools.assess import CapabilityReport
from workpools.hosts import UNNAMED
from workpools.needs import fetch, is_model, lacking
from workpools.tiers import NEEDS, TIERS, tiers_for

DRAINED = "is drained"
SMALLER = "--set e2.precision=int8"  # E2 in other numbers, which medium machines have the memory for


@dataclass(frozen=True)
class Placement:
    """The pool and hosts that get a phase's shards."""

    pool: str
    hosts: tuple[str, ...]  # names of the pool's workers that are fit, in the order given
    reason: str
    unfit: tuple[str, ...] = ()  # the pool's other workers, which must not get the phase's shards

    @property
    def workers(self) -> int:
        return len(self.hosts)


def place(
    profile: str,
    needs: Sequence[str],
    online: Mapping[str, Sequence[str]],
    reports: Sequence[CapabilityReport] = (),
    state: str = "online",
    above: str | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Placement:
    """Choose the pool for a phase.

    Args:
        profile, needs: what its machines must have (workpools.needs.demand).
        online: names of the online workers of each pool.
        reports: of known hosts, matched to workers by name; a worker without a report is taken to fit.
        state: of the workers in `online`, for messages: online, or registered where a plan takes all known hosts.
        above: a tier whose machines were too small; only higher ones are considered.
        excluded: hosts that get no work, each with the reason (out_of_use).

    Raises:
        LabError: no fit worker is online; with what is needed and which workers there are.
    """
    known = {r.host: r for r in reports}
    lacks: list[str] = []
    for tier in tiers_for(profile):
        if above in TIERS and TIERS.index(tier) <= TIERS.index(above):
            continue
        able: list[str] = []
        unfit: list[str] = []
        for worker in online.get(tier, ()):
            out = (excluded or {}).get(worker) or _nameless(worker)
            missing = _missing(known.get(worker), needs, profile)
            (unfit if out or missing else able).append(worker)
            lacks += [f"{worker} {out}"] if out else []
            lacks += [f"{worker} lacks {', '.join(missing)}"] if missing else []
        if able:
            why = f"cheapest tier {state} that fits {profile}" if above is None else f"bigger than {above}"
            return Placement(tier, tuple(able), why, tuple(unfit))
    need, other = NEEDS[profile], ""
    if profile == "e2" and online.get("medium"):
        other = f"; machines of medium run it in other numbers, by another plan: {SMALLER}"
    workers = ", ".join(f"{t} {len(online.get(t, ()))}" for t in TIERS)
    wanted = tiers_for(profile)[0]
    detail = f"; {'; '.join(sorted(set(lacks)))}" if lacks else ""
    mend = f"prefect worker start --pool {wanted}" + (", on a machine after: make setup" if lacks else "")
    drained = [host for host, why in (excluded or {}).items() if why == DRAINED and f"{host} {why}" in lacks]
    if drained:
        mend = f"lab undrain {drained[0]}"
    if models := [n for n in needs if is_model(n) and any(n in text for text in lacks)]:
        mend = f"on one of them: {fetch(models[0])}, then lab assess"
    raise LabError(
        f"{profile} needs a {wanted} worker ({need.ram_gb:g} GB RAM available, {need.disk_gb:g} GB disk); "
        f"{state}: {workers}{detail}{other}",
        mend,
    )


def fit_hosts(
    profile: str,
    needs: Sequence[str],
    online: Mapping[str, Sequence[str]],
    reports: Sequence[CapabilityReport] = (),
    excluded: Mapping[str, str] | None = None,
) -> dict[str, Placement]:
    """Return every online host that fits a phase, each with its own placement; a replicated phase runs on all of them.

    Args:
        profile, needs, online, reports, excluded: as for `place`.

    Raises:
        LabError: no host fits.
    """
    found: dict[str, Placement] = {}
    # Another name identifies no machine, so results could not be compared by it, and it has no queue.
    named: dict[str, Sequence[str]] = {tier: [name for name in online.get(tier, ()) if is_host(name)] for tier in TIERS}
    for tier in tiers_for(profile):
        for host in named[tier]:
            if host in found:
                continue
            try:
                found[host] = place(profile, needs, {tier: [host]}, reports, excluded=excluded)
            except LabError:
                continue
    if not found:
        place(profile, needs, named, reports, excluded=excluded)
    return found


def out_of_use(drained: Collection[str]) -> dict[str, str]:
    """Return drained hosts with the reason, as `place` takes them."""
    return dict.fromkeys(drained, DRAINED)


def _nameless(worker: str) -> str:
    """Return why nothing can be given to a worker of this name, "" if something can; Prefect's own names may be any host's."""
    return "" if is_host(worker) or worker.startswith(UNNAMED) else "has no host's name"


def _missing(report: CapabilityReport | None, needs: Sequence[str], profile: str) -> list[str]:
    """Return what a host with a report lacks; [] without a report."""
    if report is None:
        return []
    missing = lacking(needs, report.engines, report.models, report.versions)
    # The medium tier also takes hosts that fit e0_e1 alone.
    if not report.profiles.get(profile, True):
        need = NEEDS[profile]
        missing.append(f"{need.ram_gb:g} GB RAM available or {need.disk_gb:g} GB disk")
    return missing
