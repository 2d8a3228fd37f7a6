"""Leave a round to the machines of its tier where that pays, to those to which the user pins it, or to all that fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from common.environment import is_host
from common.errors import LabError
from common.text import duration
from workpools.placement import Placement
from workpools.report import CapabilityReport
from workpools.shards import START_S, Load, cut, taken
from workpools.tiers import TIERS

WORTH = 1.05  # speeds are measured no better than that
Pins = Mapping[str, str]  # by phase, the host or the tier that gets it


def with_roles(
    placed: Placement, costs: Sequence[float], speeds: Mapping[str, float | None], tiers: Mapping[str, str]
) -> Placement:
    """Leave a round to the machines of the lowest tier that fit it, or to all that serve the pool.

    Machines of higher tiers help when the round would otherwise last longer by more than the seconds that they compute for
    it. So a Raspberry Pi keeps what it ends in time, and nobody waits for it longer than it saves the others.

    Args:
        placed: the pool and all its fit workers.
        costs: seconds of the units on the reference machine.
        speeds: of the registered hosts, as for workpools.shards.cut.
        tiers: of the registered hosts; another one may be of any tier, so it counts as of the lowest.
    """
    known = [tiers[h] for h in placed.hosts if tiers.get(h) in TIERS]
    lowest = min(known, key=lambda tier: TIERS.index(tier), default=None)
    own = tuple(h for h in placed.hosts if tiers.get(h) not in TIERS or tiers.get(h) == lowest)
    helpers = tuple(h for h in placed.hosts if h not in own)
    if lowest is None or not helpers:
        return placed
    alone = replace(placed, hosts=own, unfit=(*placed.unfit, *helpers))
    by_own, by_all = _loads(costs, alone, speeds), _loads(costs, placed, speeds)
    longer = _ends(by_own) - _ends(by_all)
    saved = sum(by_all[h].seconds - START_S * by_all[h].shards for h in helpers if h in by_all)
    if longer > WORTH * saved:
        why = f"{lowest} machines alone would take {duration(longer)} longer and save others {duration(saved)}"
        return replace(placed, reason=f"shared by all that serve {placed.pool}, since {why}")
    why = f"others would end it {duration(longer)} sooner and work {duration(saved)} for it"
    return replace(alone, reason=f"the role of {lowest} machines, since {why}")


def _loads(costs: Sequence[float], placed: Placement, speeds: Mapping[str, float | None]) -> dict[str, Load]:
    return taken(cut(costs, placed, speeds), costs, {h: speeds.get(h) or 1.0 for h in placed.hosts})


def _ends(loads: Mapping[str, Load]) -> float:
    return max((load.seconds for load in loads.values()), default=0.0)


def parse_pins(given: Iterable[str], phases: Sequence[str]) -> dict[str, str]:
    """Return {"p1": "pi-4"} for ["p1=pi-4"]; the place is a host or a tier.

    Raises:
        LabError: no phase, no place, or a phase is pinned twice.
    """
    found: dict[str, str] = {}
    for entry in given:
        phase, _, place = entry.partition("=")
        _check(phase, place, entry, phases)
        if found.setdefault(phase, place) != place:
            raise LabError(f"--on pins {phase} twice, to {found[phase]} and {place}", "leave one of them out")
    return found


def checked_pins(pins: Pins, phases: Sequence[str]) -> dict[str, str]:
    """Return pins that do not come from a command line; LabError as of `parse_pins`."""
    for phase, place in pins.items():
        _check(phase, place, f"{phase}={place}", phases)
    return dict(pins)


def _check(phase: str, place: str, entry: str, phases: Sequence[str]) -> None:
    if phase not in phases or not is_host(place):
        mend = f"write --on p1=pi-4 or --on e1=medium, with one of: {', '.join(phases)}"
        raise LabError(f"--on {entry[:80]!r} is not PHASE=HOST or PHASE=TIER", mend)


def elsewhere(pins: Pins, phase: str, hosts: Iterable[str], reports: Iterable[CapabilityReport]) -> dict[str, str]:
    """Return the hosts that a pin keeps from a phase, with the reason, as `place` takes them."""
    place = pins.get(phase)
    if place is None:
        return {}
    tiers = {r.host: r.tier for r in reports}
    why = f"is not where --on {phase}={place} wants it"
    return {h: why for h in hosts if (tiers.get(h) if place in TIERS else h) != place}
